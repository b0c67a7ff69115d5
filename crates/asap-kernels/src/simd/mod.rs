//! The vector kernels, generic over the SIMD width, and the choice of the width at run time.
//!
//! This is the one module with `unsafe` code: its inner loops, a few instructions long, read through pointers to be
//! free of bounds checks. Every kernel is a struct of slices and extents; running it first asserts that the slices hold
//! all that the extents reach, and the pointers never leave what was asserted.
//!
//! Scratch images have their channels padded to whole vectors (`cp`, a multiple of [`Level::lanes`]), so that only the
//! kernels that touch the caller's tensors meet a partial vector.
#![allow(unsafe_code)]

mod arithmetic;
mod depthwise;
mod gemm;
mod pointwise;
mod pool;
mod rounding;

pub(crate) use arithmetic::Pair;
pub(crate) use depthwise::{Depthwise, DepthwiseGrad};
pub(crate) use gemm::{OuterProduct, Product};
pub(crate) use pointwise::{Accumulate, Affine, LoadRows, MaskedAdd, Moments, Sums, TERMS, Terms};
pub(crate) use pool::{PoolKind, PoolShape, pool_backward, pool_forward};
pub(crate) use rounding::{Bf16, PairRows, RoundRows};

use std::fmt;
use std::ops::Range;

use pulp::{MemMask, Scalar, Simd, WithSimd};

use arithmetic::Term;

/// A SIMD instruction set that this machine has.
#[derive(Clone, Copy)]
pub struct Level {
    token: Token,
    /// Set only where the processor has the instructions.
    bf16: bool,
}

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
        let mut tokens = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            tokens.extend(pulp::x86::V4::try_new().map(Token::Avx512));
            tokens.extend(pulp::x86::V3::try_new().map(Token::Avx2));
        }
        #[cfg(target_arch = "aarch64")]
        tokens.extend(pulp::aarch64::Neon::try_new().map(Token::Neon));
        tokens.push(Token::Scalar);
        let bf16 = arithmetic::multiplies_bf16();
        tokens.into_iter().map(|token| Self { token, bf16 }).collect()
    }

    /// Whether the processor multiplies pairs of bf16 in one step; otherwise they are taken apart, which is slower than
    /// to multiply `f32`.
    pub fn multiplies_bf16(self) -> bool {
        self.bf16 && self.lanes() > 1
    }

    /// The levels of this machine, and those of one that is alike but for bf16.
    #[cfg(test)]
    pub(crate) fn with_and_without_bf16() -> impl Iterator<Item = Self> {
        let levels = Self::available().into_iter();
        levels.flat_map(|level| [level, Self { bf16: false, ..level }])
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
        match self.token {
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

    /// Runs a product, in halves as [`Level::in_halves`] says.
    pub(crate) fn product<T: Term>(self, product: Product<'_, T>) {
        let Product { b, c, n, mut ahead, .. } = product;
        // Without rows of b there are no columns to part.
        if product.k == 0 {
            return T::run(self, Product { b, c, n, ahead, ..product });
        }
        self.in_halves(n, |level, columns| {
            // A whole vector, for masked stores are slow: columns that both compute are equal to the bit.
            let first = columns.start.min(n.saturating_sub(HALF));
            let (b, c, n) = (&b[first..], &mut c[first..], columns.end - first);
            T::run(level, Product { b, c, n, ahead: std::mem::take(&mut ahead), ..product });
        });
    }

    /// Runs an outer product, in halves.
    pub(crate) fn outer_product<T: Term>(self, product: OuterProduct<'_, T>) {
        let OuterProduct { d, w, .. } = product;
        self.in_halves(product.n, |level, columns| {
            let (d, w, n) = (&d[columns.start..], &mut w[columns.start..], columns.len());
            T::run(level, OuterProduct { d, w, n, ..product });
        });
    }

    /// Runs a depthwise convolution, in halves.
    pub(crate) fn depthwise(self, conv: Depthwise<'_>) {
        let Depthwise { weights, out, .. } = conv;
        self.in_halves(conv.channels, |level, part| {
            let (first, channels) = (conv.first + part.start, level.pad(part.len()));
            let (weights, out) = (&weights[part.start..], &mut out[part.start..]);
            level.run(Depthwise { first, channels, weights, out, ..conv });
        });
    }

    /// Runs the gradient of depthwise weights, in halves.
    pub(crate) fn depthwise_grad(self, conv: DepthwiseGrad<'_>) {
        let DepthwiseGrad { grad, .. } = conv;
        self.in_halves(conv.channels, |level, part| {
            let (first, d_first) = (conv.first + part.start, conv.d_first + part.start);
            let (channels, grad) = (level.pad(part.len()), &mut grad[part.start..]);
            level.run(DepthwiseGrad { first, d_first, channels, grad, ..conv });
        });
    }

    /// Runs columns (or channels); the last, if they fill half a vector or less, with one of half the width.
    fn in_halves(self, columns: usize, mut run: impl FnMut(Self, Range<usize>)) {
        #[cfg(target_arch = "x86_64")]
        if let (Token::Avx512(token), Some(tail)) = (self.token, half_tail(columns)) {
            run(self, 0..columns - tail);
            let half = Self { token: Token::Avx2(*token), ..self };
            return run(half, columns - tail..columns);
        }
        run(self, 0..columns);
    }

    /// Runs a kernel with this instruction set.
    #[inline]
    pub(crate) fn run<K: WithSimd>(self, kernel: K) -> K::Output {
        match self.token {
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
        f.write_str(match self.token {
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
pub(crate) struct Lanes<S: Simd> {
    simd: S,
    /// First channel.
    first: usize,
    /// Number of channels from there on.
    left: usize,
    /// `None` for a full vector.
    mask: Option<MemMask<S::m32s>>,
}

impl<S: Simd> Lanes<S> {
    /// The vector from channel `first` on, of `channels`.
    #[inline(always)]
    fn at(simd: S, first: usize, channels: usize) -> Self {
        let left = channels - first;
        if left >= S::F32_LANES {
            return Self { simd, first, left, mask: None };
        }
        // MemMask::new: a plain masked move; the mask of mask_between_m32s itself goes through a function pointer.
        let mask = MemMask::new(simd.mask_between_m32s(0, left as u32).mask());
        Self { simd, first, left, mask: Some(mask) }
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

/// What a pass over pixels reads.
pub(crate) trait Value: Copy {
    /// The enabled lanes as `f32`, zero beyond them.
    ///
    /// # Safety
    /// They are readable, and `S` is one that [`Level::run`] passes to kernels.
    unsafe fn load<S: Simd>(lanes: Lanes<S>, at: *const Self) -> S::f32s;
}

impl Value for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(lanes: Lanes<S>, at: *const Self) -> S::f32s {
        unsafe { lanes.load(at) }
    }
}

/// Asks for values to be brought to the cache while something else is computed.
pub(crate) fn prefetch(values: &[f32]) {
    for line in values.chunks(LINE) {
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
    /// Steps for each part of the computation.
    share: usize,
}

impl<'a> Ahead<'a> {
    pub(crate) fn new(parts: [&'a [f32]; 4]) -> Self {
        Self { later: parts, ..Self::default() }
    }

    /// Steps until nothing is left.
    fn left(&self) -> usize {
        let later = self.later.iter().skip(self.next).map(|part| part.len().div_ceil(LINE) + 1);
        self.part.len().div_ceil(LINE) + later.sum::<usize>()
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
