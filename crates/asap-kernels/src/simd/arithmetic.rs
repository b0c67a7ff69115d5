//! The terms of a product and their arithmetic: `f32`, or pairs of bf16, two of which are multiplied and added per step.

use std::marker::PhantomData;

use pulp::{Simd, WithSimd};

use super::level::Level;
use super::vector::{Bf16, Lanes, load, store};
#[cfg(target_arch = "x86_64")]
use super::{level::Token, proof::Dot};

/// Two neighbouring values of a sum, rounded to bf16; the first in the lower half.
pub(crate) type Pair = u32;

/// The contents of a lane of a product.
pub(crate) trait Term: Copy {
    /// Runs a kernel on terms of this type.
    fn run<K: Kernel<Self>>(level: Level, kernel: K);

    /// Terms that are pairs.
    #[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code))]
    fn pairs(terms: &[Self]) -> Option<&[Pair]>;
}

/// A kernel that is generic over the arithmetic on its terms.
pub(crate) trait Kernel<T> {
    fn compute<A: Arithmetic<Term = T>>(self, arithmetic: A);
}

/// Vectors of `f32` accumulators.
pub(crate) trait Accumulators: Copy {
    type Acc: Copy;
    /// Accumulators of a vector.
    const LANES: usize;
    /// True if there are 32 registers.
    const MANY_REGISTERS: bool;

    fn zero(self) -> Self::Acc;
    /// # Safety
    /// [`Accumulators::LANES`] values are readable.
    unsafe fn load(self, at: *const f32) -> Self::Acc;
    /// # Safety
    /// [`Accumulators::LANES`] values are writable.
    unsafe fn store(self, at: *mut f32, sums: Self::Acc);
    /// Stores the first `count`, or all if there are fewer.
    ///
    /// # Safety
    /// They are writable.
    unsafe fn store_first(self, at: *mut f32, sums: Self::Acc, count: usize);
}

/// Vectors of terms, one per lane, and the multiply-add into the accumulators.
pub(crate) trait Arithmetic: Accumulators {
    type Term: Copy;
    type Terms: Copy;

    fn mul_add(self, a: Self::Terms, b: Self::Terms, sums: Self::Acc) -> Self::Acc;
    /// # Safety
    /// [`Accumulators::LANES`] terms are readable.
    unsafe fn terms(self, at: *const Self::Term) -> Self::Terms;
    /// # Safety
    /// The term is readable.
    unsafe fn splat(self, at: *const Self::Term) -> Self::Terms;
}

/// Pairs of bf16, made of `f32`.
pub(crate) trait Rounding: Arithmetic<Term = Pair> {
    /// The first `count` values (at most [`Accumulators::LANES`]) rounded to bf16, padded with zeros to the number of lanes.
    ///
    /// # Safety
    /// `count` values are readable, and as many numbers as there are lanes are writable.
    unsafe fn narrow(self, from: *const f32, count: usize, to: *mut Bf16);
    /// The first `count` values (at most [`Accumulators::LANES`]) of two rows, rounded and paired, followed by zeros.
    ///
    /// # Safety
    /// `count` values of both rows are readable.
    unsafe fn pair(self, rows: [*const f32; 2], count: usize) -> Self::Terms;
    /// # Safety
    /// As many terms as there are lanes are writable.
    unsafe fn store_terms(self, at: *mut Pair, terms: Self::Terms);
}

impl Term for f32 {
    #[inline]
    fn run<K: Kernel<f32>>(level: Level, kernel: K) {
        level.run(Plain(kernel));
    }

    #[inline]
    fn pairs(_: &[f32]) -> Option<&[Pair]> {
        None
    }
}

/// A kernel on `f32`.
struct Plain<K>(K);

impl<K: Kernel<f32>> WithSimd for Plain<K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.compute(Portable(simd, PhantomData::<f32>));
    }
}

/// Vectors of any instruction set, of terms `T`.
#[derive(Clone, Copy)]
struct Portable<S, T>(S, PhantomData<T>);

