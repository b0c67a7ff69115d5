//! Vectors of values: loads and stores, whole or in part, of `f32` and of numbers rounded to bf16.

use pulp::bytemuck::{Pod, Zeroable};
use pulp::{MemMask, Simd};

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
            None => unsafe { load::<S>(at) },
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
            None => unsafe { store::<S>(at, value) },
            Some(mask) => unsafe { self.simd.mask_store_ptr_f32s(mask, at, value) },
        }
    }
}

/// The type of values that a pass over pixels reads.
pub(crate) trait Value: Copy {
    /// The enabled lanes as `f32`, zero beyond them.
    ///
    /// # Safety
    /// They are readable, and `S` is one that [`Level::run`](super::Level::run) passes to kernels.
    unsafe fn load<S: Simd>(lanes: Lanes<S>, at: *const Self) -> S::f32s;
}

impl Value for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(lanes: Lanes<S>, at: *const Self) -> S::f32s {
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
        // SAFETY: of the instruction sets that Level::run passes, the one of 16 lanes is AVX-512 (with BW and VL) and the one
        // of 8 lanes AVX2; the lanes are readable.
        unsafe {
            use std::arch::x86_64::*;
            use std::mem::transmute_copy;
            if S::F32_LANES == 16 {
                let mask = if left >= 16 { u16::MAX } else { (1 << left) - 1 };
                let narrow = _mm256_maskz_loadu_epi16(mask, at.cast());
                return transmute_copy(&_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(narrow)));
            }
            if S::F32_LANES == 8 && left >= 8 {
                let narrow = _mm_loadu_si128(at.cast());
                return transmute_copy(&_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(narrow)));
            }
        }
        let mut values = simd.splat_f32s(0.0);
        let to: *mut f32 = (&raw mut values).cast();
        for lane in 0..left.min(S::F32_LANES) {
            // SAFETY: the lane is one of the vector, and readable.
            unsafe { *to.add(lane) = f32::from_bits(u32::from((*at.add(lane)).0) << 16) };
        }
        values
    }
}

/// # Safety
/// `S::F32_LANES` values are readable.
#[inline(always)]
pub(super) unsafe fn load<S: Simd>(at: *const f32) -> S::f32s {
    unsafe { at.cast::<S::f32s>().read_unaligned() }
}

/// # Safety
/// `S::F32_LANES` values are writable.
#[inline(always)]
pub(super) unsafe fn store<S: Simd>(at: *mut f32, value: S::f32s) {
    unsafe { at.cast::<S::f32s>().write_unaligned(value) }
}
