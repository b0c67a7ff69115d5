//! The vector kernels, generic over the SIMD width, and the choice of the width at run time.
//!
//! This is the one module with `unsafe` code: its inner loops, a few instructions long, read through pointers to be
//! free of bounds checks. Every kernel is a struct of slices and extents; running it first asserts that the slices hold
//! all that the extents reach, and the pointers never leave what was asserted.
//!
//! Scratch images have their channels padded to whole vectors (`cp`, a multiple of [`Level::lanes`]), so that only the
//! kernels that touch the caller's tensors meet a partial vector.
#![allow(unsafe_code)]

mod depthwise;
mod gemm;
mod pointwise;
mod pool;

pub(crate) use depthwise::{Depthwise, DepthwiseGrad};
pub(crate) use gemm::{OuterProduct, Product};
pub(crate) use pointwise::{Accumulate, Affine, LoadRows, MaskedAdd, Moments, Sums, TERMS};
pub(crate) use pool::{PoolKind, PoolShape, pool_backward, pool_forward};

use std::fmt;

use pulp::{MemMask, Scalar, Simd, WithSimd};

/// A SIMD instruction set that this machine has.
#[derive(Clone, Copy)]
pub struct Level(Token);

/// Proof that the instruction set is there.
#[derive(Clone, Copy)]
enum Token {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl Level {
    /// Every level of this machine, widest first; the last is scalar code, which is always there.
    pub fn available() -> Vec<Self> {
        let mut levels = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(pulp::x86::V4::try_new().map(|t| Self(Token::Avx512(t))));
            levels.extend(pulp::x86::V3::try_new().map(|t| Self(Token::Avx2(t))));
        }
        #[cfg(target_arch = "aarch64")]
        levels.extend(pulp::aarch64::Neon::try_new().map(|t| Self(Token::Neon(t))));
        levels.push(Self(Token::Scalar));
        levels
    }

    /// The level that wastes least on images of `channels` channels: the widest, unless half its width fits much
    /// better.
    pub fn best(channels: usize) -> Self {
        let padded = |level: &Self| channels.next_multiple_of(level.lanes());
        let levels = Self::available();
        let (widest, narrower) = (levels[0], levels[1.min(levels.len() - 1)]);
        if narrower.lanes() > 1 && padded(&widest) > padded(&narrower) * 3 / 2 {
            narrower
        } else {
            widest
        }
    }

    /// Number of `f32` in a vector.
    pub fn lanes(self) -> usize {
        match self.0 {
            Token::Scalar => 1,
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => 8,
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => 16,
            #[cfg(target_arch = "aarch64")]
            Token::Neon(_) => 4,
        }
    }

    /// `channels` rounded up to whole vectors.
    pub(crate) fn pad(self, channels: usize) -> usize {
        channels.next_multiple_of(self.lanes())
    }

    /// After how many values the channels of dense pixels and the lanes of vectors begin together again. Coefficients
    /// per channel are repeated up to there, so that a pass may take several pixels as one.
    pub(crate) fn period(self, channels: usize) -> usize {
        channels * (self.lanes() / common(channels, self.lanes()))
    }

    /// A value per channel, repeated up to the period.
    pub(crate) fn repeat(self, values: &[f32]) -> Vec<f32> {
        values.iter().copied().cycle().take(self.period(values.len())).collect()
    }

    /// How many pixels make a wide one that fills vectors best, among the divisors of `pixels`.
    pub(crate) fn group(self, channels: usize, pixels: usize) -> usize {
        group(self.lanes(), channels, pixels)
    }

    /// Runs a product. Its last columns, if they fill half a vector or less, go into one of half the width.
    pub(crate) fn product(self, product: Product<'_>) {
        #[cfg(target_arch = "x86_64")]
        if let (Token::Avx512(token), Some(tail), 1..) = (self.0, half_tail(product.n), product.k) {
            let Product { a, lda, b, ldb, c, ldc, line, rows, k, n, ahead } = product;
            let whole = n - tail;
            self.run(Product { a, lda, b, ldb, c: &mut *c, ldc, line, rows, k, n: whole, ahead });
            // A whole vector, for masked stores are slow: columns that both compute are equal to the bit.
            let (b, c, n, ahead) = (&b[n - HALF..], &mut c[n - HALF..], HALF, Ahead::default());
            let half = Product { a, lda, b, ldb, c, ldc, line, rows, k, n, ahead };
            Self(Token::Avx2(*token)).run(half);
            return;
        }
        self.run(product);
    }

