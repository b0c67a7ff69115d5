//! Products of pairs of bf16 in the tiles of AMX: eight registers of up to 16 rows of 64 bytes, and an instruction that adds
//! the product of two of them (16 rows x 16 pairs, 16 pairs x 16 columns) to a third.
//!
//! The compiler neither uses nor saves tiles. They are configured for a series of blocks and released after it, and between
//! the two only the blocks below touch them.

use std::arch::asm;
use std::arch::x86_64::*;
use std::array::from_fn;
use std::mem::MaybeUninit;
use std::ops::Range;

use super::arithmetic::Pair;
use super::gemm::{OuterProduct, Product, Tap};
use super::proof::{Dot, Tiles};

/// Rows of a tile; pairs, or `f32`, in a row.
const SIDE: usize = 16;

/// The fewest pairs per step with which tiles are faster than vectors.
const FEWEST: usize = 4;

/// Steps of an outer product whose left factor is transposed at once: few enough for the first-level cache.
const STRIPE: usize = 16;

/// The shape of tiles: results of `rows` rows are sums of products of `rows` x `pairs` and `pairs` x 16.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    pairs: usize,
}

/// The memory that LDTILECFG reads.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    rows: [u8; 16],
}

/// Where a step of a sum begins in the left and in the right factor, in bytes.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Step {
    a: usize,
    b: usize,
}

/// A block of a result: up to two tiles by two. Distances are in bytes.
struct Block {
    /// The two tiles of the left factor, and the distance of their rows.
    a: [*const Pair; 2],
    a_row: usize,
    /// The tiles of the right factor, side by side.
    b: *const Pair,
    b_row: usize,
    /// The two rows of tiles of the result.
    c: [*mut f32; 2],
    c_row: usize,
    /// Add to what is there.
    add: bool,
}

impl Shape {
    /// Runs `work` with tiles of this shape: 0 to 3 for results, 4 and 5 for left factors, 6 and 7 for right factors.
    fn run(self, _: Tiles, work: impl FnOnce()) {
        let Self { rows, pairs } = self;
        assert!((1..=SIDE).contains(&rows) && (1..=SIDE).contains(&pairs), "tiles: too large");
        let size = |tile: usize| match tile {
            0..4 => (rows, SIDE),
            4..6 => (rows, pairs),
            6..8 => (pairs, SIDE),
            _ => (0, 0),
        };
        let configuration = Configuration {
            palette: 1,
            start_row: 0,
            reserved: [0; 14],
            bytes: from_fn(|tile| 4 * size(tile).1 as u16),
            rows: from_fn(|tile| size(tile).0 as u8),
        };
        // SAFETY: the token proves the instruction, and the processor accepts the configuration: palette 1 has 8 tiles of at
        // most 16 rows and 64 bytes.
        unsafe { asm!("ldtilecfg [{}]", in(reg) &raw const configuration, options(nostack)) };
        work();
        // SAFETY: the token proves the instruction.
        unsafe { asm!("tilerelease", options(nostack, nomem)) };
    }
}

