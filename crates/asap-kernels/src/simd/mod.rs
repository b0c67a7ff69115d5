//! The vector kernels, generic over the SIMD width, and the choice of the width at run time.
//!
//! This is the only module with `unsafe` code: its inner loops, a few instructions long, read through pointers to
//! avoid bounds checks. Every kernel is a struct of slices and extents; running it first asserts that the slices hold
//! everything that the extents reach (`reach`), and the pointers never leave the asserted range. Instructions that not
//! every processor has are used only with a token that proves them (`proof`).
//!
//! Scratch images have their channels padded to whole vectors (`cp`, a multiple of [`Level::lanes`]), so that only the
//! kernels that touch the caller's tensors encounter a partial vector.
#![allow(unsafe_code)]

mod ahead;
mod arithmetic;
mod depthwise;
mod gemm;
mod level;
mod multiply;
mod pointwise;
mod pool;
mod proof;
mod reach;
mod rounding;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod tiles;
mod vector;

pub(crate) use ahead::{Ahead, prefetch};
pub(crate) use arithmetic::{Pair, Term};
pub(crate) use depthwise::{Depthwise, DepthwiseGrad};
pub(crate) use gemm::{Lines, OuterProduct, Product, Tap};
pub use level::Level;
pub(crate) use pointwise::{Accumulate, Affine, LoadRows, MaskedAdd, Moments, Sums, TERMS, Terms};
pub(crate) use pool::{PoolKind, PoolShape, pool_backward, pool_forward};
pub(crate) use rounding::{PairRows, RoundRows};
pub(crate) use vector::{Bf16, Value};