impl<S: Simd, T: Copy> Accumulators for Portable<S, T> {
    type Acc = S::f32s;
    const LANES: usize = {
        assert!(size_of::<S::u32s>() == size_of::<S::f32s>());
        S::F32_LANES
    };
    const MANY_REGISTERS: bool = S::REGISTER_COUNT >= 32;

    #[inline(always)]
    fn zero(self) -> S::f32s {
        self.0.splat_f32s(0.0)
    }

    #[inline(always)]
    unsafe fn load(self, at: *const f32) -> S::f32s {
        // SAFETY: the values are readable.
        unsafe { load::<S>(at) }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32, sums: S::f32s) {
        // SAFETY: the values are writable.
        unsafe { store::<S>(at, sums) }
    }

    #[inline(always)]
    unsafe fn store_first(self, at: *mut f32, sums: S::f32s, count: usize) {
        // SAFETY: the first `count` values are writable.
        unsafe { Lanes::at(self.0, 0, count).store(at, sums) }
    }
}

impl<S: Simd> Arithmetic for Portable<S, f32> {
    type Term = f32;
    type Terms = S::f32s;

    #[inline(always)]
    fn mul_add(self, a: S::f32s, b: S::f32s, sums: S::f32s) -> S::f32s {
        self.0.mul_add_e_f32s(a, b, sums)
    }

    #[inline(always)]
    unsafe fn terms(self, at: *const f32) -> S::f32s {
        // SAFETY: the terms are readable.
        unsafe { load::<S>(at) }
    }

    #[inline(always)]
    unsafe fn splat(self, at: *const f32) -> S::f32s {
        // SAFETY: the term is readable.
        self.0.splat_f32s(unsafe { *at })
    }
}

impl Term for Pair {
    #[inline]
    fn run<K: Kernel<Pair>>(level: Level, kernel: K) {
        level.round(AsRounding(kernel));
    }

    #[inline]
    fn pairs(terms: &[Pair]) -> Option<&[Pair]> {
        Some(terms)
    }
}

/// A kernel on pairs that also creates them.
pub(crate) trait RoundingKernel {
    fn compute<R: Rounding>(self, rounding: R);
}

struct AsRounding<K>(K);

impl<K: Kernel<Pair>> RoundingKernel for AsRounding<K> {
    #[inline(always)]
    fn compute<R: Rounding>(self, rounding: R) {
        self.0.compute(rounding);
    }
}

impl Level {
    /// Runs a kernel on pairs.
    pub(crate) fn round<K: RoundingKernel>(self, kernel: K) {
        match (self.token, self.dot) {
            #[cfg(target_arch = "x86_64")]
            (Token::Avx512(_), Some(dot)) => {
                dot.vectorize(
                    #[inline(always)]
                    || kernel.compute(dot::Whole(dot)),
                );
            }
            #[cfg(target_arch = "x86_64")]
            (Token::Avx2(_), Some(dot)) => {
                dot.vectorize(
                    #[inline(always)]
                    || kernel.compute(dot::Half(dot)),
                );
            }
            _ => self.run(Apart(kernel)),
        }
    }
}

/// A kernel on pairs for a processor without an instruction for them.
struct Apart<K>(K);

impl<K: RoundingKernel> WithSimd for Apart<K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.0.compute(Portable(simd, PhantomData::<Pair>));
    }
}

/// Splits pairs: a bf16 is the upper half of an `f32`.
impl<S: Simd> Arithmetic for Portable<S, Pair> {
    type Term = Pair;
    type Terms = S::u32s;

    #[inline(always)]
    fn mul_add(self, a: S::u32s, b: S::u32s, sums: S::f32s) -> S::f32s {
        let simd = self.0;
        let first = |pairs| simd.wrapping_dyn_shl_u32s(pairs, simd.splat_u32s(16));
        let second = |pairs| simd.and_u32s(pairs, simd.splat_u32s(0xffff_0000));
        let sums = simd.mul_add_e_f32s(
            simd.transmute_f32s_u32s(first(a)),
            simd.transmute_f32s_u32s(first(b)),
            sums,
        );
        simd.mul_add_e_f32s(
            simd.transmute_f32s_u32s(second(a)),
            simd.transmute_f32s_u32s(second(b)),
            sums,
        )
    }

