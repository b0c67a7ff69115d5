//! What a network is built of: the cells of a genotype, or the blocks of a plain network.

use std::fmt;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Family, Genotype};

/// The design of a network that is trained; its size is a [`NetworkShape`](super::NetworkShape).
///
/// In JSON the genotype itself, or the name of a plain network as a string.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Design {
    /// Cells of this genotype.
    Cells(Genotype),
    /// A plain network, which nobody had to search for.
    Plain(PlainNetwork),
}

/// A network of one of these forms; its text is `resnet-20`, `mobilenet-20` (or another depth) or `resnet-9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlainNetwork(Form);

/// The form of a plain network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Form {
    /// See [`Stages`].
    Stages(Stages),
    /// The network with which Page trained CIFAR-10 in the shortest time (DAWNBench, 2018): a 3x3 convolution to C channels, then to
    /// 2C, 4C and 8C, each followed by a 3x3 max pool of stride 2 (his is 2x2), and a residual block of two convolutions after the first and
    /// the last of them. Its wide convolutions see small maps, which suits short trainings.
    Nine,
}

/// A residual network of the form that He et al. (arXiv 1512.03385, section 4.2) made for CIFAR: a 3x3 convolution, three
/// stages of `n` residual blocks of two convolutions each, and a classifier. The first block of the second and of the third stage
/// doubles the channels and halves the size. Depth counts the convolutions and the classifier, `6 n + 2`.
///
/// Unlike theirs, blocks are in the order ReLU, convolution, batch norm, and shortcuts that change the size are a 2x2 average pool
/// and a 1x1 convolution, as between the stages of NAS-Bench-201 (arXiv 2001.00326, section 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stages {
    pub(super) convolution: Convolution,
    /// Blocks of a stage.
    pub(super) blocks: usize,
}

/// The 3x3 convolutions of a plain network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Convolution {
    /// Full ones: a ResNet.
    Full,
    /// Depthwise ones, each followed by a 1x1 convolution, as in MobileNet (arXiv 1704.04861, section 3.1).
    Separable,
}

/// The most blocks of a stage, of a network of 1,202 layers.
const MOST_BLOCKS: usize = 200;

impl Design {
    /// The genotype, if the network has cells.
    pub fn genotype(&self) -> Option<&Genotype> {
        match self {
            Self::Cells(genotype) => Some(genotype),
            Self::Plain(_) => None,
        }
    }

    /// The family of its cells, if it has any.
    pub fn family(&self) -> Option<Family> {
        self.genotype().map(Genotype::family)
    }
}

impl From<Genotype> for Design {
    fn from(genotype: Genotype) -> Self {
        Self::Cells(genotype)
    }
}

impl From<PlainNetwork> for Design {
    fn from(network: PlainNetwork) -> Self {
        Self::Plain(network)
    }
}

impl fmt::Display for Design {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cells(genotype) => genotype.fmt(f),
            Self::Plain(network) => network.fmt(f),
        }
    }
}

impl Serialize for Design {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Cells(genotype) => genotype.serialize(serializer),
            Self::Plain(network) => serializer.collect_str(network),
        }
    }
}

impl<'de> Deserialize<'de> for Design {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Design;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a genotype, or the name of a plain network")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Design, E> {
                text.parse().map(Design::Plain).map_err(E::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Design, A::Error> {
                Genotype::deserialize(MapAccessDeserializer::new(map)).map(Design::Cells)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl PlainNetwork {
    /// The networks that are suggested by name.
    pub const NAMES: [&str; 3] = ["resnet-9", "resnet-20", "mobilenet-20"];

    pub(super) fn form(self) -> Form {
        self.0
    }

    /// Number of convolutions and linear layers from the images to the logits, shortcuts aside; a depthwise convolution counts
    /// as one with its 1x1 convolution.
    pub fn depth(self) -> usize {
        match self.0 {
            Form::Stages(Stages { blocks, .. }) => 6 * blocks + 2,
            Form::Nine => 9,
        }
    }
}

impl fmt::Display for PlainNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            Form::Stages(Stages { convolution: Convolution::Separable, .. }) => "mobilenet",
            Form::Stages(_) | Form::Nine => "resnet",
        };
        write!(f, "{name}-{}", self.depth())
    }
}

impl FromStr for PlainNetwork {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text == "resnet-9" {
            return Ok(Self(Form::Nine));
        }
        let unknown = || Error::unknown("plain network", text, Self::NAMES);
        let (name, depth) = text.split_once('-').ok_or_else(unknown)?;
        let convolution = match name {
            "resnet" => Convolution::Full,
            "mobilenet" => Convolution::Separable,
            _ => return Err(unknown()),
        };
        let depth: usize = depth.parse().map_err(|_| unknown())?;
        let blocks = depth.saturating_sub(2) / 6;
        let network = Self(Form::Stages(Stages { convolution, blocks }));
        if network.depth() != depth || !(1..=MOST_BLOCKS).contains(&blocks) {
            let expected = format!("6 n + 2 with n from 1 to {MOST_BLOCKS}, such as 20 or 56");
            return Err(Error::value("depth", depth, expected));
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PublishedCell;

    #[test]
    fn names_and_json_come_back() -> Result<(), Box<dyn std::error::Error>> {
        let cell: Design = PublishedCell::find("ASAP")?.genotype().into();
        for name in PlainNetwork::NAMES {
            let design: Design = name.parse::<PlainNetwork>()?.into();
            assert_eq!(design.to_string(), name);
            assert_eq!(serde_json::to_string(&design)?, format!("\"{name}\""));
            for design in [&design, &cell] {
                let json = serde_json::to_string(design)?;
                assert_eq!(serde_json::from_str::<Design>(&json)?, *design);
            }
        }
        assert_eq!(serde_json::to_string(&cell)?, serde_json::to_string(cell.genotype().unwrap())?);
        Ok(())
    }

    #[test]
    fn other_names_and_depths_are_refused_with_what_fits() {
        let fault = |text: &str| text.parse::<PlainNetwork>().unwrap_err().to_string();
        assert!(fault("vgg-16").contains("choose one of: resnet-9, resnet-20, mobilenet-20"));
        assert!(fault("resnet").contains("choose one of"));
        for depth in [0, 2, 18, 1208] {
            assert!(fault(&format!("resnet-{depth}")).contains("6 n + 2"), "{depth}");
        }
        assert!(serde_json::from_str::<Design>("17").is_err());
    }
}
