//! What the methods compute with: Adam, an LSTM, draws, the normal distribution, vectors. Nothing here knows a search.

pub(crate) mod adam;
pub(crate) mod draw;
pub(crate) mod lstm;
pub(crate) mod normal;
pub(crate) mod vector;
