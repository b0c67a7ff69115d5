//! Vectors of values: loads and stores, whole or in part, of `f32` and of numbers rounded to bf16.

use pulp::bytemuck::{Pod, Zeroable};
use pulp::{MemMask, Simd};

#[cfg(target_arch = "x86_64")]
use super::proof::token;

/// A vector of the channels from `first` on: all lanes, or those below the number of channels.
#[derive(Clone, Copy)]
pub(crate) struct Lanes<S: Simd> {
    pub(super) simd: S,
    /// First channel.
    pub(super) first: usize,
    /// Number of channels from there on.
    left: usize,
    /// `None` for a full vector.
    mask: Option<MemMask<S::m32s>>,
}

impl<S: Simd> Lanes<S> {
    /// The vector from channel `first` on, of `channels`.
    #[inline(always)]
    pub(super) fn at(simd: S, first: usize, channels: usize) -> Self {
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
    pub(super) unsafe fn load(self, at: *const f32) -> S::f32s {
        match self.mask {
            // SAFETY: without a mask all lanes are enabled.
            None => unsafe { load::<S>(at) },
            // SAFETY: the mask has the enabled lanes.
            Some(mask) => unsafe { self.simd.mask_load_ptr_f32s(mask, at) },
        }
    }

    /// Stores the enabled lanes.
    ///
    /// # Safety
    /// The enabled lanes are writable.
    #[inline(always)]
    pub(super) unsafe fn store(self, at: *mut f32, value: S::f32s) {
        match self.mask {
            // SAFETY: without a mask all lanes are enabled.
            None => unsafe { store::<S>(at, value) },
            // SAFETY: the mask has the enabled lanes.
            Some(mask) => unsafe { self.simd.mask_store_ptr_f32s(mask, at, value) },
        }
    }
}

/// The type of values that a pass over pixels reads.
pub(crate) trait Value: Copy {
    /// The enabled lanes as `f32`, zero beyond them.
    ///
    /// # Safety
    /// They are readable.
    unsafe fn load<S: Simd>(lanes: Lanes<S>, at: *const Self) -> S::f32s;
}

impl Value for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(lanes: Lanes<S>, at: *const Self) -> S::f32s {
        // SAFETY: the enabled lanes are readable.
        unsafe { lanes.load(at) }
    }
}

/// A number rounded to bf16: the upper half of an `f32`.
#[derive(Clone, Copy, Debug)]
#[repr(transparent)]
pub(crate) struct Bf16(pub(crate) u16);

// SAFETY: two bytes without padding, of which any are a value.
unsafe impl Zeroable for Bf16 {}
// SAFETY: as above.
unsafe impl Pod for Bf16 {}

impl Value for Bf16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(lanes: Lanes<S>, at: *const Self) -> S::f32s {
        let Lanes { simd, left, .. } = lanes;
        #[cfg(target_arch = "x86_64")]
        {
            use pulp::x86::{V3, V4};
            use std::mem::transmute_copy;
            if let Some(V4 { avx512f, avx512bw, .. }) = token(simd) {
                let mask = if left >= 16 { u16::MAX } else { (1 << left) - 1 };
                // SAFETY: the lanes of the mask are readable. S is V4, whose vectors have 512 bits.
                return unsafe {
                    let narrow = avx512bw._mm256_maskz_loadu_epi16(mask, at.cast());
                    let wide = avx512f._mm512_cvtepu16_epi32(narrow);
                    transmute_copy(&avx512f._mm512_slli_epi32::<16>(wide))
                };
            }
            if let Some(V3 { sse2, avx2, .. }) = token(simd)
                && left >= 8
            {
                // SAFETY: all 8 lanes are readable. S is V3, whose vectors have 256 bits.
                return unsafe {
                    let wide = avx2._mm256_cvtepu16_epi32(sse2._mm_loadu_si128(at.cast()));
                    transmute_copy(&avx2._mm256_slli_epi32::<16>(wide))
                };
            }
        }
        let mut values = simd.splat_f32s(0.0);
        let to: *mut f32 = (&raw mut values).cast();
        for lane in 0..left.min(S::F32_LANES) {
            // SAFETY: the lane is one of the vector, and one of those that are readable.
            unsafe { *to.add(lane) = f32::from_bits(u32::from((*at.add(lane)).0) << 16) };
        }
        values
    }
}

/// # Safety
/// `S::F32_LANES` values are readable.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(at: *const f32) -> S::f32s {
    // SAFETY: the values are readable, and any are a vector.
    unsafe { at.cast::<S::f32s>().read_unaligned() }
}

/// # Safety
/// `S::F32_LANES` values are writable.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(at: *mut f32, value: S::f32s) {
    // SAFETY: the values are writable.
    unsafe { at.cast::<S::f32s>().write_unaligned(value) }
}
