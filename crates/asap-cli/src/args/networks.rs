//! Commands that use a trained network.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// Folder of a training run, or a weights.safetensors file
    pub(crate) run: PathBuf,
    /// Data set [default: the one the network was trained on]
    #[arg(long)]
    pub(crate) data: Option<String>,
    /// Folder of a known data set, if not in one of the usual places
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Average the logits over each image and its mirror image; slightly better, but takes twice as long
    #[arg(long)]
    pub(crate) flips: bool,
    /// Part of the data set to evaluate on
    #[arg(long, value_enum, default_value_t = Split::Test)]
    pub(crate) split: Split,
    /// Skip images that cannot be read, and list them
    #[arg(long)]
    pub(crate) skip_corrupt: bool,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Split {
    Test,
    Valid,
    Train,
    /// All images, including those used for training
    All,
}

#[derive(Debug, Args)]
pub(crate) struct PredictArgs {
    /// Folder of a training run, or a weights.safetensors file
    pub(crate) run: PathBuf,
    /// Image files of any size, folders of images, or - to read file names from standard input
    #[arg(required = true)]
    pub(crate) images: Vec<PathBuf>,
    /// Number of classes to print per image, most probable first
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) top: usize,
    /// Average the logits over each image and its mirror image; slightly better, but takes twice as long
    #[arg(long)]
    pub(crate) flips: bool,
    /// Include the logits, in the order of the network's classes
    #[arg(long, requires = "json")]
    pub(crate) logits: bool,
    /// Skip images that cannot be read, and list them
    #[arg(long)]
    pub(crate) skip_corrupt: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Folder of a training run, or a weights.safetensors file; for darts, also the folder of a search
    pub(crate) run: PathBuf,
    /// onnx: the network; pytorch: a module and its weights; safetensors: the weights; darts: the genotype in Python
    #[arg(long, value_enum)]
    pub(crate) format: ExportFormat,
    /// Make the exported network average over each image and its mirror image
    #[arg(long)]
    pub(crate) flips: bool,
    /// Include normalization in the ONNX graph, which then takes pixel values from 0 to 1
    #[arg(long)]
    pub(crate) normalize: bool,
}

/// A form of a trained network or its cell that other tools read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ExportFormat {
    Onnx,
    Pytorch,
    Safetensors,
    Darts,
}
