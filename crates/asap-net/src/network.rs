//! The network that is trained with a found cell (ASAP section 4.2): the cells of a genotype, stacked.

use asap_core::{CellGenotype, CellKind, Gene, Genotype, NetworkShape, space};
use burn::tensor::{Device, Tensor};

use crate::backbone::Backbone;
use crate::error::Error;
use crate::layers::{AuxiliaryHead, Candidate, MixedEdge, Norm};
use crate::ops;
use crate::parameters::Parameters;
use crate::pass::{Mode, Pass};

/// What a network says of a batch: unnormalised log probabilities, `[images, classes]`.
#[derive(Clone, Debug)]
pub struct Logits {
    /// Of the classifier.
    pub main: Tensor<2>,
    /// Of the auxiliary head, where there is one and the pass trains the weights. It belongs in the
    /// loss: what no gradient comes back through stays in memory.
    pub auxiliary: Option<Tensor<2>>,
}

impl From<Tensor<2>> for Logits {
    fn from(main: Tensor<2>) -> Self {
        Self { main, auxiliary: None }
    }
}

/// The evaluation network of a genotype. Its tensors live in [`Parameters`].
#[derive(Clone, Debug)]
pub struct Network {
    backbone: Backbone,
    /// The second classifier, and the cell whose output it reads.
    auxiliary: Option<(usize, AuxiliaryHead)>,
}

impl Network {
    /// Builds the network, and its parameters on `device`; with an auxiliary head after cell
    /// `2 * cells / 3` (counted from 0, as in DARTS) if asked.
    ///
    /// Its weights are as many as [`asap_core::evaluation_cost`] and [`asap_core::auxiliary_cost`] say.
    ///
    /// # Errors
    /// When a number of `shape` is zero; when a cell has no node or no output, reads or puts out a state
    /// that it does not have, or is a reduction cell that puts out one of its inputs, which are twice
    /// as large as its nodes.
    pub fn new(
        genotype: &Genotype,
        shape: &NetworkShape,
        auxiliary: bool,
        device: &Device,
        seed: u64,
    ) -> Result<(Self, Parameters), Error> {
        check(genotype)?;
        let mut parameters = Parameters::new(device.clone(), seed);
        let backbone = Backbone::new(
            &mut parameters,
            shape,
            true,
            1,
            |parameters, plan| {
                let cell = genotype.cell(plan.kind);
                let mut genes = 0..;
                let mut edge = |gene: &Gene| {
                    let gene_index = genes.next().expect("numbers do not run out");
                    let stride = space::stride(plan.kind, gene.input);
                    let path = format!("{}.ops.{gene_index}", plan.path);
                    let size = [plan.channels, stride];
                    let operation = (0, gene.operation);
                    let candidate =
                        Candidate::new(parameters, &path, operation, size, Norm::Evaluation);
                    MixedEdge {
                        path,
                        offset: 0,
                        input: gene.input,
                        stride,
                        candidates: vec![candidate],
                    }
                };
                cell.nodes.iter().map(|pair| pair.iter().map(&mut edge).collect()).collect()
            },
            |kind: CellKind| genotype.cell(kind).concat.clone(),
        )?;
        let auxiliary = auxiliary.then(|| {
            let cell = 2 * shape.cells / 3;
            let channels = backbone.output_channels(cell);
            (cell, AuxiliaryHead::new(&mut parameters, channels, shape.classes))
        });
        Ok((Self { backbone, auxiliary }, parameters))
    }

    /// Images `[n, h, w, c]` to logits.
    pub fn forward(&self, pass: &Pass, images: Tensor<4>) -> Logits {
        let one = Tensor::<1>::ones([1], &images.device());
        let auxiliary = self.auxiliary.as_ref().filter(|_| pass.mode() == Mode::Weights);
        let tap = auxiliary.map(|&(cell, _)| cell);
        let (main, tapped) = self.backbone.forward_tapped(pass, images, &[one.clone(), one], tap);
        let auxiliary =
            auxiliary.zip(tapped).map(|((_, head), x)| ops::auxiliary_head(pass, head, x));
        Logits { main, auxiliary }
    }
}

/// The fields of a genotype are public; this is what its constructors check.
fn check(genotype: &Genotype) -> Result<(), Error> {
    for kind in CellKind::ALL {
        let CellGenotype { nodes, concat } = genotype.cell(kind).clone();
        CellGenotype::new(nodes, concat)
            .map_err(|error| Error::Network(format!("{kind} {error}")))?;
    }
    Genotype::new(genotype.normal.clone(), genotype.reduce.clone())
        .map_err(|error| Error::Network(error.to_string()))?;
    Ok(())
}
