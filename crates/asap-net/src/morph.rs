//! Operations that take the place of others in a search network, with what fits of the weights of their relatives (PR-DARTS).

use asap_core::Replacement;
use asap_core::plan::Body;

use crate::error::Error;
use crate::network::Network;
use crate::parameters::{NamedValues, Parameters};

/// Gives a network the values that its tensors had `before`, by name, and new operations those of their parents, as far as these have them:
/// kernels of another size in the middle of zeros, or without their border. Whatever else is new keeps its fresh values, and no momentum is
/// left.
///
/// # Errors
/// Those of [`Parameters::load_named`], which never come up for the tensors of the network itself.
pub fn inherit(
    network: &Network,
    parameters: &mut Parameters,
    before: &NamedValues,
    replacements: &[Replacement],
) -> Result<(), Error> {
    let heirs = heirs(network, replacements);
    let mut values = parameters.values();
    for (name, (shape, value)) in &mut values {
        let heir =
            heirs.iter().find_map(|(child, parent)| Some((name.strip_prefix(child)?, parent)));
        let source = match heir {
            Some((part, parent)) => before.get(&format!("{parent}{part}")),
            None => before.get(name),
        };
        if let Some(fitted) = source.and_then(|(from, source)| fitted(source, from, shape)) {
            *value = fitted;
        }
    }
    parameters.load_named(&values)
}

/// The beginnings of the names of each new operation's tensors, and of its parent's.
fn heirs(network: &Network, replacements: &[Replacement]) -> Vec<(String, String)> {
    let mut heirs = Vec::new();
    for layer in &network.plan().layers {
        let Body::Node(node) = &layer.body else { continue };
        for edge in &node.edges {
            let own = replacements
                .iter()
                .filter(|one| one.kind == node.kind && Some(one.edge.index) == edge.row);
            for one in own {
                let name = |operation| {
                    let candidate = edge.candidates.iter().find(|c| c.operation == operation);
                    candidate.map(|candidate| format!("{}.", candidate.name))
                };
                heirs.extend(name(one.operation).zip(name(one.parent)));
            }
        }
    }
    heirs
}

/// Values of one shape in another that differs in the size of kernels only, `[out, in, height, width]`.
fn fitted(values: &[f32], from: &[usize], to: &[usize]) -> Option<Vec<f32>> {
    if from == to {
        return Some(values.to_vec());
    }
    let (&[out, inputs, h, w], &[to_out, to_inputs, to_h, to_w]) = (from, to) else { return None };
    if (out, inputs) != (to_out, to_inputs) {
        return None;
    }
    let mut fitted = vec![0.0; to.iter().product()];
    let kernels = fitted.chunks_exact_mut(to_h * to_w).zip(values.chunks_exact(h * w));
    for (to, from) in kernels {
        for y in 0..to_h {
            for x in 0..to_w {
                // The middles coincide.
                let [y_from, x_from] = [(y + h / 2, to_h / 2), (x + w / 2, to_w / 2)]
                    .map(|(shifted, middle)| shifted.checked_sub(middle));
                if let (Some(y_from), Some(x_from)) = (y_from, x_from)
                    && y_from < h
                    && x_from < w
                {
                    to[y * to_w + x] = from[y_from * w + x_from];
                }
            }
        }
    }
    Some(fitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_padded_with_zeros_or_cropped_to_their_middle() {
        let three: Vec<f32> = (1..=9).map(|v| v as f32).collect();
        let five = fitted(&three, &[1, 1, 3, 3], &[1, 1, 5, 5]).unwrap();
        let row = |y: usize| &five[5 * y..5 * y + 5];
        assert_eq!([row(0), row(4)], [[0.0; 5]; 2]);
        assert_eq!(row(2), [0.0, 4.0, 5.0, 6.0, 0.0]);
        assert_eq!(fitted(&five, &[1, 1, 5, 5], &[1, 1, 3, 3]).unwrap(), three);
        assert_eq!(fitted(&[7.0], &[1, 1, 1, 1], &[1, 1, 3, 3]).unwrap()[4], 7.0);
        assert_eq!(fitted(&[1.0, 2.0], &[2], &[2]).unwrap(), [1.0, 2.0]);
        assert_eq!(fitted(&[1.0, 2.0], &[2], &[3]), None);
        assert_eq!(fitted(&three, &[1, 1, 3, 3], &[2, 1, 5, 5]), None);
    }
}
