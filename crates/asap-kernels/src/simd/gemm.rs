//! Small matrix products over the pixels of a chunk: full convolutions, their data gradients and their weight gradients.
//! Their terms are `f32`, or pairs of bf16 ([`Pair`](super::arithmetic::Pair)) of which a step multiplies and adds two.

use super::ahead::Ahead;
use super::arithmetic::{Arithmetic, Kernel, Term};
use super::reach::{reach, size};

/// Terms of a sum between which a product asks for lines ahead.
const STRETCH: usize = 8;

/// The arrangement of rows that are pixels into lines of an image.
#[derive(Clone, Copy)]
pub(crate) struct Lines {
    /// Rows per line.
    pub(crate) width: usize,
    /// Distance from a line to the next in the memory that a product reads, and in the memory that it writes.
    pub(crate) read: usize,
    pub(crate) written: usize,
}

impl Lines {
    /// The position of the last of `rows` rows, `stride` apart in a line.
    fn last(self, rows: usize, stride: usize, line: usize) -> usize {
        let (last, x) = ((rows - 1) / self.width, (rows - 1) % self.width);
        let before = match last {
            0 => 0,
            _ => reach(0, [(last - 1, line), (self.width - 1, stride)]),
        };
        before.max(reach(0, [(last, line), (x, stride)]))
    }

    /// The positions of `M` rows from `row` on, `stride` apart in a line.
    #[inline(always)]
    fn places<const M: usize>(self, row: usize, stride: usize, line: usize) -> [usize; M] {
        let (y, mut x) =
            if row < self.width { (0, row) } else { (row / self.width, row % self.width) };
        let (mut start, mut places) = (y * line, [0; M]);
        let mut at = start + x * stride;
        for place in &mut places {
            *place = at;
            (at, x) = (at + stride, x + 1);
            if x == self.width {
                start += line;
                (at, x) = (start, 0);
            }
        }
        places
    }
}

/// A part of the rows of a product.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tap {
    /// Offset from the beginning of a row.
    pub(crate) at: usize,
    /// The lines, first and one past the last, where the part is not all zeros: the border of an image costs nothing.
    pub(crate) lines: (usize, usize),
    /// The same for the rows of a line.
    pub(crate) columns: (usize, usize),
}

impl Tap {
    /// A whole row, everywhere.
    pub(crate) const ALL: Self = Self { at: 0, lines: (0, usize::MAX), columns: (0, usize::MAX) };
}

/// `c[rows, n] = a[rows, k] * b[k, n]`: pixels by channels. A row of `a` may be in several parts, the taps of a
/// convolution.
pub(crate) struct Product<'a, T = f32> {
    /// Rows of stride `lda`.
    pub(crate) a: &'a [T],
    pub(crate) lda: usize,
    /// The parts of a row, and the length of each.
    pub(crate) taps: &'a [Tap],
    pub(crate) k: usize,
    /// Rows of stride `ldb`, their columns padded with zeros to whole vectors.
    pub(crate) b: &'a [T],
    pub(crate) ldb: usize,
    /// Rows of stride `ldc`; `n` columns are written.
    pub(crate) c: &'a mut [f32],
    pub(crate) ldc: usize,
    pub(crate) lines: Lines,
    pub(crate) rows: usize,
    pub(crate) n: usize,
    /// The values that are read after this product.
    pub(crate) ahead: Ahead<'a>,
}

impl<T> Product<'_, T> {
    /// Asserts that the slices hold all that is read, in vectors of so many lanes, and written. There are rows.
    #[inline(always)]
    pub(super) fn assert_extents(&self, lanes: usize) {
        let np = self.n.next_multiple_of(lanes);
        let last_tap = self.taps.iter().map(|tap| tap.at).max();
        if let Some(last_tap) = last_tap.filter(|_| self.k > 0) {
            let last = self.lines.last(self.rows, self.lda, self.lines.read);
            let end = reach(self.k, [(1, last), (1, last_tap)]);
            assert!(self.a.len() >= end, "product: a is too short");
            let end = reach(np, [(size([self.taps.len(), self.k]) - 1, self.ldb)]);
            assert!(self.b.len() >= end, "product: b is too short");
        }
        let last = self.lines.last(self.rows, self.ldc, self.lines.written);
        assert!(self.c.len() >= reach(self.n, [(1, last)]), "product: c is too short");
    }
}

