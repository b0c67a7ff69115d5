//! Errors in the input of this crate.

/// An error in the input: what was expected, what was found, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A name outside its set.
    #[error("unknown {what} `{found}`; choose one of: {choices}")]
    UnknownName {
        /// The set of names: "operation", "cell", ...
        what: &'static str,
        /// The name that was given.
        found: String,
        /// The known names, separated by commas.
        choices: String,
    },
    /// A genotype text that cannot be parsed.
    #[error("line {line}, column {column} of the genotype: {reason}")]
    Parse {
        /// Line of the error, from 1.
        line: usize,
        /// Column of the error in characters, from 1.
        column: usize,
        /// Expected and found text.
        reason: String,
    },
    /// An invalid cell.
    #[error("{place}: {reason}")]
    Cell {
        /// The cell, node or list in error.
        place: String,
        /// Expected and found contents.
        reason: String,
    },
    /// A value outside its range.
    #[error("`{key}` is {found}; expected {expected}")]
    Value {
        /// The name of the value.
        key: &'static str,
        /// The value that was given.
        found: String,
        /// The allowed values.
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
