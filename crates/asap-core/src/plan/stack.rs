//! Networks made of cells: the stems, the stacking and the heads of each family.

use super::chain::Chain;
use super::design::{Convolution, Design, PlainNetwork};
use super::operation::{Norms, factorized_reduce, operation};
use super::plain::{self, residual_block};
use super::{Body, Candidate, Layer, LayerId, Map, MixedEdge, NetworkShape, Node, Plan, Stem};
use crate::space::{Output, Stacking, reduction_cells};
use crate::{CellKind, Error, Family, Genotype, Operation, SearchSpace};

/// Channels after the 1x1 and after the 2x2 convolution of the auxiliary head.
const AUXILIARY_WIDTHS: [usize; 2] = [128, 768];

/// A cell at its place in a network.
struct Site {
    /// Dotted path of its parameters.
    path: String,
    kind: CellKind,
    /// Channels of its nodes.
    channels: usize,
    /// The layers of its input states.
    inputs: Vec<LayerId>,
}

/// An edge of a cell before it has a place in a network.
struct Connection {
    /// Dotted path of its parameters.
    name: String,
    /// The state that it reads.
    state: usize,
    row: Option<usize>,
    /// Place in the space, operation and path of the parameters of each candidate.
    candidates: Vec<(usize, Operation, String)>,
}

impl Plan {
    /// The search network of a space, with every candidate on every edge. Batch norms inside cells have no affine
    /// parameters.
    ///
    /// # Errors
    /// [`Error::Value`] if a number of the shape is out of range, or the channels cannot be divided into
    /// [`SearchSpace::partial`] equal parts.
    pub fn search(space: &SearchSpace, shape: &NetworkShape) -> Result<Self, Error> {
        if !shape.channels.is_multiple_of(space.partial) {
            let expected =
                format!("a multiple of {}: operations see one of that many parts", space.partial);
            return Err(Error::value("channels", shape.channels, expected));
        }
        let norms = Norms { affine: false, after_pool: space.family.pool_norm() };
        let cell = |plan: &mut Plan, site: &Site| {
            let mut nodes: Vec<Vec<Connection>> = (0..space.nodes).map(|_| Vec::new()).collect();
            for edge in space.edges() {
                let name = format!("{}.edges.{}", site.path, edge.index);
                let candidates = space.candidates.iter().enumerate();
                let candidates = candidates.map(|(i, &o)| (i, o, format!("{name}.{o}"))).collect();
                let row = Some(edge.index);
                nodes[edge.node].push(Connection { name, state: edge.input, row, candidates });
            }
            plan.cell(site, nodes, &space.output_states(), space.family, norms, space.partial)
        };
        stacked(space.family, shape, false, cell)
    }

    /// The network of a design, with an auxiliary head after two thirds of its cells or blocks if requested.
    ///
    /// # Errors
    /// [`Error::Value`] if a number of the shape is out of range.
    pub fn of(design: &Design, shape: &NetworkShape, auxiliary: bool) -> Result<Self, Error> {
        match design {
            Design::Cells(genotype) => Self::evaluation(genotype, shape, auxiliary),
            Design::Plain(network) => Self::plain(*network, shape, auxiliary),
        }
    }

    /// A plain network of `shape.channels` channels in its first stage; `shape.cells` has no meaning for it.
    fn plain(network: PlainNetwork, shape: &NetworkShape, auxiliary: bool) -> Result<Self, Error> {
        shape.check(Stacking::Stages)?;
        let mut plan = Self::of_images(Family::NasBench201, images(shape));
        let blocks = plain::blocks(&mut plan, network, shape.channels);
        plan.logits = plan.head(blocks[blocks.len() - 1], Stacking::Stages, shape.classes);
        if auxiliary {
            plan.auxiliary_head(blocks[2 * blocks.len() / 3], shape.classes);
        }
        Ok(plan)
    }

