//! Exact size and work of a network, for estimates before anything is built.

use serde::{Deserialize, Serialize};

use super::Plan;
use super::design::Design;
use crate::space::Stacking;
use crate::{Architecture, Error, Genotype};

/// The cost of a network. Numbers too large for 64 bits saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Trained weights: convolutions, affine parameters of batch norms, linear layers.
    pub params: u64,
    /// Multiply-adds of convolutions and linear layers for one image.
    pub multiply_adds: u64,
    /// Elements in the outputs of all convolutions, poolings and linear layers for one image.
    ///
    /// A measure of training memory: times the bytes of an element and the batch size it is a lower bound for an
    /// engine that keeps every output for the backward pass.
    pub activations: u64,
}

/// The size of a network apart from its cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkShape {
    /// Channels C of the first cell's nodes; they double at each reduction cell.
    pub channels: usize,
    /// Number of cells.
    pub cells: usize,
    /// Height of an image in pixels.
    pub height: usize,
    /// Width of an image in pixels.
    pub width: usize,
    /// Channels of an image.
    pub in_channels: usize,
    /// Number of classes.
    pub classes: usize,
    /// The layers before the first cell.
    pub stem: Stem,
}

/// The layers before the first cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// A 3x3 convolution to 3C channels at full size, and BN.
    #[default]
    Small,
    /// Three 3x3 convolutions with stride 2, to C/2, C and C channels, each with BN: 1/8 of the size, for ImageNet.
    Large,
}

/// The largest number of cells; more is a mistake.
const MAX_CELLS: usize = 1000;
/// Largest number of channels, classes and pixels along a side; costs of such networks still fit into 64 bits.
const MAX_SIZE: usize = 100_000;

/// The cost of the evaluation network of a genotype, without the auxiliary head.
///
/// # Errors
/// As [`Plan::evaluation`].
///
/// ```
/// use asap_core::{NetworkShape, PublishedCell, Stem, evaluation_cost};
/// let asap = PublishedCell::find("asap")?.genotype();
/// let shape = NetworkShape { channels: 36, cells: 20, height: 32, width: 32, in_channels: 3, classes: 10, stem: Stem::Small };
/// assert_eq!(evaluation_cost(&asap, &shape)?.params, 2_538_046);
/// # Ok::<(), asap_core::Error>(())
/// ```
pub fn evaluation_cost(genotype: &Genotype, shape: &NetworkShape) -> Result<Cost, Error> {
    Ok(Plan::evaluation(genotype, shape, false)?.cost())
}

/// The cost of the auxiliary head of an evaluation network, which exists in training only.
///
/// # Errors
/// As [`Plan::evaluation`].
pub fn auxiliary_cost(genotype: &Genotype, shape: &NetworkShape) -> Result<Cost, Error> {
    Ok(Plan::evaluation(genotype, shape, true)?.auxiliary_cost())
}

/// The cost of the search network with the live operations of an architecture.
///
/// # Errors
/// As [`Plan::search`].
pub fn search_cost(architecture: &Architecture, shape: &NetworkShape) -> Result<Cost, Error> {
    let mut plan = Plan::search(architecture.space(), shape)?;
    plan.prune_to(architecture);
    Ok(plan.cost())
}

impl NetworkShape {
    /// This shape with the number of channels for which the network of a design comes closest to `multiply_adds`.
    ///
    /// # Errors
    /// As [`Plan::of`].
    pub fn closest(self, design: &Design, multiply_adds: u64) -> Result<Self, Error> {
        let cost = |channels| Ok(self.cost_with(design, channels)?.multiply_adds);
        // The cost grows with the channels: halve the range (below, above] that holds the first one that is not cheaper.
        let (mut below, mut above) = (0, 1);
        while cost(above)? < multiply_adds {
            (below, above) = (above, 2 * above);
        }
        while above - below > 1 {
            let middle = usize::midpoint(below, above);
            if cost(middle)? < multiply_adds { below = middle } else { above = middle }
        }
        let cheaper_is_closer =
            below > 0 && multiply_adds - cost(below)? < cost(above)? - multiply_adds;
        Ok(Self { channels: if cheaper_is_closer { below } else { above }, ..self })
    }

