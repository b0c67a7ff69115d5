//! From bytes to batches: image data set readers, seeded splits, augmentation and a prefetching loader.
//!
//! Data flow: [`DataSpec`] -> [`load`] -> [`Splits`] of [`Dataset`]s -> [`stratified_halves`] ->
//! [`Loader`] -> [`Batch`]. The crate knows nothing of networks, and the same seed gives the same bytes on any
//! machine and with any number of threads.

mod augment;
mod catalogue;
mod cifar;
mod dataset;
mod describe;
mod embedded;
mod error;
mod folder;
mod idx;
mod listing;
mod loader;
mod normalization;
mod operation;
mod options;
mod picture;
mod policy;
mod random;
mod source;
mod split;

pub use augment::Augment;
pub use catalogue::{DatasetName, KnownDataset, known};
pub use dataset::{Dataset, Splits};
pub use describe::{Description, SplitDescription, describe};
pub use error::DataError;
pub use listing::is_litter;
pub use loader::{Batch, EpochIter, Loader};
pub use normalization::{Normalization, normalization};
pub use options::LoadOptions;
pub use picture::{FEW_BITS, IMAGE_ENDINGS, Picture, read_image, read_picture};
pub use policy::Policy;
pub use random::fnv1a;
pub use source::{DataSpec, load};
pub use split::stratified_halves;
