//! A convolution of one image after another: gather the taps of a few rows, multiply by the weights, and the same
//! backwards. The gather is a depthwise convolution, or for a full convolution a copy (im2col); what it yields stays
//! in the first-level cache and is computed again in the backward pass instead of kept.

mod backward;
mod conv;
mod forward;

pub(crate) use backward::ResultGrad;
pub(crate) use conv::{Conv, Scratch, Source};
