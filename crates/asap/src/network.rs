//! The network that is trained with a found cell (ASAP section 4.2): the cells of a genotype, stacked.

use asap_core::{CellKind, Genotype, NetworkShape, space};
use burn::tensor::{Device, Tensor};

use crate::backbone::Backbone;
use crate::error::Error;
use crate::layers::{Candidate, MixedEdge, Norm};
use crate::parameters::Parameters;
use crate::pass::Pass;

/// What a network says of a batch: unnormalised log probabilities, `[images, classes]`.
#[derive(Clone, Debug)]
pub struct Logits {
    /// Of the classifier.
    pub main: Tensor<2>,
    /// Of the auxiliary head, where there is one and the pass trains the weights.
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
}

impl Network {
    /// Builds the network, and its parameters on `device`; with an auxiliary head if asked.
    ///
    /// # Errors
    /// When a number of `shape` is zero.
    pub fn new(
        genotype: &Genotype,
        shape: &NetworkShape,
        _auxiliary: bool,
        device: &Device,
        seed: u64,
    ) -> Result<(Self, Parameters), Error> {
        let mut parameters = Parameters::new(device.clone(), seed);
        let backbone = Backbone::new(
            &mut parameters,
            shape,
            true,
            |parameters, plan| {
                let cell = genotype.cell(plan.kind);
                let mut genes = 0..;
                let mut edge = |gene: &asap_core::Gene| {
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
        Ok((Self { backbone }, parameters))
    }

    /// Images `[n, h, w, c]` to logits.
    pub fn forward(&self, pass: &Pass, images: Tensor<4>) -> Logits {
        let one = Tensor::<1>::ones([1], &images.device());
        let main = self.backbone.forward(pass, images, &[one.clone(), one]);
        Logits { main, auxiliary: None }
    }
}
