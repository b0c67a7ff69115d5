//! Plain networks as plans, and the residual blocks that they share with the networks of NAS-Bench-201.

use super::chain::Chain;
use super::design::{Convolution, Form, PlainNetwork, Stages};
use super::{Body, LayerId, Plan};

/// A stem and the blocks of a network after the images; returns the output of each block.
pub(super) fn blocks(plan: &mut Plan, network: PlainNetwork, channels: usize) -> Vec<LayerId> {
    let stem = plan
        .chain("stem", 0, |chain| chain.conv("conv", channels, [3, 3], [1; 2]).norm("bn", true));
    match network.form() {
        Form::Stages(stages) => of_stages(plan, stages, stem, channels),
        Form::Nine => of_nine(plan, stem, channels),
    }
}

/// Convolutions that double the channels before a pool halves the size; a residual block after the first and the last.
fn of_nine(plan: &mut Plan, stem: LayerId, channels: usize) -> Vec<LayerId> {
    let (mut last, mut channels) = (stem, channels);
    let mut outputs = Vec::new();
    for number in 0..3 {
        channels = channels.saturating_mul(2);
        let path = format!("blocks.{number}");
        let wide = plan.chain(&format!("{path}.widening"), last, |chain| {
            chain.relu().conv("conv", channels, [3, 3], [1; 2]).norm("bn", true)
        });
        last = plan.chain(&format!("{path}.pool"), wide, |chain| chain.max_pool(2));
        if number != 1 {
            let path = format!("{path}.residual");
            last = residual_block(plan, &path, last, channels, Convolution::Full, false);
        }
        outputs.push(last);
    }
    outputs
}

/// Three stages of residual blocks.
fn of_stages(plan: &mut Plan, stages: Stages, stem: LayerId, channels: usize) -> Vec<LayerId> {
    let Stages { convolution, blocks } = stages;
    let mut last = stem;
    let mut channels = channels;
    let mut outputs = Vec::new();
    for number in 0..3 * blocks {
        let shrinks = number > 0 && number.is_multiple_of(blocks);
        if shrinks {
            channels = channels.saturating_mul(2);
        }
        let path = format!("blocks.{number}");
        last = residual_block(plan, &path, last, channels, convolution, shrinks);
        outputs.push(last);
    }
    outputs
}

/// Two times (ReLU, convolution, BN) plus a shortcut: the identity, or if the block `shrinks` the map, of which the first
/// convolution then has stride 2, `(average pool 2x2, conv 1x1)`.
pub(super) fn residual_block(
    plan: &mut Plan,
    path: &str,
    input: LayerId,
    channels: usize,
    convolution: Convolution,
    shrinks: bool,
) -> LayerId {
    let stride = if shrinks { 2 } else { 1 };
    let last = match convolution {
        Convolution::Full => {
            let mut conv = |name: &str, input, stride| {
                plan.chain(&format!("{path}.{name}"), input, |chain| {
                    chain.relu().conv("conv", channels, [3, 3], [stride; 2]).norm("bn", true)
                })
            };
            let first = conv("conv_a", input, stride);
            conv("conv_b", first, 1)
        }
        Convolution::Separable => {
            let before = plan.layers[input].output.channels;
            plan.chain(&format!("{path}.sep_conv"), input, |chain| {
                let chain = chain.under("halves.0", |chain| separable(chain, stride, before));
                chain.under("halves.1", |chain| separable(chain, 1, channels))
            })
        }
    };
    let shortcut = match shrinks {
        true => plan.chain(&format!("{path}.shortcut"), input, |chain| {
            chain.avg_pool_2x2().pointwise("conv", channels)
        }),
        false => input,
    };
    let output = plan.layers[last].output;
    plan.layer(path.to_owned(), output, Body::Sum { inputs: vec![shortcut, last] })
}

/// ReLU, depthwise 3x3 convolution, 1x1 convolution, batch norm.
fn separable(chain: Chain<'_>, stride: usize, channels: usize) -> Chain<'_> {
    let chain = chain.relu().depthwise("depthwise", 3, stride, 1);
    chain.pointwise("pointwise", channels).norm("bn", true)
}