    /// The cost of the network of a design with another number of channels.
    ///
    /// # Errors
    /// As [`Plan::of`].
    pub fn cost_with(self, design: &Design, channels: usize) -> Result<Cost, Error> {
        Ok(Plan::of(design, &Self { channels, ..self }, false)?.cost())
    }

    pub(super) fn check(&self, stacking: Stacking) -> Result<(), Error> {
        for (key, value) in [
            ("channels", self.channels),
            ("height", self.height),
            ("width", self.width),
            ("in_channels", self.in_channels),
            ("classes", self.classes),
        ] {
            if !(1..=MAX_SIZE).contains(&value) {
                return Err(Error::value(key, value, format!("1 to {MAX_SIZE}")));
            }
        }
        if !(1..=MAX_CELLS).contains(&self.cells) {
            return Err(Error::value("cells", self.cells, format!("1 to {MAX_CELLS}")));
        }
        if stacking == Stacking::Stages && self.stem == Stem::Large {
            let expected = "small, the only stem of networks of three stages";
            return Err(Error::value("stem", "large", expected));
        }
        Ok(())
    }
}

impl Cost {
    pub(super) fn add(&mut self, other: Self) {
        self.params = self.params.saturating_add(other.params);
        self.multiply_adds = self.multiply_adds.saturating_add(other.multiply_adds);
        self.activations = self.activations.saturating_add(other.activations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Map, PlainNetwork, factorized_reduce};
    use crate::{CellKind, EdgePolicy, Family, PublishedCell, SearchSpace, ThresholdPolicy};

    fn shape(channels: usize) -> NetworkShape {
        NetworkShape {
            channels,
            cells: 20,
            height: 32,
            width: 32,
            in_channels: 3,
            classes: 10,
            stem: Stem::Small,
        }
    }

    fn named(name: &str, shape: &NetworkShape) -> Cost {
        evaluation_cost(&PublishedCell::find(name).unwrap().genotype(), shape).unwrap()
    }

    #[test]
    fn published_networks_have_their_exact_number_of_parameters() {
        for (name, channels, params) in [
            ("ASAP", 36, 2_538_046),
            ("ASAP", 44, 3_757_126),
            ("ASAP", 56, 6_032_386),
            ("DARTS_V1", 36, 3_169_414),
            ("DARTS_V2", 36, 3_349_342),
            ("NASNet", 36, 3_830_950),
            ("AmoebaNet", 36, 3_145_078),
            ("PNASNet", 36, 4_481_110),
            ("SNAS_mild", 36, 2_661_382),
            ("SNAS_moderate", 36, 2_847_358),
            ("SNAS_aggressive", 36, 2_313_622),
            ("PC_DARTS", 36, 3_634_678),
            ("PDARTS", 36, 3_433_798),
            ("XNAS", 36, 3_793_438),
        ] {
            assert_eq!(named(name, &shape(channels)).params, params, "{name} {channels}");
        }
    }

    #[test]
    fn published_networks_have_their_number_of_multiply_adds() {
        for (name, channels, tenths) in [
            ("ASAP", 36, 4007),
            ("ASAP", 44, 5917),
            ("ASAP", 56, 9478),
            ("DARTS_V2", 36, 5284),
            ("PC_DARTS", 36, 5567),
        ] {
            let rounded = (named(name, &shape(channels)).multiply_adds + 50_000) / 100_000;
            assert_eq!(rounded, tenths, "{name} {channels}");
        }
        let imagenet = NetworkShape {
            cells: 14,
            height: 224,
            width: 224,
            classes: 1000,
            stem: Stem::Large,
            ..shape(56)
        };
        let millions = (named("ASAP", &imagenet).multiply_adds + 500_000) / 1_000_000;
        assert_eq!(millions, 569);
    }

    #[test]
    fn the_auxiliary_head_is_that_of_darts_at_any_size() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        for size in [32, 7] {
            let shape = NetworkShape { height: size, width: size, ..shape(36) };
            assert_eq!(auxiliary_cost(&asap, &shape).unwrap().params, 476_426);
        }
    }

