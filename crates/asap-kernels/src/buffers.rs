//! Memory that is kept between steps: a step of the search touches the same sizes again and again, and fresh memory
//! would cost page faults each time.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store of vectors of `f32` that steps share: a cheap handle, whose clones share the store. Its owner decides what
/// shares memory and when it is freed; the last handle frees all of it.
#[derive(Clone, Default)]
pub struct Buffers(Arc<Mutex<Store>>);

/// A buffer of `f32`, aligned to a cache line, that goes back to the store it came from when dropped.
#[derive(Debug)]
pub(crate) struct Buffer {
    from: Buffers,
    values: Vec<f32>,
    first: usize,
    len: usize,
}

/// Number of `f32` in a cache line.
const LINE: usize = 16;

/// The vectors that are kept.
#[derive(Default)]
struct Store {
    /// By capacity.
    shelves: BTreeMap<usize, Shelf>,
    trims: u64,
}

/// Vectors of one capacity.
#[derive(Default)]
struct Shelf {
    /// Each vector with the number of trims before it was given.
    vectors: Vec<(u64, Vec<f32>)>,
    /// Vectors taken since the last trim, less those given since.
    taken: usize,
}

impl Buffers {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        // The map is whole after any single operation, so a panic elsewhere leaves it usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a vector of `len` values, with arbitrary contents, from the store, or a new one of zeros. A kept vector serves
    /// lengths down to half its capacity, so that a smaller last batch needs no memory of its own.
    pub fn take(&self, len: usize) -> Vec<f32> {
        let kept = {
            let mut store = self.store();
            let mut fitting = store.shelves.range_mut(len..=2 * len);
            let kept = fitting.find_map(|(_, shelf)| {
                let (_, values) = shelf.vectors.pop()?;
                shelf.taken += 1;
                Some(values)
            });
            if kept.is_none() {
                store.shelves.entry(len).or_default().taken += 1;
            }
            kept
        };
        kept.map_or_else(
            || vec![0.0; len],
            |mut values| {
                values.resize(len, 0.0);
                values
            },
        )
    }

    /// Gives a vector back to the store, for the next [`Buffers::take`] that it fits.
    ///
    /// A vector may come from elsewhere, for example in exchange for one that was taken and moved into a tensor; but the
    /// store keeps no more vectors of a capacity than were taken, otherwise it would grow with every vector that others
    /// make. It frees those that it does not keep.
    pub fn give(&self, values: Vec<f32>) {
        let mut store = self.store();
        let trims = store.trims;
        if let Some(shelf) = store.shelves.get_mut(&values.capacity())
            && shelf.taken > 0
        {
            shelf.taken -= 1;
            shelf.vectors.push((trims, values));
        }
    }

    /// Frees the vectors that were not in use since the last trim, for example after pruning. Freeing everything at once
    /// would cost the next step a page fault for everything that it still needs. Returns the number of bytes freed.
    pub fn trim(&self) -> usize {
        let mut store = self.store();
        let trims = store.trims;
        store.trims += 1;
        let mut freed = 0;
        for (capacity, shelf) in &mut store.shelves {
            let before = shelf.vectors.len();
            shelf.vectors.retain(|&(given, _)| given == trims);
            freed += (before - shelf.vectors.len()) * capacity * size_of::<f32>();
            shelf.taken = 0;
        }
        store.shelves.retain(|_, shelf| !shelf.vectors.is_empty());
        freed
    }

    /// A buffer of `len` values from the store, with arbitrary contents.
    pub(crate) fn buffer(&self, len: usize) -> Buffer {
        let (mut values, mut first) = (Vec::new(), 0);
        if len > 0 {
            values = self.take(len + LINE - 1);
            first = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        }
        Buffer { from: self.clone(), values, first, len }
    }
}

