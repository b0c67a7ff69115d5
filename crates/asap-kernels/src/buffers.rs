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
    /// By capacity; with each vector how many trims there had been when it was given.
    vectors: BTreeMap<usize, Vec<(u64, Vec<f32>)>>,
    trims: u64,
}

static STORE: Mutex<Store> = Mutex::new(Store { vectors: BTreeMap::new(), trims: 0 });

fn store() -> MutexGuard<'static, Store> {
    // The map is whole after any single operation, so a panic elsewhere leaves it usable.
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a vector of `len` values, whatever they are, from the store, or a new one of zeros. A kept vector serves
/// lengths down to half its capacity, so that a smaller last batch needs no memory of its own.
pub fn take(len: usize) -> Vec<f32> {
    let kept = {
        let mut store = store();
        let mut fitting = store.vectors.range_mut(len..=2 * len);
        fitting.find_map(|(_, list)| Some(list.pop()?.1))
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
pub fn give(values: Vec<f32>) {
    if values.capacity() > 0 {
        let mut store = store();
        let given = (store.trims, values);
        store.vectors.entry(given.1.capacity()).or_default().push(given);
    }
}

/// Frees what was not in use since the last trim, as after operations were pruned. To free everything at once would cost
/// the next step a page fault for all that it still needs. Returns the number of bytes freed.
pub fn trim() -> usize {
    let mut store = store();
    let trims = store.trims;
    store.trims += 1;
    let mut freed = 0;
    for (capacity, list) in &mut store.vectors {
        let before = list.len();
        list.retain(|&(given, _)| given == trims);
        freed += (before - list.len()) * capacity * size_of::<f32>();
    }
    store.vectors.retain(|_, list| !list.is_empty());
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
