//! Invalid calls: [`KernelError`].

/// A result whose error is a [`KernelError`].
pub type Result<T> = std::result::Result<T, KernelError>;

/// An invalid call, detected before anything is computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// The length of a slice does not match its shape.
    #[error(
        "{what}: expected {expected} values ({shape}), found {found}; pass a contiguous tensor of that shape"
    )]
    Length {
        /// The slice.
        what: String,
        /// Its shape, spelled out.
        shape: String,
        /// The number of values of that shape.
        expected: usize,
        /// The number of values in the slice.
        found: usize,
    },
    /// A list has the wrong number of entries.
    #[error("{what}: expected {expected} entries, found {found}; give one per {per}")]
    Count {
        /// The list.
        what: String,
        /// The item that each entry belongs to.
        per: &'static str,
        /// The required number.
        expected: usize,
        /// The number found.
        found: usize,
    },
    /// An edge that cannot be built.
    #[error("{field} of the edge: expected {expected}, found {found}; {remedy}")]
    Spec {
        /// The field of the specification.
        field: &'static str,
        /// The allowed values.
        expected: String,
        /// The value found.
        found: String,
        /// The remedy.
        remedy: &'static str,
    },
}

impl KernelError {
    /// Checks the length of a slice against a shape.
    pub(crate) fn check_len(
        what: impl Fn() -> String,
        shape: &[usize],
        found: usize,
    ) -> Result<()> {
        // An overflow that wrapped around could pass; no slice is as long as the largest usize.
        let expected = shape.iter().fold(1, |len: usize, extent| len.saturating_mul(*extent));
        if expected == found {
            return Ok(());
        }
        Err(Self::Length { what: what(), shape: format!("{shape:?}"), expected, found })
    }

    /// Checks the number of entries of a list.
    pub(crate) fn check_count(
        what: impl Fn() -> String,
        per: &'static str,
        expected: usize,
        found: usize,
    ) -> Result<()> {
        if expected == found {
            return Ok(());
        }
        Err(Self::Count { what: what(), per, expected, found })
    }
}