    #[test]
    fn the_search_network_has_its_exact_number_of_parameters_and_shrinks() {
        let shape = NetworkShape { cells: 8, ..shape(16) };
        let mut architecture = Architecture::new(SearchSpace::default(), EdgePolicy::Anneal);
        let full = search_cost(&architecture, &shape).unwrap();
        assert_eq!(full.params, 1_930_618);

        // at a threshold above 1 every choice falls to its last candidates
        architecture.prune(1.0, &ThresholdPolicy::Fixed { fraction: 100.0 }, 0.0);
        let left = search_cost(&architecture, &shape).unwrap();
        // of equals the first stay: max poolings from the two inputs; stem, preprocesses and linear are left
        assert_eq!(architecture.alive_count(CellKind::Normal), 8);
        let (stem, linear) = (3 * 48 * 9 + 2 * 48, 256 * 10 + 10);
        let preprocess = [
            (48 + 48) * 16, // cell 0
            (48 + 64) * 16,
            (64 + 64) * 32, // reduction
            (64 + 128) * 32,
            (128 + 128) * 32,
            (128 + 128) * 64, // reduction
            (128 + 256) * 64,
            (256 + 256) * 64,
        ];
        assert_eq!(left.params, stem + linear + preprocess.iter().sum::<u64>());
        assert!(left.multiply_adds < full.multiply_adds && left.activations < full.activations);
    }

    #[test]
    fn odd_sizes_round_up_and_odd_channels_are_split_without_loss() {
        let mut plan = Plan::of_images(Family::Darts, Map { channels: 5, height: 7, width: 3 });
        plan.logits = plan.chain("reduce", 0, |chain| factorized_reduce(chain, 5, true));
        let out = plan.layers[plan.logits].output;
        assert_eq!((out.channels, out.height, out.width), (5, 4, 2));
        let expected = Cost { params: 25 + 10, multiply_adds: 25 * 8, activations: 5 * 8 };
        assert_eq!(plan.cost(), expected);
    }

    #[test]
    fn nas_bench_201_networks_have_their_exact_cost() {
        let shape = NetworkShape { cells: 15, ..shape(16) };
        for (operation, params, multiply_adds) in
            [("nor_conv_3x3", 1_531_546, 220_119_680), ("skip_connect", 73_306, 7_783_040)]
        {
            let o = operation;
            let text = format!("|{o}~0|+|{o}~0|{o}~1|+|{o}~0|{o}~1|{o}~2|");
            let cost = evaluation_cost(&text.parse().unwrap(), &shape).unwrap();
            assert_eq!((cost.params, cost.multiply_adds), (params, multiply_adds), "{o}");
        }
        let text = "|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|skip_connect~1|skip_connect~2|";
        let large = NetworkShape { stem: Stem::Large, ..shape };
        let error = evaluation_cost(&text.parse().unwrap(), &large).unwrap_err().to_string();
        assert!(error.contains("`stem` is large"), "{error}");
    }

