//! Small matrix products over the pixels of a chunk: the 1x1 convolution, its data gradient and its weight gradient.

use pulp::{Simd, WithSimd};

use super::{Ahead, Lanes, load, store};

/// `c[rows, n] = a[rows, k] * b[k, n]`: pixels by channels.
pub(crate) struct Product<'a> {
    /// Rows of stride `lda`.
    pub(crate) a: &'a [f32],
    pub(crate) lda: usize,
    /// Rows of stride `ldb`, their columns padded with zeros to whole vectors.
    pub(crate) b: &'a [f32],
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

impl WithSimd for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if self.rows == 0 {
            return;
        }
        let np = self.n.next_multiple_of(S::F32_LANES);
        assert!(self.a.len() >= (self.rows - 1) * self.lda + self.k, "product: a is too short");
        assert!(
            self.k == 0 || self.b.len() >= (self.k - 1) * self.ldb + np,
            "product: b is too short"
        );
        let last = (self.rows - 1) * self.ldc + (self.rows - 1) / self.line.0 * self.line.1;
        assert!(self.c.len() >= last + self.n, "product: c is too short");
        let vectors = np / S::F32_LANES;
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
            let many = S::REGISTER_COUNT >= 32;
            match (width, many) {
                (1, _) => self.columns::<S, 8, 1>(simd, v),
                (2, true) => self.columns::<S, 8, 2>(simd, v),
                (2, false) => self.columns::<S, 4, 2>(simd, v),
                (_, true) => self.columns::<S, 8, 3>(simd, v),
                (_, false) => self.columns::<S, 4, 3>(simd, v),
            }
            v += width;
        }
    }
}

