//! Small matrix products over the pixels of a chunk: the 1x1 convolution, its data gradient and its weight gradient.
//! Their terms are `f32`, or pairs of bf16 ([`Pair`](super::arithmetic::Pair)) of which a step multiplies and adds two.

use super::ahead::Ahead;
use super::arithmetic::{Arithmetic, Kernel, Term};
use super::level::{HALF, Level};

impl Level {
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
}

/// `c[rows, n] = a[rows, k] * b[k, n]`: pixels by channels.
pub(crate) struct Product<'a, T = f32> {
    /// Rows of stride `lda`.
    pub(crate) a: &'a [T],
    pub(crate) lda: usize,
    /// Rows of stride `ldb`, their columns padded with zeros to whole vectors.
    pub(crate) b: &'a [T],
    pub(crate) ldb: usize,
    /// Rows of stride `ldc`; `n` columns are written.
    pub(crate) c: &'a mut [f32],
    pub(crate) ldc: usize,
    /// How many rows make a line of pixels, and the gap in `c` after each line: the border of an image.
    pub(crate) line: (usize, usize),
    pub(crate) rows: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
    /// What is read after this product.
    pub(crate) ahead: Ahead<'a>,
}

impl<T: Term> Kernel<T> for Product<'_, T> {
    #[inline(always)]
    fn compute<A: Arithmetic<Term = T>>(mut self, arithmetic: A) {
        if self.rows == 0 {
            return;
        }
        let np = self.n.next_multiple_of(A::LANES);
        assert!(self.a.len() >= (self.rows - 1) * self.lda + self.k, "product: a is too short");
        assert!(
            self.k == 0 || self.b.len() >= (self.k - 1) * self.ldb + np,
            "product: b is too short"
        );
        let last = (self.rows - 1) * self.ldc + (self.rows - 1) / self.line.0 * self.line.1;
        assert!(self.c.len() >= last + self.n, "product: c is too short");
        let vectors = np / A::LANES;
        let tiles = vectors.div_ceil(3) * self.rows.div_ceil(8);
        self.ahead.share = self.ahead.left().div_ceil(tiles.max(1));
        let mut v = 0;
        while v < vectors {
            // Three vectors at a time where that leaves no single one behind.
            let width = match vectors - v {
                1 => 1,
                2 | 4 => 2,
                _ => 3,
            };
            let many = A::MANY_REGISTERS;
            match (width, many) {
                (1, _) => self.columns::<A, 8, 1>(arithmetic, v),
                (2, true) => self.columns::<A, 8, 2>(arithmetic, v),
                (2, false) => self.columns::<A, 4, 2>(arithmetic, v),
                (_, true) => self.columns::<A, 8, 3>(arithmetic, v),
                (_, false) => self.columns::<A, 4, 3>(arithmetic, v),
            }
            v += width;
        }
    }
}

