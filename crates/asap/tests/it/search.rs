//! Whole searches on small data.
