//! A trained network: one file with everything that is needed to classify images.

use std::path::Path;
use std::sync::Arc;

use asap_core::plan::Plan;
use asap_core::{Design, NetworkShape};
use asap_data::{Augment, Batch, Dataset, Loader, Normalization};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};

use crate::device::DeviceName;
use crate::engine::Engine;
use crate::error::Error;
use crate::evaluation::{Evaluation, softmax};
use crate::network::Network;
use crate::parameters::{NamedValues, Parameters};
use crate::steps::logits;
use crate::tensor_file::{self, Header};

/// Number of images per inference step.
const BATCH: usize = 64;
/// Prefix of the parameters that only training needs.
const AUXILIARY: &str = "auxiliary.";

/// The description of a network, without its weights.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NetworkCard {
    /// Version of asap that trained it.
    pub version: String,
    /// What it is built of.
    #[serde(rename = "genotype")]
    pub design: Design,
    /// Its size, that of its images and the number of classes.
    pub shape: NetworkShape,
    /// Names of the classes, in the order of the logits.
    pub classes: Vec<String>,
    /// The conversion of bytes into its inputs.
    pub normalization: Normalization,
    /// Name of the data set that it was trained on.
    pub data: String,
    /// Its test images, if it had any; files of older versions do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<TestImages>,
}

/// Images that a network was tested on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestImages {
    /// Their number.
    pub images: usize,
    /// The seed that selected them, if the data set has no test images of its own.
    pub seed: u64,
    /// The most images of each part that were read; 0: all.
    pub limit: usize,
    /// See [`Dataset::checksum`].
    pub checksum: String,
}

impl Header for NetworkCard {
    const KIND: &'static str = "trained network";
    const REMEDY: &'static str =
        "give the folder of a finished training, or the weights.safetensors in it";
}

/// A network that classifies images.
pub struct TrainedNetwork {
    card: NetworkCard,
    network: Network,
    parameters: Parameters,
    flips: bool,
}

impl TrainedNetwork {
    /// A network with the values of `tensors`; those of an auxiliary head are left out.
    ///
    /// # Errors
    /// If a tensor is missing, superfluous, or has a different shape.
    pub fn new(card: NetworkCard, tensors: NamedValues, device: &Device) -> Result<Self, Error> {
        let plan = Plan::of(&card.design, &card.shape, false)?;
        let found: u64 = tensors.values().map(|(_, values)| values.len() as u64).sum();
        let weights = plan.cost().params;
        let (classes, channels) = (card.shape.classes, card.shape.in_channels);
        let Normalization { mean, std } = &card.normalization;
        if found < weights
            || card.classes.len() != classes
            || [mean.len(), std.len()] != [channels; 2]
        {
            return Err(Error::Network(format!(
                "expected {weights} weights, {classes} class names and the mean and deviation of {channels} channels, as the network's \
                 description says; found {found}, {}, {} and {}; the file is damaged: use another copy",
                card.classes.len(),
                mean.len(),
                std.len()
            )));
        }
        let network = Network::new(plan, Engine::new(device));
        let mut parameters = network.parameters(device, 0);
        parameters.load_named(&without_auxiliary(tensors))?;
        Ok(Self { card, network, parameters, flips: false })
    }

    /// The same network; with `flips` its logits are the means of those of an image and of its mirror image.
    #[must_use]
    pub fn averaging_flips(mut self, flips: bool) -> Self {
        self.flips = flips;
        self
    }

    /// True if logits are averaged over an image and its mirror image.
    pub fn averages_flips(&self) -> bool {
        self.flips
    }

    /// Reads the network from a file.
    ///
    /// # Errors
    /// If it does not exist, or is damaged.
    pub fn open(file: &Path, device: DeviceName) -> Result<Self, Error> {
        let (card, tensors) = tensor_file::load::<NetworkCard>(file)?;
        Self::new(card, tensors, &device.open()?).map_err(|error| match error {
            Error::TensorMismatch { .. } => {
                Error::File { path: file.to_owned(), problem: error.to_string() }
            }
            error => error,
        })
    }

