//! Options for reading a data set.

use std::path::PathBuf;

use crate::error::DataError;
use crate::pixels::{check_channels, check_size};
use crate::split::stratified_halves;

/// Options for reading a data set.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// Height and width to resize to; by default the size in the files, for a folder of images that of half of them, or the median.
    pub size: Option<(usize, usize)>,
    /// 1 to read all images in grey, 3 in colour; by default as they are, a folder with any colour image in colour.
    pub channels: Option<usize>,
    /// Seed of the split and of the selection for `limit`.
    pub seed: u64,
    /// Fraction of a folder without `train/` and `test/` that becomes the test set, in `0..1`.
    pub test_fraction: f64,
    /// Skip undecodable image files with a warning instead of failing.
    pub skip_corrupt: bool,
    /// Largest number of images per part; a stratified selection, by seed.
    pub limit: Option<usize>,
    /// Bytes that images may take in memory. If they take more, they are read again in every epoch, with the same result. By default
    /// there is no limit; 0 reads each image when it is needed.
    pub memory: Option<u64>,
    /// The folder in which archives are unpacked; by default `asap/unpacked` in the user's cache.
    pub cache: Option<PathBuf>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            size: None,
            channels: None,
            seed: 0,
            test_fraction: 0.2,
            skip_corrupt: false,
            limit: None,
            memory: None,
            cache: None,
        }
    }
}

impl LoadOptions {
    pub(crate) fn check(&self) -> Result<(), DataError> {
        if let Some((height, width)) = self.size {
            check_size(height, width)?;
        }
        if let Some(channels) = self.channels {
            check_channels(channels)?;
        }
        if !(0.0..1.0).contains(&self.test_fraction) {
            return Err(DataError::argument(
                "test_fraction",
                "a number from 0 to less than 1",
                self.test_fraction,
            ));
        }
        match self.limit {
            Some(0) => Err(DataError::argument("limit", "at least 1 image", 0)),
            _ => Ok(()),
        }
    }

    /// The sorted images within the limit; `None` for all of them.
    pub(crate) fn choose(&self, labels: &[u16], classes: usize) -> Option<Vec<usize>> {
        let limit = self.limit.filter(|&limit| limit < labels.len())?;
        let fraction = limit as f64 / labels.len() as f64;
        Some(stratified_halves(labels, classes, fraction, self.seed).0)
    }
}
