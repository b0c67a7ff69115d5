//! Memory that is kept between steps: a step of the search touches the same sizes again and again, and fresh memory
//! would cost page faults each time.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A buffer of `f32`, aligned to a cache line, that goes back to the common store when dropped.
#[derive(Debug, Default)]
pub struct Buffer {
    values: Vec<f32>,
    first: usize,
    len: usize,
}

/// `f32` in a cache line.
const LINE: usize = 16;

/// What is kept.
struct Store {
    /// By capacity.
    shelves: BTreeMap<usize, Shelf>,
    trims: u64,
}

/// Vectors of one capacity.
#[derive(Default)]
struct Shelf {
    /// With each vector how many trims there had been when it was given.
    vectors: Vec<(u64, Vec<f32>)>,
    /// Vectors taken since the last trim, less those given since.
    taken: usize,
}

static STORE: Mutex<Store> = Mutex::new(Store { shelves: BTreeMap::new(), trims: 0 });

fn store() -> MutexGuard<'static, Store> {
    // The map is whole after any single operation, so a panic elsewhere leaves it usable.
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a vector of `len` values, whatever they are, from the store, or a new one of zeros. A kept vector serves
/// lengths down to half its capacity, so that a smaller last batch needs no memory of its own.
pub fn take(len: usize) -> Vec<f32> {
    let kept = {
        let mut store = store();
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

/// Gives a vector back to the store, for the next [`take`] that it fits.
///
/// A vector may come from elsewhere, as in exchange for one that was taken and went into a tensor; but the store keeps
/// no more of one capacity than were taken, or it would grow with every vector that others make. What it does not keep
/// is freed.
pub fn give(values: Vec<f32>) {
    let mut store = store();
    let trims = store.trims;
    if let Some(shelf) = store.shelves.get_mut(&values.capacity())
        && shelf.taken > 0
    {
        shelf.taken -= 1;
        shelf.vectors.push((trims, values));
    }
}

/// Frees what was not in use since the last trim, as after operations were pruned. To free everything at once would cost
/// the next step a page fault for all that it still needs. Returns the number of bytes freed.
pub fn trim() -> usize {
    let mut store = store();
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

impl Buffer {
    /// A buffer of `len` zeros from the store.
    pub fn zeros(len: usize) -> Self {
        let mut buffer = Self::new(len);
        buffer.fill(0.0);
        buffer
    }

    /// A buffer of `len` values from the store; they are whatever they were.
    pub fn new(len: usize) -> Self {
        if len == 0 {
            return Self::default();
        }
        let values = take(len + LINE - 1);
        let first = values.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE - 1);
        Self { values, first, len }
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
        give(std::mem::take(&mut self.values));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The store is one for all tests.
    static ALONE: Mutex<()> = Mutex::new(());

    fn alone() -> MutexGuard<'static, ()> {
        ALONE.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[test]
    fn a_dropped_buffer_is_taken_again() {
        let _alone = alone();
        let len = 12_347;
        let mut first = Buffer::new(len);
        first[len - 1] = 7.0;
        let address = first.as_ptr();
        drop(first);
        let second = Buffer::new(len);
        assert_eq!((second.as_ptr(), second[len - 1]), (address, 7.0));
        assert_ne!(Buffer::new(len).as_ptr(), address);
    }

    #[test]
    fn what_is_in_use_survives_a_trim_and_what_is_not_does_not() {
        let _alone = alone();
        let len = 1_234_567;
        let (used, idle) = (take(len), take(len));
        give(idle);
        give(used);
        // The first trim keeps both: both were in use since the one before it.
        trim();
        let used = take(len);
        let address = used.as_ptr();
        give(used);
        assert!(trim() >= len * size_of::<f32>());
        let again = take(len);
        assert_eq!(again.as_ptr(), address);
        let fresh = take(len);
        assert_ne!(fresh.as_ptr(), address);
    }

    #[test]
    fn no_more_is_kept_than_was_taken() {
        let _alone = alone();
        let len = 200_003;
        give(vec![1.0; len]);
        assert_eq!(take(len)[0], 0.0);

        // In exchange for the one that went away, another is kept; a second is not.
        give(vec![2.0; len]);
        give(vec![3.0; len]);
        assert_eq!((take(len)[0], take(len)[0]), (2.0, 0.0));
    }

    #[test]
    fn a_smaller_request_is_served_by_a_larger_vector() {
        let _alone = alone();
        let len = 77_773;
        let mut values = take(len);
        values[0] = 7.0;
        let (address, capacity) = (values.as_ptr(), values.capacity());
        give(values);
        let smaller = take(capacity.div_ceil(2));
        assert_eq!((smaller.as_ptr(), smaller.len()), (address, capacity.div_ceil(2)));
        give(smaller);
        let whole = take(len);
        assert_eq!((whole.as_ptr(), whole.len(), whole[0]), (address, len, 7.0));
        give(whole);
        let too_small = take(capacity.div_ceil(2) - 1);
        assert_ne!(too_small.as_ptr(), address);
    }
}