/// A function that computes blocks of a size: it clears their tiles or loads them, makes the steps, and stores them. `at` and
/// `from` are where a step begins in the factors.
macro_rules! block {
    (
        $name:ident, clear: [$($clear:literal),*], load: [$($load:literal),*], step: [$($step:literal),*],
        store: [$($store:literal),*]
    ) => {
        /// # Safety
        /// It runs within [`Shape::run`]; the tiles of the factors are readable at every step, and those of the result
        /// readable and writable.
        unsafe fn $name(block: &Block, steps: &[Step]) {
            let Block { a, a_row, b, b_row, c, c_row, add } = *block;
            let steps = steps.as_ptr_range();
            // SAFETY: the caller promises what is read and written, and the configured tiles prove the instructions.
            unsafe {
                asm!(
                    "test {at}, {at}",
                    "jnz 2f",
                    $($clear,)*
                    "jmp 4f",
                    "2:",
                    $($load,)*
                    "jmp 4f",
                    "3:",
                    "mov {at}, [{step}]",
                    "add {at}, {a0}",
                    "mov {from}, [{step} + 8]",
                    "add {from}, {b}",
                    $($step,)*
                    "add {step}, 16",
                    "4:",
                    "cmp {step}, {end}",
                    "jne 3b",
                    $($store,)*
                    // Blocks of one row of tiles do not use everything.
                    "/* {a1} {c1} */",
                    step = inout(reg) steps.start => _,
                    end = in(reg) steps.end,
                    a0 = in(reg) a[0],
                    a1 = in(reg) a[1].wrapping_byte_sub(a[0].addr()).addr(),
                    ar = in(reg) a_row,
                    b = in(reg) b,
                    br = in(reg) b_row,
                    c0 = in(reg) c[0],
                    c1 = in(reg) c[1],
                    cr = in(reg) c_row,
                    at = inout(reg) usize::from(add) => _,
                    from = out(reg) _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

block!(
    one_by_one,
    clear: ["tilezero tmm0"],
    load: ["tileloadd tmm0, [{c0} + {cr}]"],
    step: [
        "tileloadd tmm6, [{from} + {br}]",
        "tileloadd tmm4, [{at} + {ar}]",
        "tdpbf16ps tmm0, tmm4, tmm6"
    ],
    store: ["tilestored [{c0} + {cr}], tmm0"]
);

block!(
    one_by_two,
    clear: ["tilezero tmm0", "tilezero tmm1"],
    load: ["tileloadd tmm0, [{c0} + {cr}]", "tileloadd tmm1, [{c0} + {cr} + 64]"],
    step: [
        "tileloadd tmm6, [{from} + {br}]",
        "tileloadd tmm4, [{at} + {ar}]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        "tileloadd tmm7, [{from} + {br} + 64]",
        "tdpbf16ps tmm1, tmm4, tmm7"
    ],
    store: ["tilestored [{c0} + {cr}], tmm0", "tilestored [{c0} + {cr} + 64], tmm1"]
);

block!(
    two_by_one,
    clear: ["tilezero tmm0", "tilezero tmm2"],
    load: ["tileloadd tmm0, [{c0} + {cr}]", "tileloadd tmm2, [{c1} + {cr}]"],
    step: [
        "tileloadd tmm6, [{from} + {br}]",
        "tileloadd tmm4, [{at} + {ar}]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        "add {at}, {a1}",
        "tileloadd tmm5, [{at} + {ar}]",
        "tdpbf16ps tmm2, tmm5, tmm6"
    ],
    store: ["tilestored [{c0} + {cr}], tmm0", "tilestored [{c1} + {cr}], tmm2"]
);

block!(
    two_by_two,
    clear: ["tilezero tmm0", "tilezero tmm1", "tilezero tmm2", "tilezero tmm3"],
    load: [
        "tileloadd tmm0, [{c0} + {cr}]",
        "tileloadd tmm1, [{c0} + {cr} + 64]",
        "tileloadd tmm2, [{c1} + {cr}]",
        "tileloadd tmm3, [{c1} + {cr} + 64]"
    ],
    step: [
        "tileloadd tmm6, [{from} + {br}]",
        "tileloadd tmm4, [{at} + {ar}]",
        "tdpbf16ps tmm0, tmm4, tmm6",
        "tileloadd tmm7, [{from} + {br} + 64]",
        "tdpbf16ps tmm1, tmm4, tmm7",
        "add {at}, {a1}",
        "tileloadd tmm5, [{at} + {ar}]",
        "tdpbf16ps tmm2, tmm5, tmm6",
        "tdpbf16ps tmm3, tmm5, tmm7"
    ],
    store: [
        "tilestored [{c0} + {cr}], tmm0",
        "tilestored [{c0} + {cr} + 64], tmm1",
        "tilestored [{c1} + {cr}], tmm2",
        "tilestored [{c1} + {cr} + 64], tmm3"
    ]
);

impl Block {
    /// Computes it: one or two rows of tiles, and one or two columns of tiles.
    ///
    /// # Safety
    /// It runs within [`Shape::run`]; as many tiles of the factors are readable at every step, and as many of the result
    /// readable and writable.
    unsafe fn compute(&self, (rows, columns): (usize, usize), steps: &[Step]) {
        // SAFETY: promised by the caller.
        unsafe {
            match (rows, columns) {
                (1, 1) => one_by_one(self, steps),
                (1, _) => one_by_two(self, steps),
                (_, 1) => two_by_one(self, steps),
                _ => two_by_two(self, steps),
            }
        }
    }
}

impl Product<'_, Pair> {
    /// Computes it in tiles; returns false, with nothing done, if they would hardly be filled.
    pub(super) fn in_tiles(mut self, tiles: Tiles) -> bool {
        let Self { lda, taps, k, ldb, ldc, lines, rows, n, .. } = self;
        // Lines without gaps are one.
        let dense = lines.read == lines.width * lda && lines.written == lines.width * ldc;
        let width = if taps.len() == 1 && dense { rows } else { lines.width.min(rows) };
        let divides = |pairs: &usize| k.is_multiple_of(*pairs);
        let pairs = (FEWEST..=k.min(SIDE)).rev().find(divides);
        let (Some(pairs), true) = (pairs, width > 0 && rows.is_multiple_of(width)) else {
            return false;
        };
        self.assert_extents(SIDE);
        // Tiles in a line; the last overlaps its predecessor, and has the same values there.
        let across = width.div_ceil(SIDE);
        let shape = Shape { rows: width.div_ceil(across), pairs };
        let count = rows / width * across;
        let place =
            |tile: usize| (tile / across, (tile % across * shape.rows).min(width - shape.rows));
        let steps: Vec<Step> = (0..taps.len() * k / pairs)
            .map(|step| {
                let (tap, first) = (step * pairs / k, step * pairs % k);
                Step { a: 4 * (taps[tap].at + first), b: 4 * step * pairs * ldb }
            })
            .collect();
        self.ahead.share =
            self.ahead.left().div_ceil((count.div_ceil(2) * n.div_ceil(2 * SIDE)).max(1));
        let mut part = [0.0_f32; 4 * SIDE * SIDE];
        shape.run(tiles, || {
            for column in (0..n).step_by(2 * SIDE) {
                let left = (n - column).min(2 * SIDE);
                for tile in (0..count).step_by(2) {
                    let both = [tile, (tile + 1).min(count - 1)].map(place);
                    let size = (count.min(tile + 2) - tile, left.div_ceil(SIDE));
                    // Taps are sorted, so those within the image are neighbours.
                    let inside = |tap: &Tap| {
                        taps.len() == 1
                            || both.iter().any(|(y, _)| (tap.lines.0..tap.lines.1).contains(y))
                    };
                    let from = taps.iter().position(inside).unwrap_or(taps.len());
                    let to = taps.iter().rposition(inside).map_or(from, |last| last + 1);
                    let steps = &steps[from * (k / pairs)..to * (k / pairs)];
                    let whole = left.is_multiple_of(SIDE);
                    let at = both.map(|(y, x)| y * lines.written + x * ldc + column);
                    // SAFETY: the extents were asserted: rows of `a` at every tap, whole vectors of rows of `b`, and the `n`
                    // columns of `c`. If those end within a tile, the block is computed in `part`, which holds it.
                    unsafe {
                        let c = self.c.as_mut_ptr();
                        let (c, c_row) = match whole {
                            true => (at.map(|at| c.add(at)), ldc),
                            false => (
                                [part.as_mut_ptr(), part[2 * SIDE * SIDE..].as_mut_ptr()],
                                2 * SIDE,
                            ),
                        };
                        let block = Block {
                            a: both.map(|(y, x)| {
                                self.a.as_ptr().wrapping_add(y * lines.read + x * lda)
                            }),
                            a_row: 4 * lda,
                            b: self.b.as_ptr().wrapping_add(column),
                            b_row: 4 * ldb,
                            c,
                            c_row: 4 * c_row,
                            add: false,
                        };
                        block.compute(size, steps);
                    }
                    if !whole {
                        for (at, part) in at.iter().zip(part.chunks(2 * SIDE * SIDE)).take(size.0) {
                            for (row, part) in part.chunks(2 * SIDE).take(shape.rows).enumerate() {
                                self.c[at + row * ldc..][..left].copy_from_slice(&part[..left]);
                            }
                        }
                    }
                    for _ in 0..self.ahead.share {
                        self.ahead.step();
                    }
                }
            }
        });
        true
    }
}

/// The rows of a tile of pairs that is transposed.
type Transposed = [__m512i; SIDE];

impl OuterProduct<'_, Pair> {
    /// Computes it in tiles; returns false, with nothing done, if they would hardly be filled.
    pub(super) fn in_tiles(self, tiles: Tiles, dot: Dot) -> bool {
        let Self { ldd, ldw, add, rows, k, n, .. } = self;
        if rows < FEWEST || k == 0 {
            return false;
        }
        self.assert_extents(SIDE);
        let mut transposed = [[const { MaybeUninit::uninit() }; STRIPE]; 2];
        // What is left of the rows, and of `k`, has tiles of its own shape.
        let (whole_k, whole_rows) = (k - k % SIDE, rows - rows % SIDE);
        for (ks, high) in [(0..whole_k, SIDE), (whole_k..k, k % SIDE)] {
            for (range, pairs) in [(0..whole_rows, SIDE), (whole_rows..rows, rows % SIDE)] {
                if ks.is_empty() || range.is_empty() {
                    continue;
                }
                Shape { rows: high, pairs }.run(tiles, || {
                    for first in range.clone().step_by(STRIPE * pairs) {
                        let count = (range.end.min(first + STRIPE * pairs) - first) / pairs;
                        let steps: [Step; STRIPE] = from_fn(|step| Step {
                            a: step * size_of::<Transposed>(),
                            b: 4 * step * pairs * ldd,
                        });
                        for value in ks.clone().step_by(2 * SIDE) {
                            let both = ((ks.end - value) / high).min(2);
                            for (tile, to) in transposed.iter_mut().enumerate().take(both) {
                                for (step, to) in to.iter_mut().enumerate().take(count) {
                                    let rows = first + step * pairs..first + (step + 1) * pairs;
                                    self.transpose(dot, rows, value + tile * SIDE, high, to);
                                }
                            }
                            for column in (0..n).step_by(2 * SIDE) {
                                let across = (n - column).div_ceil(SIDE).min(2);
                                // SAFETY: the extents were asserted: whole vectors of `d` and of `w`; and `transposed` holds
                                // as many tiles as there are steps.
                                unsafe {
                                    let w = self.w.as_mut_ptr().add(value * ldw + column);
                                    Block {
                                        a: transposed.each_ref().map(|tiles| tiles.as_ptr().cast()),
                                        a_row: 4 * SIDE,
                                        b: self.d.as_ptr().add(first * ldd + column),
                                        b_row: 4 * ldd,
                                        c: [w, w.wrapping_add(SIDE * ldw)],
                                        c_row: 4 * ldw,
                                        add: add || first > 0,
                                    }
                                    .compute((both, across), &steps[..count]);
                                }
                            }
                        }
                    }
                });
            }
        }
        true
    }

    /// Transposes `count` values from value `k` on, at most 16, of at most 16 rows.
    fn transpose(
        &self,
        dot: Dot,
        rows: Range<usize>,
        k: usize,
        count: usize,
        to: &mut MaybeUninit<Transposed>,
    ) {
        let (width, line) = self.line;
        let a: [&[Pair]; SIDE] = from_fn(|i| {
            let row = rows.start + i;
            match row < rows.end {
                true => &self.a[row / width * line + row % width * self.lda + k..][..count],
                false => &[],
            }
        });
        dot.vectorize(
            #[inline(always)]
            || {
                // SAFETY: the token proves the instructions. Of each row as many values are read as it has, and `to` holds 16
                // vectors.
                unsafe {
                    // Loops, since a closure would be compiled without the instructions.
                    let [mut from, mut words, mut pairs] = [[_mm512_setzero_si512(); SIDE]; 3];
                    for (to, row) in from.iter_mut().zip(a) {
                        *to = if row.len() == SIDE {
                            _mm512_loadu_si512(row.as_ptr().cast())
                        } else {
                            _mm512_maskz_loadu_epi32((1 << row.len()) - 1, row.as_ptr().cast())
                        };
                    }
                    // Of two rows at a time, one value of each in turn; then two of each in turn.
                    for i in (0..SIDE).step_by(2) {
                        words[i] = _mm512_unpacklo_epi32(from[i], from[i + 1]);
                        words[i + 1] = _mm512_unpackhi_epi32(from[i], from[i + 1]);
                    }
                    for i in (0..SIDE).step_by(4) {
                        pairs[i] = _mm512_unpacklo_epi64(words[i], words[i + 2]);
                        pairs[i + 1] = _mm512_unpackhi_epi64(words[i], words[i + 2]);
                        pairs[i + 2] = _mm512_unpacklo_epi64(words[i + 1], words[i + 3]);
                        pairs[i + 3] = _mm512_unpackhi_epi64(words[i + 1], words[i + 3]);
                    }
                    // `pairs[4 * q + r]` has the values r, r + 4, r + 8 and r + 12 of rows 4 q to 4 q + 3.
                    for r in 0..4 {
                        let [a, b, c, d] = [pairs[r], pairs[r + 4], pairs[r + 8], pairs[r + 12]];
                        let even = [
                            _mm512_shuffle_i32x4::<0x88>(a, b),
                            _mm512_shuffle_i32x4::<0x88>(c, d),
                        ];
                        let odd = [
                            _mm512_shuffle_i32x4::<0xdd>(a, b),
                            _mm512_shuffle_i32x4::<0xdd>(c, d),
                        ];
                        let columns = [
                            _mm512_shuffle_i32x4::<0x88>(even[0], even[1]),
                            _mm512_shuffle_i32x4::<0x88>(odd[0], odd[1]),
                            _mm512_shuffle_i32x4::<0xdd>(even[0], even[1]),
                            _mm512_shuffle_i32x4::<0xdd>(odd[0], odd[1]),
                        ];
                        for (i, column) in columns.into_iter().enumerate() {
                            to.as_mut_ptr().cast::<__m512i>().add(4 * i + r).write(column);
                        }
                    }
                }
            },
        );
    }
}