    /// Runs an outer product, its last columns as in [`Level::product`].
    pub(crate) fn outer_product(self, product: OuterProduct<'_>) {
        #[cfg(target_arch = "x86_64")]
        if let (Token::Avx512(token), Some(tail)) = (self.0, half_tail(product.n)) {
            let OuterProduct { a, lda, d, ldd, w, ldw, add, rows, k, n } = product;
            let first = n - tail;
            self.run(OuterProduct { a, lda, d, ldd, w: &mut *w, ldw, add, rows, k, n: first });
            let (d, w, n) = (&d[first..], &mut w[first..], tail);
            Self(Token::Avx2(*token)).run(OuterProduct { a, lda, d, ldd, w, ldw, add, rows, k, n });
            return;
        }
        self.run(product);
    }

    /// Runs a depthwise convolution, its last channels as in [`Level::product`].
    pub(crate) fn depthwise(self, conv: Depthwise<'_>) {
        let c = conv.channels;
        #[cfg(target_arch = "x86_64")]
        if let (Token::Avx512(token), Some(tail)) = (self.0, half_tail(c)) {
            let whole = c - tail;
            let Depthwise { first, out, weights, .. } = conv;
            self.run(Depthwise { channels: whole, out: &mut *out, ..conv });
            let (first, channels) = (first + whole, HALF);
            let (out, weights) = (&mut out[whole..], &weights[whole..]);
            Self(Token::Avx2(*token)).run(Depthwise { first, channels, out, weights, ..conv });
            return;
        }
        self.run(Depthwise { channels: self.pad(c), ..conv });
    }

    /// Runs the gradient of depthwise weights, its last channels as in [`Level::product`].
    pub(crate) fn depthwise_grad(self, grad: DepthwiseGrad<'_>) {
        let c = grad.channels;
        #[cfg(target_arch = "x86_64")]
        if let (Token::Avx512(token), Some(tail)) = (self.0, half_tail(c)) {
            let whole = c - tail;
            let DepthwiseGrad { first, d_first, grad: w, .. } = grad;
            self.run(DepthwiseGrad { channels: whole, grad: &mut *w, ..grad });
            let (first, d_first, channels) = (first + whole, d_first + whole, HALF);
            let w = &mut w[whole..];
            let half = DepthwiseGrad { first, d_first, channels, grad: w, ..grad };
            Self(Token::Avx2(*token)).run(half);
            return;
        }
        self.run(DepthwiseGrad { channels: self.pad(c), ..grad });
    }

    /// Runs a kernel with this instruction set.
    #[inline]
    pub(crate) fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        match self.0 {
            Token::Scalar => Scalar.vectorize(kernel),
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(token) => Simd::vectorize(token, kernel),
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(token) => Simd::vectorize(token, kernel),
            #[cfg(target_arch = "aarch64")]
            Token::Neon(token) => Simd::vectorize(token, kernel),
        }
    }
}

/// Lanes of half an AVX-512 vector.
#[cfg(target_arch = "x86_64")]
const HALF: usize = 8;

/// The columns beyond the last whole AVX-512 vector, if there is one and they fit half a vector.
#[cfg(target_arch = "x86_64")]
fn half_tail(columns: usize) -> Option<usize> {
    let tail = columns % (2 * HALF);
    (columns > 2 * HALF && (1..=HALF).contains(&tail)).then_some(tail)
}

/// The greatest common divisor of a number above zero and a power of two.
fn common(number: usize, power: usize) -> usize {
    1 << (number | power).trailing_zeros()
}

