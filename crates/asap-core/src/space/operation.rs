//! The operations that an edge of a cell can carry.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// An operation on a feature map, named as in the code of DARTS and NAS-Bench-201.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Operation {
    /// No connection: a map of zeros.
    None,
    /// Maximum over 3x3 pixels.
    MaxPool3x3,
    /// Average over 3x3 pixels, not counting the padding.
    AvgPool3x3,
    /// The identity; at stride 2 a factorized reduce.
    SkipConnect,
    /// Separable 3x3 convolution, twice.
    SepConv3x3,
    /// Separable 5x5 convolution, twice.
    SepConv5x5,
    /// Separable 7x7 convolution, twice.
    SepConv7x7,
    /// Separable 3x3 convolution with dilation 2.
    DilConv3x3,
    /// Separable 5x5 convolution with dilation 2.
    DilConv5x5,
    /// A 1x7 convolution followed by a 7x1 convolution.
    Conv7x1Then1x7,
    /// Full 1x1 convolution.
    NorConv1x1,
    /// Full 3x3 convolution.
    NorConv3x3,
}

/// The layers of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OperationKind {
    /// A map of zeros.
    None,
    /// Maximum over 3x3 pixels, padding 1.
    MaxPool,
    /// Average over 3x3 pixels, padding 1 and not counted.
    AvgPool,
    /// Identity, or a factorized reduce at stride 2.
    Skip,
    /// ReLU, depthwise kxk, 1x1, BN, and the same again at stride 1.
    SepConv {
        /// Side of the depthwise kernel.
        kernel: usize,
    },
    /// ReLU, depthwise kxk with dilation 2, 1x1, BN.
    DilConv {
        /// Side of the depthwise kernel.
        kernel: usize,
    },
    /// ReLU, full 1x7, full 7x1, BN.
    Conv7x1Then1x7,
    /// ReLU, full kxk, BN.
    Conv {
        /// Side of the kernel.
        kernel: usize,
    },
}

/// One line per operation: the name in a genotype, the short name, and its layers.
#[rustfmt::skip]
const TABLE: [(Operation, &str, &str, OperationKind); 12] = [
    (Operation::None,           "none",         "none", OperationKind::None),
    (Operation::MaxPool3x3,     "max_pool_3x3", "mp",   OperationKind::MaxPool),
    (Operation::AvgPool3x3,     "avg_pool_3x3", "ap",   OperationKind::AvgPool),
    (Operation::SkipConnect,    "skip_connect", "sk",   OperationKind::Skip),
    (Operation::SepConv3x3,     "sep_conv_3x3", "s3",   OperationKind::SepConv { kernel: 3 }),
    (Operation::SepConv5x5,     "sep_conv_5x5", "s5",   OperationKind::SepConv { kernel: 5 }),
    (Operation::SepConv7x7,     "sep_conv_7x7", "s7",   OperationKind::SepConv { kernel: 7 }),
    (Operation::DilConv3x3,     "dil_conv_3x3", "d3",   OperationKind::DilConv { kernel: 3 }),
    (Operation::DilConv5x5,     "dil_conv_5x5", "d5",   OperationKind::DilConv { kernel: 5 }),
    (Operation::Conv7x1Then1x7, "conv_7x1_1x7", "c71",  OperationKind::Conv7x1Then1x7),
    (Operation::NorConv1x1,     "nor_conv_1x1", "n1",   OperationKind::Conv { kernel: 1 }),
    (Operation::NorConv3x3,     "nor_conv_3x3", "n3",   OperationKind::Conv { kernel: 3 }),
];

impl Operation {
    /// Every operation, in the order of the enum.
    pub fn all() -> impl Iterator<Item = Operation> {
        TABLE.iter().map(|row| row.0)
    }

    /// The name in a genotype: "sep_conv_3x3".
    pub fn name(self) -> &'static str {
        TABLE[self as usize].1
    }

    /// A name of two or three letters for tables and plots: "s3".
    pub fn short(self) -> &'static str {
        TABLE[self as usize].2
    }

    /// Its layers.
    pub fn kind(self) -> OperationKind {
        TABLE[self as usize].3
    }

    /// True for poolings.
    pub fn is_pool(self) -> bool {
        matches!(self.kind(), OperationKind::MaxPool | OperationKind::AvgPool)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Reads a full or a short name.
///
/// # Errors
/// [`Error::UnknownName`] that lists the names.
impl FromStr for Operation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        TABLE
            .iter()
            .find(|row| row.1 == text || row.2 == text)
            .map(|row| row.0)
            .ok_or_else(|| Error::unknown("operation", text, TABLE.iter().map(|row| row.1)))
    }
}

impl From<Operation> for &'static str {
    fn from(operation: Operation) -> Self {
        operation.name()
    }
}

impl TryFrom<String> for Operation {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_the_enum_and_its_names_are_unique() {
        for (index, row) in TABLE.iter().enumerate() {
            assert_eq!(row.0 as usize, index);
            assert_eq!(row.1.parse(), Ok(row.0));
            assert_eq!(row.2.parse(), Ok(row.0));
        }
    }

    #[test]
    fn json_is_the_name_and_an_unknown_name_lists_the_choices() {
        let json = serde_json::to_string(&Operation::Conv7x1Then1x7).unwrap();
        assert_eq!(json, "\"conv_7x1_1x7\"");
        assert_eq!(serde_json::from_str::<Operation>(&json).unwrap(), Operation::Conv7x1Then1x7);
        let error = "sep_conv_9x9".parse::<Operation>().unwrap_err().to_string();
        assert!(
            error.contains("`sep_conv_9x9`")
                && error.contains("conv_7x1_1x7, nor_conv_1x1, nor_conv_3x3")
        );
    }
}
