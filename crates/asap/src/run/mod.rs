//! A run: what it reports, and its folder.

pub mod checkpoint;
pub mod folder;
pub mod memory;
pub(crate) mod pace;
pub mod record;
pub mod spread;
pub mod tables;
mod tensorboard;
