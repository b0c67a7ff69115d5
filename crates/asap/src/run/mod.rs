//! A run: its loop, its reports, and its folder.

pub mod checkpoint;
pub(crate) mod driver;
pub mod folder;
mod pace;
pub mod ranks;
pub mod record;
pub mod sink;
pub mod spread;
pub mod tables;
#[cfg(feature = "tensorboard")]
mod tensorboard;
