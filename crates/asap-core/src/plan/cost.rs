//! Exact size and work of a network, for estimates before anything is built.

use serde::{Deserialize, Serialize};

use crate::{
    Architecture, CellGenotype, CellKind, Error, Family, Genotype, Operation, OperationKind,
    reduction_cells,
};

/// What a network costs. Numbers too large for 64 bits stay at the largest.
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
    /// What stands before the first cell.
    pub stem: Stem,
}

/// What stands before the first cell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stem {
    /// A 3x3 convolution to 3C channels at full size, and BN.
    #[default]
    Small,
    /// Three 3x3 convolutions with stride 2, to C/2, C and C channels, each with BN: 1/8 of the size, for ImageNet.
    Large,
}

/// The largest number of cells; more are a mistake.
const MAX_CELLS: usize = 1000;

/// The cost of the evaluation network of a genotype, without the auxiliary head.
///
/// Batch norms have affine parameters, and poolings no batch norm.
///
/// # Errors
/// [`Error::Value`] if the shape has a 0 or more than 1000 cells.
///
/// ```
/// use asap_core::{NetworkShape, PublishedCell, Stem, evaluation_cost};
/// let asap = PublishedCell::find("asap")?.genotype();
/// let shape = NetworkShape { channels: 36, cells: 20, height: 32, width: 32, in_channels: 3, classes: 10, stem: Stem::Small };
/// assert_eq!(evaluation_cost(&asap, &shape)?.params, 2_538_046);
/// # Ok::<(), asap_core::Error>(())
/// ```
pub fn evaluation_cost(genotype: &Genotype, shape: &NetworkShape) -> Result<Cost, Error> {
    let mut counter = Counter::new(true);
    counter.network(&genotype_plans(genotype)?, shape)?;
    Ok(counter.cost)
}

/// The cost of the auxiliary head of an evaluation network, which exists in training only.
///
/// It stands after cell `2 * cells / 3`: pooling to 2x2 whatever the size, 1x1 to 128 channels, BN, 2x2 to 768, BN, linear.
///
/// # Errors
/// As [`evaluation_cost`].
pub fn auxiliary_cost(genotype: &Genotype, shape: &NetworkShape) -> Result<Cost, Error> {
    let outputs = Counter::new(true).network(&genotype_plans(genotype)?, shape)?;
    let mut counter = Counter::new(true);
    let pooled = counter.output(Map { height: 2, width: 2, ..outputs[2 * shape.cells / 3] });
    let mixed = counter.conv(pooled, 128, [1, 1], 1, 1);
    counter.norm(mixed);
    let flat = Map { height: 1, width: 1, channels: 768 };
    // a 2x2 kernel without padding on 2x2 pixels
    counter.weights(128 * 4 * 768, 1);
    counter.output(flat);
    counter.norm(flat);
    counter.linear(flat.channels, shape.classes);
    Ok(counter.cost)
}

/// The cost of the search network with the operations that are left in an architecture.
///
/// Batch norms inside cells have no affine parameters; the one of the stem has.
///
/// # Errors
/// As [`evaluation_cost`].
pub fn search_cost(architecture: &Architecture, shape: &NetworkShape) -> Result<Cost, Error> {
    let space = architecture.space();
    only_darts(space.family)?;
    let plan = |&kind| Plan {
        kind,
        operations: architecture
            .alive_edges(kind)
            .flat_map(|edge| {
                let operations = architecture.alive_operations(kind, edge.index).into_iter();
                operations.map(move |candidate| (space.candidates[candidate], edge.input))
            })
            .collect(),
        multiplier: space.nodes as u64,
        partial: space.partial as u64,
    };
    let plans: Vec<_> = space.kinds().iter().map(plan).collect();
    let mut counter = Counter::new(false);
    counter.network(&plans, shape)?;
    Ok(counter.cost)
}

impl NetworkShape {
    fn check(&self) -> Result<(), Error> {
        for (key, value) in [
            ("channels", self.channels),
            ("height", self.height),
            ("width", self.width),
            ("in_channels", self.in_channels),
            ("classes", self.classes),
        ] {
            if value == 0 {
                return Err(Error::value(key, value, "1 or more"));
            }
        }
        if !(1..=MAX_CELLS).contains(&self.cells) {
            return Err(Error::value("cells", self.cells, format!("1 to {MAX_CELLS}")));
        }
        Ok(())
    }
}

