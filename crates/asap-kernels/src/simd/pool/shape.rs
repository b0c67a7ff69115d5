//! The kind and shape of a pool: [`PoolShape`].

/// The kind of pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PoolKind {
    Max,
    /// Without counting the padding.
    Average,
}

/// The shape of a pool: `[h, w, c]` to `[ceil(h / stride), ceil(w / stride), c]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolShape {
    pub(crate) kind: PoolKind,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c: usize,
    pub(crate) stride: usize,
}

impl PoolShape {
    pub(super) fn out(self) -> (usize, usize) {
        (self.h.div_ceil(self.stride), self.w.div_ceil(self.stride))
    }

    /// The rows (or columns) of a window, first and one past the last.
    pub(super) fn window(self, at: usize, size: usize) -> (usize, usize) {
        ((at * self.stride).saturating_sub(1), (at * self.stride + 2).min(size))
    }
}