impl<T: Term> Kernel<T> for Product<'_, T> {
    #[inline(always)]
    fn compute<A: Arithmetic<Term = T>>(mut self, arithmetic: A) {
        if self.rows == 0 {
            return;
        }
        self.assert_extents(A::LANES);
        let vectors = self.n.div_ceil(A::LANES);
        let tiles = vectors.div_ceil(3) * self.rows.div_ceil(8);
        self.ahead.share = self.ahead.left().div_ceil(tiles.max(1));
        let mut v = 0;
        while v < vectors {
            // Three vectors at a time unless that leaves a single one behind.
            let width = match vectors - v {
                1 => 1,
                2 | 4 => 2,
                _ => 3,
            };
            let many = A::MANY_REGISTERS;
            // SAFETY: the extents were asserted, and at least `width` vectors are left.
            unsafe {
                match (width, many) {
                    (1, _) => self.columns::<A, 8, 1>(arithmetic, v),
                    (2, true) => self.columns::<A, 8, 2>(arithmetic, v),
                    (2, false) => self.columns::<A, 4, 2>(arithmetic, v),
                    (_, true) => self.columns::<A, 8, 3>(arithmetic, v),
                    (_, false) => self.columns::<A, 4, 3>(arithmetic, v),
                }
            }
            v += width;
        }
    }
}

impl<T: Term> Product<'_, T> {
    /// `V` vectors of columns from vector `v` on, `M` rows at a time; the last rows are done again together with their
    /// predecessors rather than alone.
    ///
    /// # Safety
    /// The extents were asserted, and `v + V` vectors are within the padded columns.
    #[inline(always)]
    unsafe fn columns<A: Arithmetic<Term = T>, const M: usize, const V: usize>(
        &mut self,
        arithmetic: A,
        v: usize,
    ) {
        let mut row = 0;
        while row + M <= self.rows {
            // SAFETY: the extents were asserted, and rows row..row + M are there.
            unsafe { self.tile::<A, M, V>(arithmetic, row, v) };
            row += M;
        }
        if row < self.rows {
            // SAFETY: the extents were asserted, and as many rows as each tile has are there.
            unsafe {
                if self.rows >= M {
                    self.tile::<A, M, V>(arithmetic, self.rows - M, v);
                } else if self.rows >= 4 {
                    self.tile::<A, 4, V>(arithmetic, 0, v);
                    self.tile::<A, 4, V>(arithmetic, self.rows - 4, v);
                } else {
                    for row in 0..self.rows {
                        self.tile::<A, 1, V>(arithmetic, row, v);
                    }
                }
            }
        }
    }

    /// # Safety
    /// The extents were asserted, `row + M <= rows`, and `v + V` vectors are within the padded columns.
    #[inline(always)]
    unsafe fn tile<A: Arithmetic<Term = T>, const M: usize, const V: usize>(
        &mut self,
        arithmetic: A,
        row: usize,
        v: usize,
    ) {
        // SAFETY: places are rows below `rows`; the terms of each tap and row of b, and the `n` columns of c, are within the
        // asserted extents.
        unsafe {
            let mut acc = [[arithmetic.zero(); V]; M];
            let rows = self.lines.places::<M>(row, self.lda, self.lines.read);
            let a = rows.map(|row| self.a.as_ptr().wrapping_add(row));
            // Without rows of b the result is zero.
            let mut b = self.b.as_ptr().wrapping_add(v * A::LANES);
            // One vector leaves the inner loop no time to request lines ahead. Three leave it no register, and their
            // columns of b fill the cache: lines that arrive in between would evict them.
            let (before, between) = match V {
                1 => (self.ahead.share, 0),
                2 => (
                    0,
                    self.ahead.share.div_ceil((self.taps.len() * self.k.div_ceil(STRETCH)).max(1)),
                ),
                _ => (self.ahead.left(), 0),
            };
            for _ in 0..before {
                self.ahead.step();
            }
            // The border is worth checking only if there are several taps.
            let several = self.taps.len() > 1;
            let width = self.lines.width;
            let (top, bottom, left) = match several {
                true => (row / width, (row + M - 1) / width, row % width),
                false => (0, 0, 0),
            };
            let one_line = several && top == bottom;
            for tap in self.taps {
                if several && (bottom < tap.lines.0 || top >= tap.lines.1) {
                    b = b.wrapping_add(self.ldb * self.k);
                    continue;
                }
                let a = a.map(|a| a.wrapping_add(tap.at));
                b = if one_line && left < tap.columns.0 {
                    self.add_terms::<A, M, V, 1, 0>(arithmetic, &mut acc, a, b, between)
                } else if one_line && left + M > tap.columns.1 {
                    self.add_terms::<A, M, V, 0, 1>(arithmetic, &mut acc, a, b, between)
                } else {
                    self.add_terms::<A, M, V, 0, 0>(arithmetic, &mut acc, a, b, between)
                };
            }
            let rows = self.lines.places::<M>(row, self.ldc, self.lines.written);
            for (acc, row) in acc.into_iter().zip(rows) {
                let c = self.c.as_mut_ptr().add(row);
                for (j, acc) in acc.into_iter().enumerate() {
                    let column = (v + j) * A::LANES;
                    arithmetic.store_first(c.add(column), acc, self.n - column);
                }
            }
        }
    }

    /// Adds the terms of a tap to all rows of a tile except the first `FIRST` and the last `LAST`. Returns the position of
    /// those of the next tap.
    ///
    /// # Safety
    /// `k` terms of the rows, and `V` vectors of `k` rows of `b`, are readable.
    #[inline(always)]
    unsafe fn add_terms<
        A: Arithmetic<Term = T>,
        const M: usize,
        const V: usize,
        const FIRST: usize,
        const LAST: usize,
    >(
        &mut self,
        arithmetic: A,
        acc: &mut [[A::Acc; V]; M],
        a: [*const T; M],
        mut b: *const T,
        between: usize,
    ) -> *const T {
        let (ldb, len) = (self.ldb, self.k);
        let mut k = 0;
        while k < len {
            // Nothing else in the inner loop, otherwise its pointers would not fit into the registers.
            let pause = len.min(k + STRETCH);
            while k < pause {
                // SAFETY: k lies below the number of terms, and b at row k.
                unsafe {
                    let mut columns = [arithmetic.terms(b); V];
                    for (j, column) in columns.iter_mut().enumerate().skip(1) {
                        *column = arithmetic.terms(b.add(j * A::LANES));
                    }
                    for i in FIRST..M - LAST {
                        let a = arithmetic.splat(a[i].add(k));
                        for j in 0..V {
                            acc[i][j] = arithmetic.mul_add(a, columns[j], acc[i][j]);
                        }
                    }
                }
                b = b.wrapping_add(ldb);
                k += 1;
            }
            for _ in 0..between {
                self.ahead.step();
            }
        }
        b
    }
}