    #[test]
    fn plain_networks_have_their_exact_cost() -> Result<(), Error> {
        // 269,722 weights as published, plus 1x1 convolutions in two shortcuts and a batch norm before the classifier
        let shortcuts = 16 * 32 + 32 * 64;
        let resnet = |blocks: u64| {
            let stage = |c: u64, convs: u64| convs * (9 * c * c + 2 * c);
            let stem = 3 * 16 * 9 + 2 * 16;
            let first = |c: u64| 9 * c / 2 * c + 2 * c;
            let [one, two, three] =
                [stage(16, 2 * blocks), stage(32, 2 * blocks - 1), stage(64, 2 * blocks - 1)];
            stem + one + first(32) + two + first(64) + three + 64 * 10 + 10 + shortcuts + 2 * 64
        };
        assert_eq!(resnet(3), 269_722 + shortcuts + 128);
        for (name, blocks) in [("resnet-20", 3), ("resnet-56", 9)] {
            let design = name.parse::<PlainNetwork>()?.into();
            assert_eq!(
                Plan::of(&design, &shape(16), false)?.cost().params,
                resnet(blocks),
                "{name}"
            );
        }
        let nine = "resnet-9".parse::<PlainNetwork>()?.into();
        let conv = |from: u64, to: u64| 9 * from * to + 2 * to;
        let widening = conv(16, 32) + conv(32, 64) + conv(64, 128);
        let expected = conv(3, 16)
            + widening
            + 2 * conv(32, 32)
            + 2 * conv(128, 128)
            + 2 * 128
            + 128 * 10
            + 10;
        assert_eq!(Plan::of(&nine, &shape(16), false)?.cost().params, expected);
        let separable = "mobilenet-20".parse::<PlainNetwork>()?.into();
        let plan = Plan::of(&separable, &shape(16), true)?;
        let half = |from: u64, to: u64| 9 * from + from * to + 2 * to;
        let block = |from: u64, to: u64| half(from, from) + half(from, to);
        let blocks = [
            (16, 16),
            (16, 16),
            (16, 16),
            (16, 32),
            (32, 32),
            (32, 32),
            (32, 64),
            (64, 64),
            (64, 64),
        ];
        let blocks: u64 = blocks.map(|(from, to)| block(from, to)).iter().sum();
        let ends = 3 * 16 * 9 + 2 * 16 + 2 * 64 + 64 * 10 + 10;
        assert_eq!(plan.cost().params, blocks + ends + shortcuts);
        assert!(plan.auxiliary_cost().params > 0);
        let large = NetworkShape { stem: Stem::Large, ..shape(16) };
        assert!(Plan::of(&separable, &large, false).is_err());
        Ok(())
    }

    #[test]
    fn the_cost_of_the_layers_adds_up_to_that_of_the_network() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let plan = Plan::evaluation(&asap, &shape(8), true).unwrap();
        let mut sum = Cost::default();
        plan.layers.iter().for_each(|layer| sum.add(plan.layer_cost(layer)));
        let mut whole = plan.cost();
        whole.add(plan.auxiliary_cost());
        assert_eq!(sum, whole);
        let named = |name: &str| plan.layers.iter().find(|layer| layer.name == name).unwrap();
        assert_eq!(plan.layer_cost(named("stem")).params, 3 * 24 * 9 + 2 * 24);
        assert_eq!(
            named("cells.19").output,
            plan.layers[named("head").inputs().next().unwrap()].output
        );
    }

    #[test]
    fn empty_and_absurd_shapes_are_refused() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let cost = |shape| evaluation_cost(&asap, &shape);
        let error = cost(NetworkShape { classes: 0, ..shape(36) }).unwrap_err();
        assert!(error.to_string().contains("`classes` is 0"));
        assert!(cost(NetworkShape { cells: 1001, ..shape(36) }).is_err());
        for (channels, fits) in [(100_000, true), (100_001, false), (usize::MAX, false)] {
            assert_eq!(cost(shape(channels)).is_ok_and(|cost| cost.params < u64::MAX), fits);
        }
        for cells in 1..4 {
            assert!(auxiliary_cost(&asap, &NetworkShape { cells, ..shape(4) }).is_ok());
        }
    }

    #[test]
    fn the_channels_closest_to_a_number_of_multiply_adds() -> Result<(), Error> {
        let cell = |name| Ok::<Design, Error>(PublishedCell::find(name)?.genotype().into());
        let plain = "resnet-20".parse::<PlainNetwork>()?;
        for design in [cell("ASAP")?, cell("DARTS_V2")?, cell("NASNET")?, plain.into()] {
            let cost = |channels| {
                Plan::of(&design, &shape(channels), false).map(|plan| plan.cost().multiply_adds)
            };
            for target in [1, 30_000_000, 500_000_000] {
                let found = shape(9).closest(&design, target)?;
                assert_eq!(found, shape(found.channels));
                let best = (1..80).map(|c| Ok((cost(c)?.abs_diff(target), c)));
                let best = best.collect::<Result<Vec<_>, Error>>()?.into_iter().min();
                assert_eq!(best.map(|(_, channels)| channels), Some(found.channels), "{design}");
            }
        }
        Ok(())
    }
}
