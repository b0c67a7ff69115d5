//! From bytes to batches: image data set readers, seeded splits, augmentation and a prefetching loader.
//!
//! Data flow: [`DataSpec`] -> [`load`] -> [`Splits`] of [`Dataset`]s -> [`stratified_halves`] ->
//! [`Loader`] -> [`Batch`]. The crate knows nothing of networks, and the same seed gives the same bytes on any
//! machine and with any number of threads.

mod archive;
mod augment;
mod cache;
mod catalogue;
mod cifar;
mod dataset;
mod describe;
mod embedded;
mod encoded;
mod error;
mod folder;
mod guard;
mod hub;
mod idx;
mod list;
mod listing;
mod loader;
mod mat;
mod normalization;
mod npz;
mod operation;
mod options;
mod packed;
mod parts;
mod pickle;
mod picture;
mod pixels;
mod policy;
mod published;
mod random;
mod source;
mod split;
pub mod text;

pub use augment::{Augment, Border};
pub use cache::cache_folder;
pub use catalogue::{DatasetName, KnownDataset, known};
pub use dataset::{Dataset, ImageSource};
pub use describe::{Description, Fault, FaultKind, SplitDescription, describe};
pub use error::DataError;
pub use listing::{is_image, is_litter};
pub use loader::{Batch, EpochIter, Loader};
pub use normalization::{Normalization, normalization, normalization_of};
pub use options::LoadOptions;
pub use packed::pack;
pub use parts::Splits;
pub use picture::{FEW_BITS, IMAGE_ENDINGS, Picture, read_image, read_picture};
pub use policy::Policy;
pub use random::fnv1a;
pub use source::{DataSpec, load};
pub use split::{stratified_halves, stratified_parts_of};
