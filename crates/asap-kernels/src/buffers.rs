//! Memory that is kept between steps: a step of the search touches the same sizes again and again, and fresh memory
//! would cost page faults each time.

use std::collections::HashMap;
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

static STORE: Mutex<Option<HashMap<usize, Vec<Vec<f32>>>>> = Mutex::new(None);

fn store() -> MutexGuard<'static, Option<HashMap<usize, Vec<Vec<f32>>>>> {
    // The map is whole after any single operation, so a panic elsewhere leaves it usable.
    STORE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a vector of `len` values, whatever they are, from the store, or a new one of zeros.
pub fn take(len: usize) -> Vec<f32> {
    let kept = store().as_mut().and_then(|map| map.get_mut(&len)?.pop());
    kept.unwrap_or_else(|| vec![0.0; len])
}

/// Gives a vector back to the store, for the next [`take`] of its length.
pub fn give(values: Vec<f32>) {
    if !values.is_empty() {
        store().get_or_insert_default().entry(values.len()).or_default().push(values);
    }
}

/// Frees everything that the store keeps: after operations were pruned or the batch size changed. Returns the number
/// of bytes freed.
pub fn clear() -> usize {
    let map = store().take().unwrap_or_default();
    map.iter().map(|(len, list)| len * list.len() * size_of::<f32>()).sum()
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
}
