//! Networks as plain data, and what they cost.

pub mod cost;