/// `w[k, n] (+)= a[rows, k]^T * d[rows, n]`: the gradient of the weights of a 1x1 convolution.
pub(crate) struct OuterProduct<'a, T = f32> {
    /// Rows of stride `lda`.
    pub(crate) a: &'a [T],
    pub(crate) lda: usize,
    /// Number of rows of `a` per line, and the distance between lines.
    pub(crate) line: (usize, usize),
    /// Rows of stride `ldd`, read in whole vectors: the values after the `n` columns end in the padding of `w`.
    pub(crate) d: &'a [T],
    pub(crate) ldd: usize,
    /// Rows of stride `ldw`, whose columns are padded to whole vectors.
    pub(crate) w: &'a mut [f32],
    pub(crate) ldw: usize,
    /// Add to the contents of `w`.
    pub(crate) add: bool,
    pub(crate) rows: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
}

impl<T> OuterProduct<'_, T> {
    /// Asserts that the slices hold all that is read, and written, in vectors of so many lanes. There are rows and values.
    #[inline(always)]
    pub(super) fn assert_extents(&self, lanes: usize) {
        let np = self.n.next_multiple_of(lanes);
        assert!(self.ldw >= np, "outer product: columns overlap");
        assert!(self.rows.is_multiple_of(self.line.0), "outer product: a line is incomplete");
        let (lines, width) = (self.rows / self.line.0, self.line.0);
        let end = reach(self.k, [(lines - 1, self.line.1), (width - 1, self.lda)]);
        assert!(self.a.len() >= end, "outer product: a is too short");
        let end = reach(np, [(self.rows - 1, self.ldd)]);
        assert!(self.d.len() >= end, "outer product: d is too short");
        let end = reach(np, [(self.k - 1, self.ldw)]);
        assert!(self.w.len() >= end, "outer product: w is too short");
    }
}

