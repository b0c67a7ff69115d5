//! Memory requested before it is read: [`Ahead`].

/// Requests values for the cache while something else is computed.
pub(crate) fn prefetch(values: &[f32]) {
    for line in values.chunks(LINE) {
        prefetch_line(line.as_ptr());
    }
}

/// Requests the line of memory at `at`, which need not exist.
#[inline(always)]
fn prefetch_line(at: *const f32) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: SSE is part of x86-64, and a prefetch changes nothing that a program can see, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Number of `f32` in a cache line.
const LINE: usize = 16;

/// Memory that is read soon. A computation requests its lines between its own steps: all at once they would fill the
/// queue of misses, and the processor would wait for it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ahead<'a> {
    /// The rest of the part whose turn it is.
    part: &'a [f32],
    later: [&'a [f32]; 4],
    next: usize,
    /// Steps for each part of the computation.
    pub(super) share: usize,
}

impl<'a> Ahead<'a> {
    pub(crate) fn new(parts: [&'a [f32]; 4]) -> Self {
        Self { later: parts, ..Self::default() }
    }

    /// Steps until nothing is left.
    pub(super) fn left(&self) -> usize {
        let later = self.later.iter().skip(self.next).map(|part| part.len().div_ceil(LINE) + 1);
        self.part.len().div_ceil(LINE) + later.sum::<usize>()
    }

    /// Requests the next line, or moves on to the next part.
    #[inline(always)]
    pub(super) fn step(&mut self) {
        if !self.part.is_empty() {
            prefetch_line(self.part.as_ptr());
            self.part = self.part.get(LINE..).unwrap_or_default();
        } else if let Some(part) = self.later.get(self.next) {
            self.part = part;
            self.next += 1;
        }
    }
}
