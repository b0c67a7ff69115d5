//! What can be wrong with a call: [`KernelError`].

/// A result whose error is a [`KernelError`].
pub type Result<T> = std::result::Result<T, KernelError>;

/// A call that these kernels refuse, found before anything is computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    /// A slice does not hold what its shape says.
    #[error(
        "{what}: expected {expected} values ({shape}), found {found}; pass the tensor of that shape, contiguous"
    )]
    Length {
        /// Which slice.
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
        /// Which list.
        what: String,
        /// What each entry belongs to.
        per: &'static str,
        /// The number needed.
        expected: usize,
        /// The number given.
        found: usize,
    },
    /// An edge that cannot be built.
    #[error("{field} of the edge: expected {expected}, found {found}; {remedy}")]
    Spec {
        /// The field of the specification.
        field: &'static str,
        /// What it may be.
        expected: String,
        /// What it is.
        found: String,
        /// What to do.
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
        let expected = shape.iter().product();
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
