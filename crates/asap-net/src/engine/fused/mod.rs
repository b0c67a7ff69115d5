//! The layers on our own CPU kernels: Burn operations with hand-written forward and backward passes.
//!
//! One operation is a whole mixed edge (or a layer outside the nodes, which is an edge of one
//! operation); for the backward pass it keeps the raw results of its convolutions. A step on
//! alpha computes no gradient of a weight, and a step on the weights with constant mixing weights none of those.

mod edge;
mod graph;
mod join;
mod kernel;
mod prepared;

use asap_core::Operation;
use asap_core::plan::{MixedEdge, Primitive, Step};
use asap_kernels::{EdgeSpec, Precision};
use burn::tensor::Tensor;

use self::edge::{Edges, Sum};
use self::graph::{flex, recycle};
use self::kernel::{KernelOp, kernel_of};
use super::composed::{add_operation, image_weights, run_steps};
use super::{Layers, Mixing, Value, counting, place};
use crate::pass::Pass;

/// The engine of the CPU.
pub(super) struct Fused(Edges);

impl Fused {
    pub(super) fn new(precision: Precision) -> Self {
        Self(Edges::new(precision))
    }
}

impl Layers for Fused {
    fn edge(
        &self,
        pass: &Pass<'_>,
        edge: &MixedEdge,
        x: &Tensor<4>,
        weights: Option<&Mixing>,
        partial: Option<Tensor<4>>,
    ) -> Option<Tensor<4>> {
        let (mut at, mut ops, mut without_kernel) = (Vec::new(), Vec::new(), Vec::new());
        for candidate in counting(edge, weights) {
            if candidate.operation == Operation::None {
                continue;
            }
            match kernel_of(&candidate.steps) {
                Some((kind, _)) => {
                    at.extend(place(edge, candidate.index));
                    ops.push(KernelOp::new(kind, &candidate.steps));
                }
                None => without_kernel.push(candidate),
            }
        }
        let mut sum = partial;
        if !ops.is_empty()
            || sum.is_none() && without_kernel.is_empty() && !edge.candidates.is_empty()
        {
            let mixing = weights.filter(|_| edge.row.is_some()).map(|mixing| (mixing.tensor(), at));
            sum = Some(self.0.mixture(pass, edge, &ops, x, mixing, sum));
        }
        if without_kernel.is_empty() {
            return sum;
        }
        let kept = image_weights(pass, edge, x);
        without_kernel.into_iter().fold(sum, |sum, candidate| {
            Some(add_operation(pass, edge, candidate, x, weights, kept.as_ref(), sum))
        })
    }

    fn chain(&self, pass: &Pass<'_>, steps: &[Step], x: Tensor<4>) -> Value {
        if let Some((kind, stride)) = kernel_of(steps).filter(|_| !steps.is_empty()) {
            let channels = [x.dims()[3], steps[steps.len() - 1].output.channels];
            let spec = EdgeSpec::layer(channels[0], channels[1], stride, kind);
            let sum = Sum { mixing: None, image_weights: None, partial: None };
            return Value::Map(self.0.run(pass, spec, &[KernelOp::new(kind, steps)], x, sum));
        }
        match steps.split_first() {
            Some((step, rest)) if step.primitive == Primitive::GlobalPool => {
                run_steps(pass, rest, Value::Flat(join::global_pool(&self.0.buffers, pass, x)))
            }
            Some((step, rest)) => {
                let map = run_steps(pass, std::slice::from_ref(step), Value::Map(x)).map();
                if rest.is_empty() { Value::Map(map) } else { self.chain(pass, rest, map) }
            }
            None => Value::Map(x),
        }
    }

    fn concat(&self, pass: &Pass<'_>, maps: Vec<Tensor<4>>) -> Tensor<4> {
        if maps.len() <= join::MAX_CONCAT {
            join::concat(&self.0.buffers, pass, maps)
        } else {
            Tensor::cat(maps, 3)
        }
    }

    fn release(&self, maps: &mut dyn Iterator<Item = Tensor<4>>) {
        maps.map(flex).for_each(|map| recycle(&self.0.buffers, map));
    }

    fn prefers_few_images(&self) -> bool {
        true
    }

    fn trim(&self) {
        self.0.buffers.trim();
    }
}

#[cfg(test)]
mod tests {
    use asap_core::Family;
    use asap_core::plan::{Body, Map, Plan};
    use burn::tensor::Device;

    use super::*;
    use crate::parameters::Parameters;
    use crate::pass::Mode;

    #[test]
    fn engines_share_no_memory_and_trim_frees_what_no_pass_used() {
        let mut plan = Plan::of_images(Family::Darts, Map { channels: 3, height: 5, width: 4 });
        plan.logits = plan.chain("layer", 0, |chain| {
            chain.relu().conv("conv", 4, [3, 3], [1, 1]).norm("bn", true)
        });
        let Body::Chain { steps, .. } = &plan.layers[plan.logits].body else { unreachable!() };
        let parameters = Parameters::new(&plan, &Device::flex(), 0);
        let run = |fused: &Fused, mode| {
            let pass = Pass::new(&parameters, mode);
            let map = fused.chain(&pass, steps, Tensor::ones([2, 5, 4, 3], &Device::flex())).map();
            if mode == Mode::Weights {
                map.clone().sum().backward();
            }
            fused.release(&mut std::iter::once(map));
        };
        let kept = |fused: &Fused| format!("{:?}", fused.0.buffers);
        for mode in [Mode::Weights, Mode::Evaluation] {
            let [one, other] = [(); 2].map(|()| Fused::new(Precision::F32));
            let nothing = kept(&one);
            run(&one, mode);
            assert_ne!(kept(&one), nothing);
            assert_eq!(kept(&other), nothing);
            one.trim();
            assert_ne!(kept(&one), nothing, "it was used since the last call");
            one.trim();
            assert_eq!(kept(&one), nothing);
        }
    }
}
