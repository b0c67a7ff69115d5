//! Which kernel runs a product.

use super::arithmetic::Term;
use super::gemm::{OuterProduct, Product};
use super::level::{HALF, Level};

impl Level {
    /// Runs a product: in tiles, or in halves as in [`Level::in_halves`].
    pub(crate) fn product<T: Term>(self, product: Product<'_, T>) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if let (Some((tiles, _)), Some(a), Some(b)) =
            (self.tiles(), T::pairs(product.a), T::pairs(product.b))
        {
            let Product { lda, taps, k, ldb, ldc, lines, rows, n, ahead, .. } = product;
            let c = &mut *product.c;
            let pairs = Product { a, lda, taps, k, b, ldb, c, ldc, lines, rows, n, ahead };
            if pairs.in_tiles(tiles) {
                return;
            }
        }
        let Product { b, c, n, mut ahead, .. } = product;
        // Without rows of b there are no columns to split.
        if product.k * product.taps.len() == 0 {
            return T::run(self, Product { b, c, n, ahead, ..product });
        }
        self.in_halves(n, |level, columns| {
            // A whole vector, since masked stores are slow: columns that both compute are bit-identical.
            let first = columns.start.min(n.saturating_sub(HALF));
            let (b, c, n) = (&b[first..], &mut c[first..], columns.end - first);
            T::run(level, Product { b, c, n, ahead: std::mem::take(&mut ahead), ..product });
        });
    }

    /// Runs an outer product: in tiles, or in halves.
    pub(crate) fn outer_product<T: Term>(self, product: OuterProduct<'_, T>) {
        #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
        if let (Some((tiles, dot)), Some(a), Some(d)) =
            (self.tiles(), T::pairs(product.a), T::pairs(product.d))
        {
            let OuterProduct { lda, line, ldd, ldw, add, rows, k, n, .. } = product;
            let w = &mut *product.w;
            let pairs = OuterProduct { a, lda, line, d, ldd, w, ldw, add, rows, k, n };
            if pairs.in_tiles(tiles, dot) {
                return;
            }
        }
        let OuterProduct { d, w, .. } = product;
        self.in_halves(product.n, |level, columns| {
            let (d, w, n) = (&d[columns.start..], &mut w[columns.start..], columns.len());
            T::run(level, OuterProduct { d, w, n, ..product });
        });
    }
}