impl Product<'_> {
    /// `V` vectors of columns from vector `v` on, `M` rows at a time; the last rows are done again with their
    /// predecessors rather than alone.
    #[inline(always)]
    fn columns<S: Simd, const M: usize, const V: usize>(&mut self, simd: S, v: usize) {
        let mut row = 0;
        while row + M <= self.rows {
            // SAFETY: with_simd asserted the extents; rows row..row + M are within them.
            unsafe { self.tile::<S, M, V>(simd, row, v) };
            row += M;
        }
        if row < self.rows {
            // SAFETY: as above.
            unsafe {
                if self.rows >= M {
                    self.tile::<S, M, V>(simd, self.rows - M, v);
                } else if self.rows >= 4 {
                    self.tile::<S, 4, V>(simd, 0, v);
                    self.tile::<S, 4, V>(simd, self.rows - 4, v);
                } else {
                    for row in 0..self.rows {
                        self.tile::<S, 1, V>(simd, row, v);
                    }
                }
            }
        }
    }

    /// # Safety
    /// `row + M <= rows` and the extents were asserted.
    #[inline(always)]
    unsafe fn tile<S: Simd, const M: usize, const V: usize>(
        &mut self,
        simd: S,
        row: usize,
        v: usize,
    ) {
        unsafe {
            let mut acc = [[simd.splat_f32s(0.0); V]; M];
            let a = self.a.as_ptr().add(row * self.lda);
            // Without rows of b the result is zero.
            let mut b = self.b.as_ptr().wrapping_add(v * S::F32_LANES);
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
                let mut columns = [simd.splat_f32s(0.0); V];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = load::<S>(b.add(j * S::F32_LANES));
                }
                for (i, acc) in acc.iter_mut().enumerate() {
                    let a = simd.splat_f32s(*a.add(i * self.lda + k));
                    for (acc, column) in acc.iter_mut().zip(columns) {
                        *acc = simd.mul_add_e_f32s(a, column, *acc);
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
                    let lanes = Lanes::at(simd, (v + j) * S::F32_LANES, self.n);
                    lanes.store(c.add(lanes.first), acc);
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
pub(crate) struct OuterProduct<'a> {
    /// Rows of stride `lda`.
    pub(crate) a: &'a [f32],
    pub(crate) lda: usize,
    /// Rows of stride `ldd`, of which whole vectors are read: what follows the `n` columns ends in the padding of `w`.
    pub(crate) d: &'a [f32],
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

impl WithSimd for OuterProduct<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if self.rows == 0 || self.k == 0 {
            return;
        }
        let np = self.n.next_multiple_of(S::F32_LANES);
        assert!(self.ldw >= np, "outer product: columns overlap");
        assert!(
            self.a.len() >= (self.rows - 1) * self.lda + self.k,
            "outer product: a is too short"
        );
        assert!(self.d.len() >= (self.rows - 1) * self.ldd + np, "outer product: d is too short");
        assert!(self.w.len() >= (self.k - 1) * self.ldw + np, "outer product: w is too short");
        let vectors = np / S::F32_LANES;
        let mut v = 0;
        while v < vectors {
            if vectors - v >= 2 {
                if S::REGISTER_COUNT >= 32 {
                    self.columns::<S, 12, 2>(simd, v);
                } else {
                    self.columns::<S, 6, 2>(simd, v);
                }
                v += 2;
            } else {
                if S::REGISTER_COUNT >= 32 {
                    self.columns::<S, 16, 1>(simd, v);
                } else {
                    self.columns::<S, 12, 1>(simd, v);
                }
                v += 1;
            }
        }
    }
}

impl OuterProduct<'_> {
    #[inline(always)]
    fn columns<S: Simd, const K: usize, const V: usize>(&mut self, simd: S, v: usize) {
        let mut k = 0;
        // SAFETY: with_simd asserted the extents, and every tile ends at or before row self.k of w.
        unsafe {
            while k + K <= self.k {
                self.tile::<S, K, V>(simd, k, v);
                k += K;
            }
            if K > 8 && k + 8 <= self.k {
                self.tile::<S, 8, V>(simd, k, v);
                k += 8;
            }
            while k + 4 <= self.k {
                self.tile::<S, 4, V>(simd, k, v);
                k += 4;
            }
            while k < self.k {
                self.tile::<S, 1, V>(simd, k, v);
                k += 1;
            }
        }
    }

    /// # Safety
    /// `k + K <= self.k`, `v + V` vectors are within the padded columns, and the extents were asserted.
    #[inline(always)]
    unsafe fn tile<S: Simd, const K: usize, const V: usize>(
        &mut self,
        simd: S,
        k: usize,
        v: usize,
    ) {
        unsafe {
            let column = v * S::F32_LANES;
            let w = self.w.as_mut_ptr().add(k * self.ldw + column);
            let mut acc = [[simd.splat_f32s(0.0); V]; K];
            if self.add {
                for (i, acc) in acc.iter_mut().enumerate() {
                    for (j, acc) in acc.iter_mut().enumerate() {
                        *acc = load::<S>(w.add(i * self.ldw + j * S::F32_LANES));
                    }
                }
            }
            let (mut a, mut d) = (self.a.as_ptr().add(k), self.d.as_ptr().add(column));
            for _ in 0..self.rows {
                let mut columns = [simd.splat_f32s(0.0); V];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = load::<S>(d.add(j * S::F32_LANES));
                }
                for (i, acc) in acc.iter_mut().enumerate() {
                    let a = simd.splat_f32s(*a.add(i));
                    for (acc, column) in acc.iter_mut().zip(columns) {
                        *acc = simd.mul_add_e_f32s(a, column, *acc);
                    }
                }
                // The last step may point past the end, where nothing is read.
                a = a.wrapping_add(self.lda);
                d = d.wrapping_add(self.ldd);
            }
            for (i, acc) in acc.iter().enumerate() {
                for (j, acc) in acc.iter().enumerate() {
                    store::<S>(w.add(i * self.ldw + j * S::F32_LANES), *acc);
                }
            }
        }
    }
}