    #[inline(always)]
    unsafe fn terms(self, at: *const Pair) -> S::u32s {
        // SAFETY: the terms are readable, and any are a vector.
        unsafe { at.cast::<S::u32s>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat(self, at: *const Pair) -> S::u32s {
        // SAFETY: the term is readable.
        self.0.splat_u32s(unsafe { *at })
    }
}

impl<S: Simd> Rounding for Portable<S, Pair> {
    #[inline(always)]
    unsafe fn narrow(self, from: *const f32, count: usize, to: *mut Bf16) {
        for lane in 0..S::F32_LANES {
            // SAFETY: the lane is writable, and readable if below `count`.
            unsafe {
                *to.add(lane) = if lane < count { rounded(*from.add(lane)) } else { Bf16(0) }
            };
        }
    }

    #[inline(always)]
    unsafe fn pair(self, rows: [*const f32; 2], count: usize) -> S::u32s {
        let mut pairs = self.0.splat_u32s(0);
        let to: *mut Pair = (&raw mut pairs).cast();
        for lane in 0..count.min(S::F32_LANES) {
            // SAFETY: the lane is one of the vector, and below `count`, so readable.
            unsafe {
                let [first, second] = rows.map(|row| Pair::from(rounded(*row.add(lane)).0));
                *to.add(lane) = first | second << 16;
            }
        }
        pairs
    }

    #[inline(always)]
    unsafe fn store_terms(self, at: *mut Pair, terms: S::u32s) {
        // SAFETY: the terms are writable.
        unsafe { at.cast::<S::u32s>().write_unaligned(terms) }
    }
}

/// To the nearest bf16, ties to even; NaN stays NaN, and numbers too small for a full mantissa become zero, as in the
/// processor's own instruction.
#[inline(always)]
fn rounded(value: f32) -> Bf16 {
    let bits = value.to_bits();
    let rounded = match bits & 0x7f80_0000 {
        0 => bits & 0x8000_0000,
        0x7f80_0000 if bits & 0x007f_ffff != 0 => bits | 0x0040_0000,
        _ => bits + 0x7fff + (bits >> 16 & 1),
    };
    Bf16((rounded >> 16) as u16)
}

/// The dot product of AVX-512 BF16.
#[cfg(target_arch = "x86_64")]
mod dot {
    use std::arch::x86_64::*;
    use std::mem::transmute;

    use super::{Accumulators, Arithmetic, Bf16, Dot, Pair, Rounding};

    /// Vectors of 512 bits, and the proof that their instructions are there. Fast only within [`Dot::vectorize`].
    #[derive(Clone, Copy)]
    pub(super) struct Whole(pub(super) Dot);

    /// The same for vectors of 256 bits.
    #[derive(Clone, Copy)]
    pub(super) struct Half(pub(super) Dot);

    macro_rules! dot {
        (
            $name:ident, $lanes:literal, $terms:ty, $sums:ty, $bf16:ty, $narrowed:ty, $words:ty,
            $zero:ident, $dot:ident, $load:ident, $load_first:ident, $store:ident,
            $store_first:ident, $load_terms:ident, $splat:ident, $store_terms:ident, $narrow:ident, $store_narrow:ident,
            $widen:ident, $shift:ident, $or:ident
        ) => {
            impl Arithmetic for $name {
                type Term = Pair;
                type Terms = $terms;

                #[inline(always)]
                fn mul_add(self, a: $terms, b: $terms, sums: $sums) -> $sums {
                    // SAFETY: self proves the instruction. The types are vectors of the same width.
                    unsafe {
                        $dot(sums, transmute::<$terms, $bf16>(b), transmute::<$terms, $bf16>(a))
                    }
                }

                #[inline(always)]
                unsafe fn terms(self, at: *const Pair) -> $terms {
                    // SAFETY: self proves the instruction, and the terms are readable.
                    unsafe { $load_terms(at.cast()) }
                }

                #[inline(always)]
                unsafe fn splat(self, at: *const Pair) -> $terms {
                    // SAFETY: self proves the instruction, and the term is readable.
                    unsafe { $splat(*at.cast()) }
                }
            }

            impl Accumulators for $name {
                type Acc = $sums;
                const LANES: usize = $lanes;
                const MANY_REGISTERS: bool = true;

                #[inline(always)]
                fn zero(self) -> $sums {
                    // SAFETY: self proves the instruction.
                    unsafe { $zero() }
                }

                #[inline(always)]
                unsafe fn load(self, at: *const f32) -> $sums {
                    // SAFETY: self proves the instruction, and the values are readable.
                    unsafe { $load(at) }
                }

                #[inline(always)]
                unsafe fn store(self, at: *mut f32, sums: $sums) {
                    // SAFETY: self proves the instruction, and the values are writable.
                    unsafe { $store(at, sums) }
                }

                #[inline(always)]
                unsafe fn store_first(self, at: *mut f32, sums: $sums, count: usize) {
                    // SAFETY: self proves the instructions, and the first `count` values are writable.
                    unsafe {
                        if count >= $lanes {
                            $store(at, sums);
                        } else {
                            $store_first(at, (1 << count) - 1, sums);
                        }
                    }
                }
            }

            impl $name {
                /// # Safety
                /// `count` values are readable.
                #[inline(always)]
                unsafe fn load_first(self, at: *const f32, count: usize) -> $sums {
                    // SAFETY: self proves the instructions, and the first `count` values are readable.
                    unsafe {
                        if count >= $lanes { $load(at) } else { $load_first((1 << count) - 1, at) }
                    }
                }
            }

            impl Rounding for $name {
                #[inline(always)]
                unsafe fn narrow(self, from: *const f32, count: usize, to: *mut Bf16) {
                    // SAFETY: self proves the instructions, `count` values are readable and all lanes writable. The
                    // types are vectors of the same width.
                    unsafe {
                        let narrow =
                            transmute::<$narrowed, $words>($narrow(self.load_first(from, count)));
                        $store_narrow(to.cast(), narrow);
                    }
                }

                #[inline(always)]
                unsafe fn pair(self, rows: [*const f32; 2], count: usize) -> $terms {
                    // SAFETY: self proves the instructions, and `count` values are readable. The types are vectors of
                    // the same width.
                    unsafe {
                        let [first, second] = rows.map(|row| {
                            let narrow = $narrow(self.load_first(row, count));
                            $widen(transmute::<$narrowed, $words>(narrow))
                        });
                        $or(first, $shift::<16>(second))
                    }
                }

                #[inline(always)]
                unsafe fn store_terms(self, at: *mut Pair, terms: $terms) {
                    // SAFETY: self proves the instruction, and the terms are writable.
                    unsafe { $store_terms(at.cast(), terms) }
                }
            }
        };
    }

    dot!(
        Whole,
        16,
        __m512i,
        __m512,
        __m512bh,
        __m256bh,
        __m256i,
        _mm512_setzero_ps,
        _mm512_dpbf16_ps,
        _mm512_loadu_ps,
        _mm512_maskz_loadu_ps,
        _mm512_storeu_ps,
        _mm512_mask_storeu_ps,
        _mm512_loadu_si512,
        _mm512_set1_epi32,
        _mm512_storeu_si512,
        _mm512_cvtneps_pbh,
        _mm256_storeu_si256,
        _mm512_cvtepu16_epi32,
        _mm512_slli_epi32,
        _mm512_or_si512
    );
    dot!(
        Half,
        8,
        __m256i,
        __m256,
        __m256bh,
        __m128bh,
        __m128i,
        _mm256_setzero_ps,
        _mm256_dpbf16_ps,
        _mm256_loadu_ps,
        _mm256_maskz_loadu_ps,
        _mm256_storeu_ps,
        _mm256_mask_storeu_ps,
        _mm256_loadu_si256,
        _mm256_set1_epi32,
        _mm256_storeu_si256,
        _mm256_cvtneps_pbh,
        _mm_storeu_si128,
        _mm256_cvtepu16_epi32,
        _mm256_slli_epi32,
        _mm256_or_si256
    );
}
