//! Fused CPU operations of the search and evaluation networks: slices in, slices out, no framework.
//!
//! The one building block is an [`Edge`]: the weighted sum of the live operations of an edge, each ending in batch
//! norm, added to the current value of its node: `out (+)= sum_o w_o * o(x)`. With a single operation of weight 1 the
//! same code is a preprocess, a factorized reduce or a stem. It is accompanied by [`join`] (concatenation of the nodes,
//! global average pool), [`Buffers`] (memory that is kept between steps) and [`mod@reference`] (naive loops that define
//! every operation).
//!
//! - Tensors are `f32`, channels last: `[n, h, w, c]`. Weights come in PyTorch's layout and are repacked internally.
//! - Images are spread over the current rayon pool. Sums are reduced in an order that does not depend on the number
//!   of threads, so results are bit-identical for one thread and many.
//! - Kernels are generic over the SIMD width and chosen at run time: AVX-512, AVX2 with FMA, NEON, or plain scalar
//!   code ([`Level`]).
//!
//! ```
//! use asap_kernels::{Buffers, Edge, EdgeSpec, Images, Mixing, Needs, OpKind, OpParams, Target};
//!
//! # fn main() -> Result<(), asap_kernels::KernelError> {
//! let spec = EdgeSpec::mixed(16, 1, vec![OpKind::MaxPool3x3, OpKind::DilConv3x3]);
//! let edge = Edge::new(spec, &Buffers::new())?;
//! let (x, dw, pw) = (vec![0.5; 2 * 8 * 8 * 16], vec![0.1; 16 * 9], vec![0.1; 16 * 16]);
//! let images = Images::new(&x, 2, 8, 8, 16);
//! let params = [OpParams::default(), OpParams { convs: vec![&dw, &pw], affine: vec![] }];
//! let mixing = Mixing { weights: &[0.4, 0.6], image_weights: None };
//! let mut out = vec![0.0; 2 * 8 * 8 * 16];
//! let saved = edge.forward(images, &params, mixing, Target::Write(&mut out))?;
//! let mut dx = vec![0.0; x.len()];
//! let needs = Needs { weights: true, mixing: true };
//! let grads = saved.backward(images, mixing, &out, needs, Some(Target::Write(&mut dx)))?;
//! assert_eq!(grads.mixing.len(), 2);
//! # Ok(())
//! # }
//! ```

mod block;
mod buffers;
mod edge;
mod error;
mod gather;
mod matrix;
mod norm;
mod padded;
mod simd;
mod spec;
mod stored;
mod window;

pub mod join;
pub mod reference;

pub use buffers::Buffers;
pub use edge::{
    Edge, Grads, Images, Mixing, Needs, OpGrads, OpParams, Prepared, Running, Saved, Target,
};
pub use error::{KernelError, Result};
pub use norm::{Stats, WholeBatch};
pub use simd::Level;
pub use spec::{EdgeSpec, OpKind, Precision};
