//! The choice of the SIMD width at run time: [`Level`].

use std::fmt;
use std::ops::Range;

use pulp::{Scalar, Simd, WithSimd};

use super::proof::{Dot, Tiles};

/// A SIMD instruction set of this machine.
#[derive(Clone, Copy)]
pub struct Level {
    pub(super) token: Token,
    /// Proof that the processor multiplies pairs of bf16 in one step.
    pub(super) dot: Option<Dot>,
    /// Proof that it multiplies tiles of them.
    #[cfg_attr(not(all(target_arch = "x86_64", target_os = "linux")), allow(dead_code))]
    tiles: Option<Tiles>,
}

/// Proof that the instruction set is available.
#[derive(Clone, Copy)]
pub(super) enum Token {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(pulp::x86::V3),
    #[cfg(target_arch = "x86_64")]
    Avx512(pulp::x86::V4),
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl Level {
    /// Every level of this machine, widest first; the last is scalar code, which is always available.
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
        let (dot, tiles) = (Dot::try_new(), Tiles::try_new());
        tokens.into_iter().map(|token| Self { token, dot, tiles }).collect()
    }

    /// True if the processor multiplies pairs of bf16 in one step; otherwise they are split, which is slower than
    /// multiplying `f32`.
    pub fn multiplies_bf16(self) -> bool {
        self.dot.is_some() && self.lanes() > 1
    }

    /// The levels of this machine, and those of otherwise equal ones without tiles, and without bf16.
    #[cfg(test)]
    pub(crate) fn with_and_without_bf16() -> impl Iterator<Item = Self> {
        let levels = Self::available().into_iter();
        levels.flat_map(|level| {
            let vectors = Self { tiles: None, ..level };
            [level, vectors, Self { dot: None, ..vectors }]
        })
    }

    /// Proof of tiles for vectors of 512 bits, as long as a row of a tile, and of the dot product.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(super) fn tiles(self) -> Option<(Tiles, Dot)> {
        matches!(self.token, Token::Avx512(_)).then_some(self.tiles.zip(self.dot))?
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

    /// Number of values after which the channels of dense pixels and the lanes of vectors start together again.
    /// Coefficients per channel are repeated up to there, so that a pass may treat several pixels as one.
    pub(crate) fn period(self, channels: usize) -> usize {
        channels * (self.lanes() / common(channels, self.lanes()))
    }

    /// A value per channel, repeated up to the period.
    pub(crate) fn repeat(self, values: &[f32]) -> Vec<f32> {
        values.iter().copied().cycle().take(self.period(values.len())).collect()
    }

    /// Number of pixels that make a wide one that fills vectors best, among the divisors of `pixels`.
    pub(crate) fn group(self, channels: usize, pixels: usize) -> usize {
        group(self.lanes(), channels, pixels)
    }

    /// Runs columns (or channels); the last, if they fill half a vector or less, at half the width.
    pub(super) fn in_halves(self, columns: usize, mut run: impl FnMut(Self, Range<usize>)) {
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
pub(super) const HALF: usize = 8;

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
pub(super) fn group(lanes: usize, channels: usize, pixels: usize) -> usize {
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
