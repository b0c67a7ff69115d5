//! Integration tests of the library: against PyTorch's numbers, and whole searches.

mod goldens;
mod search;