impl<T: Term> Product<'_, T> {
    /// `V` vectors of columns from vector `v` on, `M` rows at a time; the last rows are done again with their
    /// predecessors rather than alone.
    #[inline(always)]
    fn columns<A: Arithmetic<Term = T>, const M: usize, const V: usize>(
        &mut self,
        arithmetic: A,
        v: usize,
    ) {
        let mut row = 0;
        while row + M <= self.rows {
            // SAFETY: compute asserted the extents; rows row..row + M are within them.
            unsafe { self.tile::<A, M, V>(arithmetic, row, v) };
            row += M;
        }
        if row < self.rows {
            // SAFETY: as above.
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
    /// `row + M <= rows` and the extents were asserted.
    #[inline(always)]
    unsafe fn tile<A: Arithmetic<Term = T>, const M: usize, const V: usize>(
        &mut self,
        arithmetic: A,
        row: usize,
        v: usize,
    ) {
        unsafe {
            let mut acc = [[arithmetic.zero(); V]; M];
            let a = self.a.as_ptr().add(row * self.lda);
            // Without rows of b the result is zero.
            let mut b = self.b.as_ptr().wrapping_add(v * A::LANES);
            // One vector leaves the inner loop no time to ask for lines ahead. Three leave it no register, and their
            // columns of b fill the cache: what comes in between would push them out.
            let (before, between) = match V {
                1 => (self.ahead.share, 0),
                2 => (0, self.ahead.share.div_ceil(self.k.max(1))),
                _ => (self.ahead.left(), 0),
            };
            for _ in 0..before {
                self.ahead.step();
            }
            for k in 0..self.k {
                let mut columns = [arithmetic.terms(b); V];
                for (j, column) in columns.iter_mut().enumerate().skip(1) {
                    *column = arithmetic.terms(b.add(j * A::LANES));
                }
                for (i, acc) in acc.iter_mut().enumerate() {
                    let a = arithmetic.splat(a.add(i * self.lda + k));
                    for (acc, column) in acc.iter_mut().zip(columns) {
                        *acc = arithmetic.mul_add(a, column, *acc);
                    }
                }
                b = b.wrapping_add(self.ldb);
                for _ in 0..between {
                    self.ahead.step();
                }
            }
            let (width, gap) = self.line;
            let (line, mut left) =
                if gap == 0 { (0, M) } else { (row / width, width - row % width) };
            let mut c = self.c.as_mut_ptr().add(row * self.ldc + line * gap);
            for acc in acc {
                for (j, acc) in acc.into_iter().enumerate() {
                    let column = (v + j) * A::LANES;
                    arithmetic.store_first(c.add(column), acc, self.n - column);
                }
                left -= 1;
                // The last step may point past the end, where nothing is written.
                c = c.wrapping_add(self.ldc + if left == 0 { gap } else { 0 });
                left = if left == 0 { width } else { left };
            }
        }
    }
}

/// `w[k, n] (+)= a[rows, k]^T * d[rows, n]`: the gradient of the weights of a 1x1 convolution.
pub(crate) struct OuterProduct<'a, T = f32> {
    /// Rows of stride `lda`.
    pub(crate) a: &'a [T],
    pub(crate) lda: usize,
    /// Rows of stride `ldd`, of which whole vectors are read: what follows the `n` columns ends in the padding of `w`.
    pub(crate) d: &'a [T],
    pub(crate) ldd: usize,
    /// Rows of stride `ldw`, whose columns are padded to whole vectors.
    pub(crate) w: &'a mut [f32],
    pub(crate) ldw: usize,
    /// Add to what `w` holds.
    pub(crate) add: bool,
    pub(crate) rows: usize,
    pub(crate) k: usize,
    pub(crate) n: usize,
}

impl<T: Term> Kernel<T> for OuterProduct<'_, T> {
    #[inline(always)]
    fn compute<A: Arithmetic<Term = T>>(mut self, arithmetic: A) {
        if self.rows == 0 || self.k == 0 {
            return;
        }
        let np = self.n.next_multiple_of(A::LANES);
        assert!(self.ldw >= np, "outer product: columns overlap");
        assert!(
            self.a.len() >= (self.rows - 1) * self.lda + self.k,
            "outer product: a is too short"
        );
        assert!(self.d.len() >= (self.rows - 1) * self.ldd + np, "outer product: d is too short");
        assert!(self.w.len() >= (self.k - 1) * self.ldw + np, "outer product: w is too short");
        let vectors = np / A::LANES;
        let mut v = 0;
        while v < vectors {
            if vectors - v >= 2 {
                if A::MANY_REGISTERS {
                    self.columns::<A, 12, 2>(arithmetic, v);
                } else {
                    self.columns::<A, 6, 2>(arithmetic, v);
                }
                v += 2;
            } else {
                if A::MANY_REGISTERS {
                    self.columns::<A, 16, 1>(arithmetic, v);
                } else {
                    self.columns::<A, 12, 1>(arithmetic, v);
                }
                v += 1;
            }
        }
    }
}

impl<T: Term> OuterProduct<'_, T> {
    #[inline(always)]
    fn columns<A: Arithmetic<Term = T>, const K: usize, const V: usize>(
        &mut self,
        arithmetic: A,
        v: usize,
    ) {
        let mut k = 0;
        // SAFETY: compute asserted the extents, and every tile ends at or before row self.k of w.
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
            let (mut a, mut d) = (self.a.as_ptr().add(k), self.d.as_ptr().add(column));
            for _ in 0..self.rows {
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
            for (i, acc) in acc.iter().enumerate() {
                for (j, acc) in acc.iter().enumerate() {
                    arithmetic.store(w.add(i * self.ldw + j * A::LANES), *acc);
                }
            }
        }
    }
}