    /// The network that is trained with the cells of a genotype, with an auxiliary head after cell `2 * cells / 3`
    /// (counted from 0, as in DARTS) if requested. Batch norms have affine parameters, and poolings no batch norm.
    ///
    /// # Errors
    /// [`Error::Value`] if a number of the shape is out of range.
    pub fn evaluation(
        genotype: &Genotype,
        shape: &NetworkShape,
        auxiliary: bool,
    ) -> Result<Self, Error> {
        let norms = Norms { affine: true, after_pool: false };
        let mut plan = stacked(genotype.family(), shape, true, |plan, site| {
            let cell = genotype.cell(site.kind);
            let mut nodes: Vec<Vec<Connection>> = cell.nodes.iter().map(|_| Vec::new()).collect();
            for (number, (node, gene)) in cell.genes().enumerate() {
                let name = format!("{}.ops.{number}", site.path);
                let candidates = vec![(0, gene.operation, name.clone())];
                nodes[node].push(Connection { name, state: gene.input, row: None, candidates });
            }
            plan.cell(site, nodes, &cell.output, genotype.family(), norms, 1)
        })?;
        if auxiliary {
            let path = format!("cells.{}", 2 * shape.cells / 3);
            let of_cell = |layer: &Layer| {
                layer.name == path
                    || layer.name.strip_prefix(&path).is_some_and(|p| p.starts_with('.'))
            };
            let cell = plan.layers.iter().rposition(of_cell).expect("the network has the cell");
            plan.auxiliary_head(cell, shape.classes);
        }
        Ok(plan)
    }

    /// A plan with only its images.
    pub fn of_images(family: Family, images: Map) -> Self {
        let images = Layer { name: "images".to_owned(), output: images, body: Body::Images };
        Self { family, layers: vec![images], parameters: Vec::new(), logits: 0, auxiliary: None }
    }

    /// Adds a layer and returns its position.
    pub fn layer(&mut self, name: String, output: Map, body: Body) -> LayerId {
        self.layers.push(Layer { name, output, body });
        self.layers.len() - 1
    }

