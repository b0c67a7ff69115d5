//! A trained network in forms that other tools read.

mod onnx;
mod proto;
mod pytorch;

pub use self::onnx::{Input, onnx};
pub use self::pytorch::pytorch;
