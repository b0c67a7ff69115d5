//! Random numbers that depend on the place of use, never on the order or the thread.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// A purpose of random numbers; each has its own stream.
#[derive(Clone, Copy)]
pub(crate) enum Stream {
    Split = 1,
    Shuffle = 2,
    Augment = 3,
}

/// A generator for one purpose, epoch and index; with the seed these form the key of ChaCha8.
pub(crate) fn generator(seed: u64, stream: Stream, epoch: u64, index: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, stream as u64, epoch, index]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// FNV-1a, of 64 bits: the same number for the same bytes on every machine.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    let (offset, prime) = (0xcbf2_9ce4_8422_2325, 0x0100_0000_01b3);
    bytes.iter().fold(offset, |hash: u64, &byte| (hash ^ u64::from(byte)).wrapping_mul(prime))
}