    /// Writes the network to a file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), Error> {
        save(path, &self.card, self.parameters.values())
    }

    /// The layers of the network.
    pub fn plan(&self) -> &Plan {
        self.network.plan()
    }

    /// The values of its tensors.
    pub fn values(&self) -> NamedValues {
        self.parameters.values()
    }

    /// The description of the network.
    pub fn card(&self) -> &NetworkCard {
        &self.card
    }

    /// Height, width and channels of the images that it takes.
    pub fn image_shape(&self) -> [usize; 3] {
        let NetworkShape { height, width, in_channels, .. } = self.card.shape;
        [height, width, in_channels]
    }

    /// Probabilities of the classes for images `[height, width, channels]` of bytes, one after the other.
    ///
    /// # Errors
    /// If the bytes are not those of whole images of [`TrainedNetwork::image_shape`].
    pub fn predict(&self, images: &[u8]) -> Result<Vec<Vec<f32>>, Error> {
        Ok(self.logits(images)?.iter().map(|row| softmax(row)).collect())
    }

    /// The same before the softmax.
    ///
    /// # Errors
    /// Those of [`TrainedNetwork::predict`].
    pub fn logits(&self, images: &[u8]) -> Result<Vec<Vec<f32>>, Error> {
        let [height, width, channels] = self.image_shape();
        let size = height * width * channels;
        if !images.len().is_multiple_of(size) {
            return Err(Error::Network(format!(
                "expected whole images of {height}x{width}x{channels} bytes, found {} bytes",
                images.len()
            )));
        }
        let rows = images.chunks(BATCH * size).flat_map(|images| {
            let shape = [images.len() / size, height, width, channels];
            let images = self.card.normalization.apply(images);
            self.classify(&Batch { images, labels: Vec::new(), shape })
        });
        Ok(rows.collect())
    }

    /// Counts the errors on a data set with the same image shape, whose classes are the network's by name or,
    /// if the names do not identify them, by number.
    ///
    /// # Errors
    /// If shape or classes do not match.
    pub fn evaluate(&self, data: Dataset) -> Result<Evaluation, Error> {
        let (found, expected) = (data.image_shape(), self.image_shape());
        if found != expected {
            return Err(Error::Network(format!(
                "expected images of {expected:?} (height, width, channels), found {found:?}"
            )));
        }
        let classes = self.classes_of(&data)?;
        let labels: Vec<u16> = data.labels().iter().map(|&l| classes[usize::from(l)]).collect();
        let all = (0..data.len()).collect();
        let normalization = self.card.normalization.clone();
        let loader =
            Loader::new(Arc::new(data), all, BATCH, Augment::none(), normalization, 0, false)?;
        let mut rows: Vec<Vec<f32>> = Vec::with_capacity(labels.len());
        for batch in loader.epoch(0) {
            rows.extend(self.classify(&batch?));
        }
        Ok(Evaluation::new(&self.card.classes, &labels, &rows))
    }

    fn classify(&self, batch: &Batch) -> Vec<Vec<f32>> {
        let mut rows = logits(&self.network, &self.parameters, &[], batch);
        if self.flips {
            let mirrored = logits(&self.network, &self.parameters, &[], &mirrored(batch));
            for (row, mirrored) in rows.iter_mut().zip(mirrored) {
                row.iter_mut().zip(mirrored).for_each(|(a, b)| *a = 0.5 * (*a + b));
            }
        }
        rows
    }

    /// The network's class for each class of a data set.
    fn classes_of(&self, data: &Dataset) -> Result<Vec<u16>, Error> {
        let known = &self.card.classes;
        let by_name: Option<Vec<u16>> = data
            .classes()
            .iter()
            .map(|name| known.iter().position(|k| k == name).map(|i| i as u16))
            .collect();
        if let Some(classes) = by_name {
            return Ok(classes);
        }
        let shared = data.classes().iter().filter(|name| known.contains(name)).count();
        // Numbers in place of names, as of files of labels without names, say no more than the order does.
        let numbered = |names: &[String]| (0..).zip(names).all(|(i, name)| *name == i.to_string());
        let all_are_foreign = shared == 0 && data.classes().len() == known.len();
        if all_are_foreign && (numbered(data.classes()) || numbered(known)) {
            return Ok((0..known.len() as u16).collect());
        }
        if all_are_foreign {
            return Err(Error::Network(format!(
                "expected images of the classes {}, found as many of other names: {}; rename the classes as the network knows them",
                first(known.iter()),
                first(data.classes().iter()),
            )));
        }
        let unknown = data.classes().iter().filter(|name| !known.contains(name));
        Err(Error::Network(format!(
            "expected images of the {} classes of the network ({}), found {} classes, among them {}; \
             use a data set with the classes that it was trained on",
            known.len(),
            first(known.iter()),
            data.classes().len(),
            first(unknown),
        )))
    }
}

/// The first of some names, for an error.
fn first<'a>(mut names: impl Iterator<Item = &'a String>) -> String {
    const NAMED: usize = 5;
    let mut text: Vec<&str> = names.by_ref().take(NAMED).map(String::as_str).collect();
    text.extend(names.next().map(|_| "..."));
    text.join(", ")
}

/// The mirror images of a batch.
fn mirrored(batch: &Batch) -> Batch {
    let [_, _, width, channels] = batch.shape;
    let mut images = Vec::with_capacity(batch.images.len());
    for row in batch.images.chunks_exact(width * channels) {
        row.rchunks_exact(channels).for_each(|pixel| images.extend_from_slice(pixel));
    }
    Batch { images, labels: batch.labels.clone(), shape: batch.shape }
}

/// Writes a network of these tensors to a file; those of an auxiliary head are left out.
///
/// # Errors
/// If it cannot be written.
pub fn save(path: &Path, card: &NetworkCard, tensors: NamedValues) -> Result<(), Error> {
    tensor_file::save(path, card, &without_auxiliary(tensors))
}

fn without_auxiliary(mut tensors: NamedValues) -> NamedValues {
    tensors.retain(|name, _| !name.starts_with(AUXILIARY));
    tensors
}