    /// Adds a chain of steps on the output of a layer and returns its position. The parameters stand below `name`.
    pub fn chain(
        &mut self,
        name: &str,
        input: LayerId,
        write: impl FnOnce(Chain<'_>) -> Chain<'_>,
    ) -> LayerId {
        let map = self.layers[input].output;
        let (steps, output) = write(Chain::new(&mut self.parameters, name, map)).finish();
        self.layer(name.to_owned(), output, Body::Chain { input, steps })
    }

    /// An operation of an edge that reads maps of this shape, with its parameters below `name`.
    pub fn candidate(
        &mut self,
        (index, op): (usize, Operation),
        name: String,
        input: Map,
        stride: usize,
        norms: Norms,
    ) -> Candidate {
        let chain = Chain::new(&mut self.parameters, &name, input);
        let steps = operation(chain, op, input.channels, stride, norms).finish().0;
        Candidate { index, operation: op, name, steps }
    }

    /// Writes a cell and returns its output layer.
    fn cell(
        &mut self,
        site: &Site,
        nodes: Vec<Vec<Connection>>,
        output: &[usize],
        family: Family,
        norms: Norms,
        partial: usize,
    ) -> LayerId {
        let mut states = site.inputs.clone();
        for (number, connections) in nodes.into_iter().enumerate() {
            let mut map = self.layers[states[0]].output;
            let edges = connections.into_iter().map(|connection| {
                let Connection { name, state, row, candidates } = connection;
                let columns = candidates.len();
                let stride = family.stride(site.kind, state);
                let seen =
                    Map { channels: site.channels / partial, ..self.layers[states[state]].output };
                map = Map { channels: site.channels, ..seen.strided(stride) };
                let candidates = candidates.into_iter().map(|(index, operation, name)| {
                    self.candidate((index, operation), name, seen, stride, norms)
                });
                let candidates = candidates.collect();
                MixedEdge { name, input: states[state], stride, row, columns, candidates }
            });
            let node = Node { kind: site.kind, edges: edges.collect(), partial };
            let name = format!("{}.nodes.{number}", site.path);
            states.push(self.layer(name, map, Body::Node(node)));
        }
        match family.output() {
            Output::LastNode => states[states.len() - 1],
            Output::Concat => {
                let inputs: Vec<LayerId> = output.iter().map(|&state| states[state]).collect();
                let one = self.layers[inputs[0]].output;
                let map = Map { channels: inputs.len().saturating_mul(one.channels), ..one };
                self.layer(site.path.clone(), map, Body::Concat { inputs })
            }
        }
    }

    /// A second classifier on the output of a layer, only for training (DARTS `AuxiliaryHeadCIFAR`, its pool adaptive):
    /// ReLU, average pool to 2x2, 1x1 convolution, batch norm, ReLU, 2x2 convolution without padding, batch norm, ReLU,
    /// linear layer.
    fn auxiliary_head(&mut self, input: LayerId, classes: usize) {
        let [narrow, wide] = AUXILIARY_WIDTHS;
        let head = self.chain("auxiliary", input, |chain| {
            let chain = chain.relu().adaptive_pool_2x2();
            let chain = chain.pointwise("conv_1x1", narrow).norm("bn_1x1", true).relu();
            let chain = chain.conv_2x2("conv_2x2", wide).norm("bn_2x2", true).relu();
            chain.linear(classes)
        });
        self.auxiliary = Some(head);
    }

    /// The classifier. If cells end in a sum and not in batch norms, it has its own.
    fn head(&mut self, last: LayerId, stacking: Stacking, classes: usize) -> LayerId {
        self.chain("head", last, |chain| {
            let chain = match stacking {
                Stacking::Darts => chain,
                Stacking::Stages => chain.norm("bn", true).relu(),
            };
            chain.global_pool().linear(classes)
        })
    }
}

/// The map of an image.
fn images(shape: &NetworkShape) -> Map {
    Map { channels: shape.in_channels, height: shape.height, width: shape.width }
}

/// Stacks cells as the family does. `cell` writes the cell at a site and returns the layer of its output.
fn stacked(
    family: Family,
    shape: &NetworkShape,
    affine: bool,
    cell: impl FnMut(&mut Plan, &Site) -> LayerId,
) -> Result<Plan, Error> {
    shape.check(family.stacking())?;
    let mut plan = Plan::of_images(family, images(shape));
    let last = match family.stacking() {
        Stacking::Darts => darts(&mut plan, shape, affine, cell),
        Stacking::Stages => stages(&mut plan, shape, cell),
    };
    plan.logits = plan.head(last, family.stacking(), shape.classes);
    Ok(plan)
}

/// A stem, then cells that read the outputs of the two cells before them; reduction cells double the channels and halve
/// the size (section 3.1).
fn darts(
    plan: &mut Plan,
    shape: &NetworkShape,
    affine: bool,
    mut cell: impl FnMut(&mut Plan, &Site) -> LayerId,
) -> LayerId {
    let mut channels = shape.channels;
    let [mut before, mut last] = darts_stem(plan, shape);
    let mut halve = shape.stem == Stem::Large;
    for number in 0..shape.cells {
        let reduction = reduction_cells(shape.cells).any(|reduction| reduction == number);
        let kind = if reduction { CellKind::Reduction } else { CellKind::Normal };
        if reduction {
            channels = channels.saturating_mul(2);
        }
        let path = format!("cells.{number}");
        let mut input = |i: usize, layer, halve| {
            plan.chain(&format!("{path}.preprocess{i}"), layer, |chain| match halve {
                true => factorized_reduce(chain, channels, affine),
                false => chain.relu().pointwise("conv", channels).norm("bn", affine),
            })
        };
        let inputs = vec![input(0, before, halve), input(1, last, false)];
        let output = cell(plan, &Site { path, kind, channels, inputs });
        (before, last, halve) = (last, output, reduction);
    }
    last
}

/// The two inputs of the first cell.
fn darts_stem(plan: &mut Plan, shape: &NetworkShape) -> [LayerId; 2] {
    let channels = shape.channels;
    let mut step = |name: &str, input, out: usize, relu, stride| {
        plan.chain(name, input, |chain| {
            let chain = if relu { chain.relu() } else { chain };
            chain.conv("conv", out, [3, 3], [stride; 2]).norm("bn", true)
        })
    };
    match shape.stem {
        Stem::Small => [step("stem", 0, channels.saturating_mul(3), false, 1); 2],
        Stem::Large => {
            let half = step("stem.0", 0, channels.div_ceil(2), false, 2);
            let quarter = step("stem.1", half, channels, true, 2);
            [quarter, step("stem.2", quarter, channels, true, 2)]
        }
    }
}

/// Three stages of cells in a row with a residual block before the second and the third, which doubles the channels and
/// halves the size (NAS-Bench-201, section 2.1).
fn stages(
    plan: &mut Plan,
    shape: &NetworkShape,
    mut cell: impl FnMut(&mut Plan, &Site) -> LayerId,
) -> LayerId {
    let mut channels = shape.channels;
    let mut last = plan.chain("stem", 0, |chain| {
        chain.conv("conv", shape.channels, [3, 3], [1; 2]).norm("bn", true)
    });
    let mut blocks = 0..;
    for number in 0..shape.cells {
        if reduction_cells(shape.cells).any(|reduction| reduction == number) {
            channels = channels.saturating_mul(2);
            let path = format!("blocks.{}", blocks.next().expect("numbers do not run out"));
            last = residual_block(plan, &path, last, channels, Convolution::Full, true);
        }
        let path = format!("cells.{number}");
        last = cell(plan, &Site { path, kind: CellKind::Normal, channels, inputs: vec![last] });
    }
    last
}