/// See [`Level::group`].
fn group(lanes: usize, channels: usize, pixels: usize) -> usize {
    common(pixels, lanes / common(channels, lanes))
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Token::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Token::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Token::Avx512(_) => "avx512",
            #[cfg(target_arch = "aarch64")]
            Token::Neon(_) => "neon",
        })
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A vector of the channels from `first` on: all lanes, or those below the number of channels.
#[derive(Clone, Copy)]
struct Lanes<S: Simd> {
    simd: S,
    /// First channel.
    first: usize,
    /// `None` for a full vector.
    mask: Option<MemMask<S::m32s>>,
}

impl<S: Simd> Lanes<S> {
    /// The vector from channel `first` on, of `channels`.
    #[inline(always)]
    fn at(simd: S, first: usize, channels: usize) -> Self {
        let left = channels - first;
        if left >= S::F32_LANES {
            return Self { simd, first, mask: None };
        }
        // MemMask::new: a plain masked move; the mask of mask_between_m32s itself goes through a function pointer.
        let mask = MemMask::new(simd.mask_between_m32s(0, left as u32).mask());
        Self { simd, first, mask: Some(mask) }
    }

    /// Loads from `at`, zero beyond the last channel.
    ///
    /// # Safety
    /// The enabled lanes are readable.
    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> S::f32s {
        match self.mask {
            None => unsafe { load::<S>(at) },
            Some(mask) => unsafe { self.simd.mask_load_ptr_f32s(mask, at) },
        }
    }

    /// Stores the enabled lanes.
    ///
    /// # Safety
    /// The enabled lanes are writable.
    #[inline(always)]
    unsafe fn store(self, at: *mut f32, value: S::f32s) {
        match self.mask {
            None => unsafe { store::<S>(at, value) },
            Some(mask) => unsafe { self.simd.mask_store_ptr_f32s(mask, at, value) },
        }
    }
}

/// Asks for chunk `index` of chunks of `len` values, as far as it exists, to be brought to the cache while something else
/// is computed.
pub(crate) fn prefetch_chunk(values: &[f32], index: usize, len: usize) {
    let chunk = values.get(index * len..((index + 1) * len).min(values.len())).unwrap_or_default();
    for line in chunk.chunks(LINE) {
        prefetch_line(line.as_ptr());
    }
}

/// Asks for the line of memory at `at`, which need not exist.
#[inline(always)]
fn prefetch_line(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and a prefetch changes nothing that a program can see, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// `f32` in a line of the cache.
const LINE: usize = 16;

/// What is read soon. A computation asks for its lines between its own steps: all at once they would fill the queue of
/// misses, and the processor would wait for it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ahead<'a> {
    /// What is left of the part whose turn it is.
    part: &'a [f32],
    later: [&'a [f32]; 4],
    next: usize,
}

impl<'a> Ahead<'a> {
    pub(crate) fn new(parts: [&'a [f32]; 4]) -> Self {
        Self { part: &[], later: parts, next: 0 }
    }

    /// How many of the steps that are left fall to each of `parts` parts of a computation.
    fn share(&self, parts: usize) -> usize {
        let later = self.later.iter().skip(self.next);
        let steps = self.part.len().div_ceil(LINE)
            + later.map(|part| part.len().div_ceil(LINE) + 1).sum::<usize>();
        steps.div_ceil(parts.max(1))
    }

    /// Asks for the next line, or turns to the next part.
    #[inline(always)]
    fn step(&mut self) {
        if !self.part.is_empty() {
            prefetch_line(self.part.as_ptr());
            self.part = self.part.get(LINE..).unwrap_or_default();
        } else if let Some(part) = self.later.get(self.next) {
            self.part = part;
            self.next += 1;
        }
    }
}

/// # Safety
/// `S::F32_LANES` values are readable.
#[inline(always)]
unsafe fn load<S: Simd>(at: *const f32) -> S::f32s {
    unsafe { at.cast::<S::f32s>().read_unaligned() }
}

/// # Safety
/// `S::F32_LANES` values are writable.
#[inline(always)]
unsafe fn store<S: Simd>(at: *mut f32, value: S::f32s) {
    unsafe { at.cast::<S::f32s>().write_unaligned(value) }
}