/// What the cells of one kind compute: operations with the states they read, and the number of states in the output.
struct Plan {
    kind: CellKind,
    operations: Vec<(Operation, usize)>,
    multiplier: u64,
    /// The operations see one of so many parts of the channels.
    partial: u64,
}

fn genotype_plans(genotype: &Genotype) -> Result<Vec<Plan>, Error> {
    only_darts(genotype.family())?;
    let plan = |(kind, cell): (CellKind, &CellGenotype)| Plan {
        kind,
        operations: cell.genes().map(|(_, gene)| (gene.operation, gene.input)).collect(),
        multiplier: cell.multiplier() as u64,
        partial: 1,
    };
    Ok(genotype.kinds().map(plan).collect())
}

fn only_darts(family: Family) -> Result<(), Error> {
    match family {
        Family::Darts => Ok(()),
        Family::NasBench201 => Err(Error::value("space", family, "darts")),
    }
}

/// The shape of a feature map.
#[derive(Clone, Copy)]
struct Map {
    channels: u64,
    height: u64,
    width: u64,
}

impl Map {
    fn pixels(self) -> u64 {
        self.height.saturating_mul(self.width)
    }

    fn strided(self, stride: u64) -> Self {
        Self { height: self.height.div_ceil(stride), width: self.width.div_ceil(stride), ..self }
    }
}

/// Adds up the cost of layers in the order of the data.
struct Counter {
    cost: Cost,
    /// Whether batch norms inside cells have affine parameters.
    affine: bool,
}

impl Counter {
    fn new(affine: bool) -> Self {
        Self { cost: Cost::default(), affine }
    }

    /// Counts everything but the auxiliary head; returns the output of each cell.
    fn network(&mut self, plans: &[Plan], shape: &NetworkShape) -> Result<Vec<Map>, Error> {
        shape.check()?;
        let image = Map {
            channels: shape.in_channels as u64,
            height: shape.height as u64,
            width: shape.width as u64,
        };
        let mut channels = shape.channels as u64;
        let (mut before, mut previous) = self.stem(image, channels, shape.stem);
        let mut after_reduction = shape.stem == Stem::Large;
        let reductions: Vec<_> = reduction_cells(shape.cells).collect();
        let mut outputs = Vec::with_capacity(shape.cells);
        for cell in 0..shape.cells {
            let reduction = reductions.contains(&cell);
            channels = channels.saturating_mul(1 + u64::from(reduction));
            match after_reduction {
                true => self.factorized_reduce(before, channels),
                false => self.pointwise(before, channels),
            };
            let input = self.pointwise(previous, channels);
            let output = self.cell(&plans[usize::from(reduction)], input);
            (before, previous, after_reduction) = (previous, output, reduction);
            outputs.push(output);
        }
        self.linear(previous.channels, shape.classes);
        Ok(outputs)
    }

    /// The two inputs of the first cell.
    fn stem(&mut self, image: Map, channels: u64, stem: Stem) -> (Map, Map) {
        let mut block = |input, channels, stride| {
            let output = self.conv(input, channels, [3, 3], stride, 1);
            self.cost.add(output.channels.saturating_mul(2), 0, 0);
            output
        };
        match stem {
            Stem::Small => {
                let output = block(image, channels.saturating_mul(3), 1);
                (output, output)
            }
            Stem::Large => {
                let half = block(image, channels.div_ceil(2), 2);
                let quarter = block(half, channels, 2);
                (quarter, block(quarter, channels, 2))
            }
        }
    }

    fn cell(&mut self, plan: &Plan, input: Map) -> Map {
        let node = input.strided(Family::Darts.stride(plan.kind, 0) as u64);
        for &(operation, state) in &plan.operations {
            let source = if state < 2 { input } else { node };
            let source = Map { channels: source.channels / plan.partial, ..source };
            self.operation(operation, source, Family::Darts.stride(plan.kind, state) as u64);
        }
        Map { channels: input.channels.saturating_mul(plan.multiplier), ..node }
    }

