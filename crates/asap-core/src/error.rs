//! Everything that can be wrong with what a caller hands to this crate.

/// A fault in the input: what was expected, what was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name that is not in one of our sets.
    #[error("unknown {what} `{found}`; choose one of: {choices}")]
    UnknownName {
        /// Which set was asked: "operation", "cell", ...
        what: &'static str,
        /// The name that was given.
        found: String,
        /// The names that exist, separated by commas.
        choices: String,
    },
    /// A genotype text that cannot be read.
    #[error("line {line}, column {column} of the genotype: {reason}")]
    Parse {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault in characters, from 1.
        column: usize,
        /// The expected and the found.
        reason: String,
    },
    /// A cell that cannot be built.
    #[error("{place}: {reason}")]
    Cell {
        /// The cell, node or list at fault.
        place: String,
        /// The expected and the found.
        reason: String,
    },
    /// A value outside its range.
    #[error("`{key}` is {found}; expected {expected}")]
    Value {
        /// The name of the value.
        key: &'static str,
        /// The value that was given.
        found: String,
        /// The values that are allowed.
        expected: String,
    },
}

impl Error {
    /// A name outside a set, with the names of the set.
    pub(crate) fn unknown<'a>(
        what: &'static str,
        found: &str,
        choices: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        Self::UnknownName {
            what,
            found: found.to_owned(),
            choices: choices.into_iter().collect::<Vec<_>>().join(", "),
        }
    }

    /// A value outside its range.
    pub(crate) fn value(
        key: &'static str,
        found: impl std::fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::Value { key, found: found.to_string(), expected: expected.into() }
    }
}