impl fmt::Debug for Buffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let store = self.store();
        let bytes =
            |(capacity, shelf): (&usize, &Shelf)| shelf.vectors.len() * capacity * size_of::<f32>();
        f.debug_struct("Buffers")
            .field("kept_bytes", &store.shelves.iter().map(bytes).sum::<usize>())
            .finish()
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.first..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.first..][..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.len > 0 {
            self.from.give(std::mem::take(&mut self.values));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_taken_again() {
        let buffers = Buffers::new();
        let len = 12_347;
        let mut first = buffers.buffer(len);
        first[len - 1] = 7.0;
        let address = first.as_ptr();
        drop(first);
        let second = buffers.buffer(len);
        assert_eq!((second.as_ptr(), second[len - 1]), (address, 7.0));
        assert_ne!(buffers.buffer(len).as_ptr(), address);
    }

    #[test]
    fn what_is_in_use_survives_a_trim_and_what_is_not_does_not() {
        let buffers = Buffers::new();
        let len = 1_234_567;
        let (used, idle) = (buffers.take(len), buffers.take(len));
        buffers.give(idle);
        buffers.give(used);
        // The first trim keeps both: both were in use since the one before it.
        buffers.trim();
        let used = buffers.take(len);
        let address = used.as_ptr();
        buffers.give(used);
        assert!(buffers.trim() >= len * size_of::<f32>());
        let again = buffers.take(len);
        assert_eq!(again.as_ptr(), address);
        let fresh = buffers.take(len);
        assert_ne!(fresh.as_ptr(), address);
    }

    #[test]
    fn no_more_is_kept_than_was_taken() {
        let buffers = Buffers::new();
        let len = 200_003;
        buffers.give(vec![1.0; len]);
        assert_eq!(buffers.take(len)[0], 0.0);

        // In exchange for the one that went away, another is kept; a second is not.
        buffers.give(vec![2.0; len]);
        buffers.give(vec![3.0; len]);
        assert_eq!((buffers.take(len)[0], buffers.take(len)[0]), (2.0, 0.0));
    }

    #[test]
    fn a_smaller_request_is_served_by_a_larger_vector() {
        let buffers = Buffers::new();
        let len = 77_773;
        let mut values = buffers.take(len);
        values[0] = 7.0;
        let (address, capacity) = (values.as_ptr(), values.capacity());
        buffers.give(values);
        let smaller = buffers.take(capacity.div_ceil(2));
        assert_eq!((smaller.as_ptr(), smaller.len()), (address, capacity.div_ceil(2)));
        buffers.give(smaller);
        let whole = buffers.take(len);
        assert_eq!((whole.as_ptr(), whole.len(), whole[0]), (address, len, 7.0));
        buffers.give(whole);
        let too_small = buffers.take(capacity.div_ceil(2) - 1);
        assert_ne!(too_small.as_ptr(), address);
    }

    #[test]
    fn a_clone_shares_the_store_and_another_store_does_not() {
        let (one, other) = (Buffers::new(), Buffers::new());
        let values = one.take(12_347);
        let address = values.as_ptr();
        // Both stores wait for a vector of this length; the one that receives it keeps it.
        let fresh = other.take(12_347);
        one.give(values);
        let (of_other, of_clone) = (other.take(12_347), one.clone().take(12_347));
        assert_ne!(of_other.as_ptr(), address);
        assert_eq!(of_clone.as_ptr(), address);
        other.give(fresh);
        assert_eq!((one.trim(), one.trim()), (0, 0));
        assert_eq!((other.trim(), other.trim()), (0, 12_347 * size_of::<f32>()));
    }

    #[test]
    fn a_buffer_goes_back_to_its_own_store() {
        let (one, other) = (Buffers::new(), Buffers::new());
        drop((one.buffer(100), other.buffer(200)));
        let kept = |buffers: &Buffers| (buffers.trim(), buffers.trim()).1 / size_of::<f32>();
        assert_eq!((kept(&one), kept(&other)), (100 + LINE - 1, 200 + LINE - 1));
    }

    #[test]
    fn debug_output_holds_sizes_and_no_values() {
        let buffers = Buffers::new();
        drop(buffers.buffer(1));
        assert_eq!(format!("{buffers:?}"), "Buffers { kept_bytes: 64 }");
    }
}