impl<T: Term> Kernel<T> for OuterProduct<'_, T> {
    #[inline(always)]
    fn compute<A: Arithmetic<Term = T>>(mut self, arithmetic: A) {
        if self.rows == 0 || self.k == 0 {
            return;
        }
        self.assert_extents(A::LANES);
        let vectors = self.n.div_ceil(A::LANES);
        let mut v = 0;
        while v < vectors {
            let width = if vectors - v >= 2 { 2 } else { 1 };
            // SAFETY: the extents were asserted, and at least `width` vectors are left.
            unsafe {
                match (width, A::MANY_REGISTERS) {
                    (2, true) => self.columns::<A, 12, 2>(arithmetic, v),
                    (2, false) => self.columns::<A, 6, 2>(arithmetic, v),
                    (_, true) => self.columns::<A, 16, 1>(arithmetic, v),
                    (_, false) => self.columns::<A, 12, 1>(arithmetic, v),
                }
            }
            v += width;
        }
    }
}

impl<T: Term> OuterProduct<'_, T> {
    /// `V` vectors of columns from vector `v` on, `K` rows of `w` at a time.
    ///
    /// # Safety
    /// The extents were asserted, and `v + V` vectors are within the padded columns.
    #[inline(always)]
    unsafe fn columns<A: Arithmetic<Term = T>, const K: usize, const V: usize>(
        &mut self,
        arithmetic: A,
        v: usize,
    ) {
        let mut k = 0;
        // SAFETY: the extents were asserted, and every tile ends at or before row self.k of w.
        unsafe {
            while k + K <= self.k {
                self.tile::<A, K, V>(arithmetic, k, v);
                k += K;
            }
            if K > 8 && k + 8 <= self.k {
                self.tile::<A, 8, V>(arithmetic, k, v);
                k += 8;
            }
            while k + 4 <= self.k {
                self.tile::<A, 4, V>(arithmetic, k, v);
                k += 4;
            }
            while k < self.k {
                self.tile::<A, 1, V>(arithmetic, k, v);
                k += 1;
            }
        }
    }

    /// # Safety
    /// `k + K <= self.k`, `v + V` vectors are within the padded columns, and the extents were asserted.
    #[inline(always)]
    unsafe fn tile<A: Arithmetic<Term = T>, const K: usize, const V: usize>(
        &mut self,
        arithmetic: A,
        k: usize,
        v: usize,
    ) {
        // SAFETY: values k..k + K of each row of a, and the vectors of each row of d and of rows k..k + K of w, are within
        // the asserted extents.
        unsafe {
            let column = v * A::LANES;
            let w = self.w.as_mut_ptr().add(k * self.ldw + column);
            let mut acc = [[arithmetic.zero(); V]; K];
            if self.add {
                for (i, acc) in acc.iter_mut().enumerate() {
                    for (j, acc) in acc.iter_mut().enumerate() {
                        *acc = arithmetic.load(w.add(i * self.ldw + j * A::LANES));
                    }
                }
            }
            let (mut line, mut d) = (self.a.as_ptr().add(k), self.d.as_ptr().add(column));
            for _ in 0..self.rows / self.line.0 {
                let mut a = line;
                for _ in 0..self.line.0 {
                    let mut columns = [arithmetic.terms(d); V];
                    for (j, column) in columns.iter_mut().enumerate().skip(1) {
                        *column = arithmetic.terms(d.add(j * A::LANES));
                    }
                    for (i, acc) in acc.iter_mut().enumerate() {
                        let a = arithmetic.splat(a.add(i));
                        for (acc, column) in acc.iter_mut().zip(columns) {
                            *acc = arithmetic.mul_add(a, column, *acc);
                        }
                    }
                    // The last step may point past the end, where nothing is read.
                    a = a.wrapping_add(self.lda);
                    d = d.wrapping_add(self.ldd);
                }
                line = line.wrapping_add(self.line.1);
            }
            for (i, acc) in acc.iter().enumerate() {
                for (j, acc) in acc.iter().enumerate() {
                    arithmetic.store(w.add(i * self.ldw + j * A::LANES), *acc);
                }
            }
        }
    }
}
