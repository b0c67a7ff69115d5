//! Proofs that the processor has the instructions of a kernel. A token is an empty value that only a check of the
//! processor creates; code that uses the instructions takes or holds one. Pulp has tokens for its instruction sets,
//! which are the values of [`Simd`]; here is the one that it lacks, and a way to recover a token from a generic value.

use std::any::Any;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use std::sync::LazyLock;

use pulp::Simd;

#[cfg(target_arch = "x86_64")]
pulp::simd_type! {
    /// The dot product of pairs of bf16, and the other instructions that its kernels use. `try_new` checks the same
    /// list that `vectorize` enables.
    pub(super) struct Dot {
        avx512bf16: "avx512bf16",
        avx512f: "avx512f",
        avx512bw: "avx512bw",
        avx512vl: "avx512vl",
        avx2: "avx2",
        fma: "fma",
    }
}

/// No processor of this architecture has the dot product of AVX-512 BF16, so there is no value.
#[cfg(not(target_arch = "x86_64"))]
#[derive(Clone, Copy)]
pub(super) enum Dot {}

#[cfg(not(target_arch = "x86_64"))]
impl Dot {
    pub(super) fn try_new() -> Option<Self> {
        None
    }
}

/// Proof of AMX: tiles, products of tiles of bf16, and the permission to use them, which Linux gives on request.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
#[derive(Clone, Copy)]
pub(super) struct Tiles(());

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
impl Tiles {
    pub(super) fn try_new() -> Option<Self> {
        static ALLOWED: LazyLock<bool> = LazyLock::new(|| {
            use std::arch::x86_64::{__cpuid, __cpuid_count};
            /// AMX-BF16 and AMX-TILE in EDX of leaf 7.
            const FEATURES: u32 = 1 << 22 | 1 << 24;
            /// The request, and the number of the state of tiles (Linux, Documentation/arch/x86/xstate.rst).
            const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
            const XFEATURE_XTILEDATA: libc::c_long = 18;
            let has = __cpuid(0).eax >= 7 && __cpuid_count(7, 0).edx & FEATURES == FEATURES;
            // SAFETY: the call passes no memory. It fails where the kernel or the processor lacks tiles.
            has && unsafe {
                libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0
            }
        });
        ALLOWED.then_some(Self(()))
    }
}

/// Nothing else has tiles, so there is no value.
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
#[derive(Clone, Copy)]
pub(super) enum Tiles {}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
impl Tiles {
    pub(super) fn try_new() -> Option<Self> {
        None
    }
}

/// The token `T` if it is the type of `simd`. A number of lanes would prove nothing: pulp also has plain vectors, which
/// need no instructions, of 4, 8 and 16 lanes.
#[inline(always)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(super) fn token<T: Simd>(simd: impl Simd) -> Option<T> {
    (&simd as &dyn Any).downcast_ref().copied()
}

#[cfg(test)]
#[cfg(target_arch = "x86_64")]
mod tests {
    use pulp::x86::{V3, V4};
    use pulp::{Scalar256b, Scalar512b, WithSimd};

    use super::*;
    use crate::simd::{Bf16, Level, LoadRows};

    /// Loads seven pixels of five rounded values.
    fn load(run: impl FnOnce(LoadRows<'_, Bf16>), cp: usize) -> Vec<f32> {
        let x: Vec<Bf16> = (0..35).map(|i| Bf16(0x3f80 + i)).collect();
        let mut dst = vec![7.0; 7 * cp];
        let (affine, relu, dst_row) = (None, false, 0);
        run(LoadRows { x: &x, affine, relu, dst: &mut dst, dst_row, rows: 1, width: 7, c: 5, cp });
        dst.chunks(cp).flat_map(|pixel| pixel[..5].to_vec()).collect()
    }

    #[test]
    fn as_many_lanes_prove_nothing() {
        assert!(token::<V4>(Scalar512b).is_none() && token::<V3>(Scalar256b).is_none());
        let expected: Vec<f32> = (0..35).map(|i| f32::from_bits((0x3f80 + i) << 16)).collect();
        assert_eq!(load(|rows| rows.with_simd(Scalar512b), 16), expected);
        assert_eq!(load(|rows| rows.with_simd(Scalar256b), 8), expected);
        for level in Level::available() {
            assert_eq!(load(|rows| level.run(rows), level.pad(5)), expected, "{level}");
        }
    }
}
