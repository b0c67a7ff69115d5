//! A run: its loop, its records, and its folder.

pub mod checkpoint;
pub(crate) mod driver;
pub(crate) mod epochs;
pub mod folder;
mod pace;
pub mod ranks;
pub mod record;
pub mod sink;
pub(crate) mod speed;
pub mod spread;
pub mod tables;
#[cfg(feature = "tensorboard")]
mod tensorboard;
pub(crate) mod threads;
