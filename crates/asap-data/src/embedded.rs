//! The built-in images: the first 500 + 100 per class of Fashion-MNIST.
//!
//! `examples/make_embedded.rs` makes the file; `embedded/LICENSE` is the licence of the images.

use std::io::Read;
use std::path::Path;

use flate2::bufread::GzDecoder;

use crate::{DataError, Dataset, Splits, idx};

/// The classes of Fashion-MNIST, in the order of their labels (README of its authors).
pub(crate) const FASHION_CLASSES: [&str; 10] = [
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
];

/// Training images, training labels, test images and test labels: four IDX arrays in one gzip stream.
const BYTES: &[u8] = include_bytes!("../embedded/fashion-mnist-6000.idx.gz");

/// Decompresses the embedded images.
pub(crate) fn read() -> Result<Splits, DataError> {
    let mut stream = GzDecoder::new(BYTES);
    let (train, test) = (part(&mut stream)?, part(&mut stream)?);
    Ok(Splits {
        name: "embedded".into(),
        train,
        valid: None,
        test: Some(test),
        warnings: Vec::new(),
        unreadable: Vec::new(),
    })
}

fn part(stream: &mut impl Read) -> Result<Dataset, DataError> {
    let path = Path::new("(embedded images)");
    let (images, labels) = (idx::parse(stream, path, 3)?, idx::parse(stream, path, 1)?);
    let labels = labels.bytes.into_iter().map(u16::from).collect();
    let shape = [images.sides[1], images.sides[2], 1];
    Dataset::new(images.bytes, labels, shape, FASHION_CLASSES.map(String::from).to_vec())
}
