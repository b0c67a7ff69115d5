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

/// Kept vectors by capacity.
type Store = BTreeMap<usize, Vec<Vec<f32>>>;

static STORE: Mutex<Store> = Mutex::new(Store::new());

fn store() -> MutexGuard<'static, Store> {
    // The map is whole after any single operation, so a panic elsewhere leaves it usable.
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a vector of `len` values, whatever they are, from the store, or a new one of zeros. A kept vector serves
/// lengths down to half its capacity, so that a smaller last batch needs no memory of its own.
pub fn take(len: usize) -> Vec<f32> {
    let kept = {
        let mut store = store();
        let mut fitting = store.range_mut(len..=2 * len);
        fitting.find_map(|(_, list)| list.pop())
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
        store().entry(values.capacity()).or_default().push(values);
    }
}

/// Frees everything that the store keeps: after operations were pruned or the batch size changed. Returns the number
/// of bytes freed.
pub fn clear() -> usize {
    let kept = std::mem::take(&mut *store());
    kept.iter().map(|(capacity, list)| capacity * list.len() * size_of::<f32>()).sum()
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

    #[test]
    fn a_dropped_buffer_is_taken_again() {
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
    fn a_smaller_request_is_served_by_a_larger_vector() {
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