    fn operation(&mut self, operation: Operation, input: Map, stride: u64) {
        let channels = input.channels;
        match operation.kind() {
            OperationKind::None => {}
            // the search network's BN after a pooling has no affine parameters, the evaluation network has none
            OperationKind::MaxPool | OperationKind::AvgPool => {
                self.output(input.strided(stride));
            }
            OperationKind::Skip if stride == 1 => {}
            OperationKind::Skip => {
                self.factorized_reduce(input, channels);
            }
            OperationKind::SepConv { kernel } => {
                let middle = self.separable(input, kernel as u64, stride);
                self.separable(middle, kernel as u64, 1);
            }
            OperationKind::DilConv { kernel } => {
                self.separable(input, kernel as u64, stride);
            }
            OperationKind::Conv { kernel } => {
                let output = self.conv(input, channels, [kernel as u64; 2], stride, 1);
                self.norm(output);
            }
            OperationKind::Conv7x1Then1x7 => {
                // the stride of 1x7 is along the width, that of 7x1 along the height
                let narrow = Map { width: input.width.div_ceil(stride), ..input };
                self.conv(narrow, channels, [1, 7], 1, 1);
                let output = self.conv(input.strided(stride), channels, [7, 1], 1, 1);
                self.norm(output);
            }
        }
    }

    fn separable(&mut self, input: Map, kernel: u64, stride: u64) -> Map {
        let deep = self.conv(input, input.channels, [kernel, kernel], stride, input.channels);
        self.pointwise(deep, input.channels)
    }

    fn pointwise(&mut self, input: Map, channels: u64) -> Map {
        let output = self.conv(input, channels, [1, 1], 1, 1);
        self.norm(output);
        output
    }

    fn factorized_reduce(&mut self, input: Map, channels: u64) -> Map {
        self.conv(input, channels / 2, [1, 1], 2, 1);
        self.conv(input, channels - channels / 2, [1, 1], 2, 1);
        let output = Map { channels, ..input.strided(2) };
        self.norm(output);
        output
    }

    /// A convolution without bias whose padding keeps the size at stride 1.
    fn conv(
        &mut self,
        input: Map,
        channels: u64,
        kernel: [u64; 2],
        stride: u64,
        groups: u64,
    ) -> Map {
        let output = Map { channels, ..input.strided(stride) };
        let per_channel = (input.channels / groups).saturating_mul(kernel[0] * kernel[1]);
        self.weights(per_channel.saturating_mul(channels), output.pixels());
        self.output(output)
    }

    fn norm(&mut self, map: Map) {
        if self.affine {
            self.cost.add(map.channels.saturating_mul(2), 0, 0);
        }
    }

    fn linear(&mut self, features: u64, classes: usize) {
        let classes = classes as u64;
        self.weights(features.saturating_mul(classes), 1);
        self.cost.add(classes, 0, classes);
    }

    /// Weights that are each used once per pixel.
    fn weights(&mut self, weights: u64, pixels: u64) {
        self.cost.add(weights, weights.saturating_mul(pixels), 0);
    }

    fn output(&mut self, map: Map) -> Map {
        self.cost.add(0, 0, map.channels.saturating_mul(map.pixels()));
        map
    }
}

impl Cost {
    fn add(&mut self, params: u64, multiply_adds: u64, activations: u64) {
        self.params = self.params.saturating_add(params);
        self.multiply_adds = self.multiply_adds.saturating_add(multiply_adds);
        self.activations = self.activations.saturating_add(activations);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EdgePolicy, PublishedCell, SearchSpace, ThresholdPolicy};

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
        let mut counter = Counter::new(true);
        let map = Map { channels: 5, height: 7, width: 3 };
        let out = counter.factorized_reduce(map, 5);
        assert_eq!((out.channels, out.height, out.width), (5, 4, 2));
        assert_eq!(counter.cost.params, 25 + 10);
        assert_eq!(counter.cost.multiply_adds, 25 * 8);
        assert_eq!(counter.cost.activations, 5 * 8);
    }

    #[test]
    fn empty_and_absurd_shapes_are_refused_or_saturate() {
        let asap = PublishedCell::find("ASAP").unwrap().genotype();
        let cost = |shape| evaluation_cost(&asap, &shape);
        let error = cost(NetworkShape { classes: 0, ..shape(36) }).unwrap_err();
        assert!(error.to_string().contains("`classes` is 0"));
        assert!(cost(NetworkShape { cells: 1001, ..shape(36) }).is_err());
        assert_eq!(cost(shape(usize::MAX)).unwrap().params, u64::MAX);
        for cells in 1..4 {
            assert!(auxiliary_cost(&asap, &NetworkShape { cells, ..shape(4) }).is_ok());
        }
    }
}
