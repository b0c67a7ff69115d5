//! A trained network in the formats of other tools.

mod onnx;
mod proto;
mod pytorch;

pub use self::onnx::{Input, onnx};
pub use self::pytorch::pytorch;
