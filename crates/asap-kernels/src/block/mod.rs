//! A convolution of one image after another, a few rows at a time: gather, multiply by the weights, and the same
//! backwards. The gather is a depthwise convolution or an average; its result stays in the first-level cache and is
//! computed again in the backward pass instead of kept. A full convolution gathers nothing: it multiplies windows of
//! the image in place ([`window`](crate::window)), and its data gradient is again such a convolution, of the
//! gradient of the result. For its weight gradient in bf16, whose products take pairs, the image is once copied with its pixels
//! in pairs.

mod backward;
mod conv;
mod forward;

pub(crate) use backward::ResultGrad;
pub(crate) use conv::{Conv, Scratch, Source};
