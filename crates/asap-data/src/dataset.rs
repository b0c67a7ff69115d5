//! Labelled images, in memory or read when they are needed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rayon::prelude::*;

use crate::DataError;
use crate::pixels::{buffer, check_channels, check_size, convert, resize};
use crate::random::fnv1a;

/// Images of one shape that are read when they are needed, such as those of a data set that is larger than the memory.
///
/// A loader reads from several threads at once. An image is the same bytes whenever it is read.
pub trait ImageSource: Debug + Send + Sync {
    /// Number of images.
    fn count(&self) -> usize;

    /// Height, width and channels of every image.
    fn shape(&self) -> [usize; 3];

    /// Bytes of image `index`, `[height, width, channels]`.
    ///
    /// # Errors
    /// An image that cannot be read, or is damaged.
    fn read(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError>;
}

/// Labelled images of one size: bytes, channels-last `[n, height, width, channels]`. Copies share the bytes.
#[derive(Clone, Debug)]
pub struct Dataset {
    pixels: Pixels,
    labels: Vec<u16>,
    shape: [usize; 3],
    classes: Vec<String>,
    names: Option<Arc<[String]>>,
    measured: Measured,
}

/// What was measured on images that are not in memory, by the checksum of the images' places. Copies share it.
type Measured = Arc<Mutex<HashMap<u64, Moments>>>;
/// Mean and deviation of each channel.
pub(crate) type Moments = (Vec<f32>, Vec<f32>);

#[derive(Clone, Debug)]
enum Pixels {
    /// All of them, one after the other.
    Memory(Arc<Vec<u8>>),
    /// The images `indices` of a source, or all; in the source's shape, and then in each of `shapes`, in this order.
    Source { source: Arc<dyn ImageSource>, indices: Option<Arc<[usize]>>, shapes: Vec<[usize; 3]> },
}

impl Dataset {
    /// Largest number of classes.
    pub const MAX_CLASSES: usize = u16::MAX as usize;

    /// Checks images `[n, height, width, channels]` with one label each, below `classes.len()`.
    ///
    /// # Errors
    /// No images, a side or channel count of 0, a length other than `n * height * width * channels`, fewer than 2 or
    /// more than 65,535 classes, or a label out of range.
    pub fn new(
        images: Vec<u8>,
        labels: Vec<u16>,
        shape @ [height, width, channels]: [usize; 3],
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        check(&labels, shape, &classes)?;
        let bytes = shape.iter().try_fold(labels.len(), |all, &side| all.checked_mul(side));
        if bytes != Some(images.len()) {
            let expected = format!("{} images of {height}x{width}x{channels} bytes", labels.len());
            return Err(DataError::argument("images", expected, format!("{} bytes", images.len())));
        }
        let pixels = Pixels::Memory(Arc::new(images));
        Ok(Self { pixels, labels, shape, classes, names: None, measured: Measured::default() })
    }

    /// The images of a source with one label each, below `classes.len()`.
    ///
    /// # Errors
    /// As [`Dataset::new`].
    pub fn from_source(
        source: Arc<dyn ImageSource>,
        labels: Vec<u16>,
        classes: Vec<String>,
    ) -> Result<Self, DataError> {
        let shape = source.shape();
        check(&labels, shape, &classes)?;
        if source.count() != labels.len() {
            let expected = format!("{} images, one per label", labels.len());
            return Err(DataError::argument("images", expected, source.count()));
        }
        let pixels = Pixels::Source { source, indices: None, shapes: Vec::new() };
        Ok(Self { pixels, labels, shape, classes, names: None, measured: Measured::default() })
    }

    /// The same images, each with a name for messages, such as its file.
    pub(crate) fn with_names(self, names: Vec<String>) -> Self {
        debug_assert_eq!(names.len(), self.len());
        Self { names: Some(names.into()), ..self }
    }

    /// The name of image `index`: its file, if it has one.
    pub fn name(&self, index: usize) -> Option<&str> {
        Some(&self.names.as_ref()?[index])
    }

    /// Images to read at a time, so that they take little memory.
    pub(crate) fn at_a_time(&self) -> usize {
        const BYTES: usize = 64 << 20;
        (BYTES / self.shape.iter().product::<usize>()).clamp(1, 1024)
    }

    /// True if all images are in memory.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.pixels, Pixels::Memory(_))
    }

    /// Number of images, at least 1.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Always false: [`Dataset::new`] refuses an empty data set.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.shape[0]
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.shape[1]
    }

    /// Number of channels: 1 for grey, 3 for colour.
    pub fn channels(&self) -> usize {
        self.shape[2]
    }

    /// Height, width and channels of every image.
    pub fn image_shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Names of the classes, in the order of the labels.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// Labels of the images, each below `classes().len()`.
    pub fn labels(&self) -> &[u16] {
        &self.labels
    }

    /// Bytes of image `index`, `[height, width, channels]`. Panics if `index` is not below [`Dataset::len`].
    ///
    /// # Errors
    /// An image that is not in memory and cannot be read.
    pub fn image(&self, index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        let size = self.shape.iter().product::<usize>();
        match &self.pixels {
            Pixels::Memory(images) => Ok(Cow::Borrowed(&images[index * size..][..size])),
            Pixels::Source { source, indices, shapes } => {
                let index = indices.as_ref().map_or(index, |indices| indices[index]);
                let mut from = source.shape();
                let mut image = source.read(index)?;
                for &to in shapes {
                    image = Cow::Owned(reshaped(&image, from, to));
                    from = to;
                }
                Ok(image)
            }
        }
    }

    /// Mean and deviation of the images at these places. If they are not in memory, `measure` is called once for the same places.
    pub(crate) fn measured(
        &self,
        chosen: &[usize],
        measure: impl FnOnce() -> Result<Moments, DataError>,
    ) -> Result<Moments, DataError> {
        if self.is_in_memory() {
            return measure();
        }
        let places: Vec<u8> =
            chosen.iter().flat_map(|&place| (place as u64).to_le_bytes()).collect();
        let key = fnv1a(&places);
        let known = || self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(moments) = known().get(&key) {
            return Ok(moments.clone());
        }
        let moments = measure()?;
        known().insert(key, moments.clone());
        Ok(moments)
    }

    /// A number, as 16 digits, that is the same for the same images, labels and classes in the same order.
    ///
    /// # Errors
    /// An image that is not in memory and cannot be read.
    pub fn checksum(&self) -> Result<String, DataError> {
        let labels = self.labels.iter().flat_map(|label| label.to_le_bytes());
        let head = [self.classes.join("\0").into_bytes(), labels.collect()].concat();
        let of_images = (0..self.len()).into_par_iter().map(|i| Ok(fnv1a(&self.image(i)?)));
        let of_images = of_images.collect::<Result<Vec<_>, DataError>>()?;
        let parts: Vec<u8> = of_images.iter().flat_map(|n| n.to_le_bytes()).collect();
        Ok(format!("{:016x}", fnv1a(&[head, parts].concat())))
    }

    /// Number of images per class.
    pub fn class_counts(&self) -> Vec<usize> {
        class_counts(&self.labels, self.classes.len())
    }

    /// The images at these indices, in this order.
    ///
    /// # Errors
    /// No indices, or one that is not below [`Dataset::len`].
    pub fn subset(&self, chosen: &[usize]) -> Result<Self, DataError> {
        check_indices(chosen, self.len())?;
        let labels = chosen.iter().map(|&i| self.labels[i]).collect();
        let pixels = match &self.pixels {
            Pixels::Memory(images) => {
                let size = self.shape.iter().product::<usize>();
                let image = |&i: &usize| images[i * size..][..size].iter().copied();
                Pixels::Memory(Arc::new(chosen.iter().flat_map(image).collect()))
            }
            Pixels::Source { source, indices, shapes } => {
                let of_source = |&i: &usize| indices.as_ref().map_or(i, |indices| indices[i]);
                Pixels::Source {
                    source: source.clone(),
                    indices: Some(chosen.iter().map(of_source).collect()),
                    shapes: shapes.clone(),
                }
            }
        };
        let name = |names: &Arc<[String]>| chosen.iter().map(|&i| names[i].clone()).collect();
        let names = self.names.as_ref().map(name);
        let (shape, classes) = (self.shape, self.classes.clone());
        Ok(Self { pixels, labels, shape, classes, names, measured: Measured::default() })
    }

    /// The same images with another height, width or number of channels: 1 for grey (ITU-R 601 luma), 3 for colour.
    ///
    /// # Errors
    /// A side of 0 or above 4096, a change of channels other than between 1 and 3, or not enough memory.
    pub fn with_image_shape(mut self, to: [usize; 3]) -> Result<Self, DataError> {
        let from @ [_, _, found] = self.shape;
        if from == to {
            return Ok(self);
        }
        let [height, width, channels] = to;
        check_size(height, width)?;
        if channels != found {
            check_channels(channels)?;
            if !matches!(found, 1 | 3) {
                let expected =
                    format!("the {found} of the images, because only 1 and 3 can be converted");
                return Err(DataError::argument("channels", expected, channels));
            }
        }
        match &mut self.pixels {
            Pixels::Source { shapes, .. } => {
                shapes.push(to);
                self.measured = Measured::default();
            }
            Pixels::Memory(all) => {
                let mut images = buffer(self.labels.len(), to)?;
                let resized = images.par_chunks_exact_mut(to.iter().product());
                resized.zip(all.par_chunks_exact(from.iter().product())).for_each(
                    |(out, image)| {
                        out.copy_from_slice(&reshaped(image, from, to));
                    },
                );
                *all = Arc::new(images);
            }
        }
        self.shape = to;
        Ok(self)
    }
}

impl PartialEq for Dataset {
    /// Compares all images, one by one; one that cannot be read is equal to none.
    fn eq(&self, other: &Self) -> bool {
        let same = |i| matches!((self.image(i), other.image(i)), (Ok(a), Ok(b)) if a == b);
        self.shape == other.shape
            && self.labels == other.labels
            && self.classes == other.classes
            && (0..self.len()).all(same)
    }
}

/// An image in another shape.
fn reshaped(image: &[u8], [height, width, found]: [usize; 3], to: [usize; 3]) -> Vec<u8> {
    let [to_height, to_width, channels] = to;
    let image = convert(image.to_vec(), found, channels);
    resize(&image, [height, width, channels], to_height, to_width)
}

/// Refuses no images, a shape or a number of classes out of range, and labels that are no class.
fn check(labels: &[u16], shape: [usize; 3], classes: &[String]) -> Result<(), DataError> {
    let [height, width, channels] = shape;
    if shape.contains(&0) {
        let expected = "height, width and channels of at least 1";
        let found = format!("{height}x{width}x{channels}");
        return Err(DataError::argument("image shape", expected, found));
    }
    if labels.is_empty() {
        return Err(DataError::argument("images", "at least one image", "none"));
    }
    if !(2..=Dataset::MAX_CLASSES).contains(&classes.len()) {
        let expected = format!("2 to {} classes", Dataset::MAX_CLASSES);
        return Err(DataError::argument("classes", expected, classes.len()));
    }
    check_labels(Path::new("(images in memory)"), labels, classes.len())
}

/// Number of labels per class.
pub(crate) fn class_counts(labels: &[u16], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for &label in labels {
        counts[usize::from(label)] += 1;
    }
    counts
}

/// Refuses a label that is not below `classes`; recognises labels that count from 1.
pub(crate) fn check_labels(path: &Path, labels: &[u16], classes: usize) -> Result<(), DataError> {
    let Some(index) = labels.iter().position(|&label| usize::from(label) >= classes) else {
        return Ok(());
    };
    let (min, max) = (labels.iter().min(), labels.iter().max());
    let remedy = if min == Some(&1) && max.is_some_and(|&m| usize::from(m) == classes) {
        "the labels seem to count from 1: subtract 1 from each"
    } else {
        "correct the labels or the list of classes"
    };
    Err(DataError::Label {
        path: path.to_owned(),
        index,
        label: labels[index],
        classes,
        remedy: remedy.into(),
    })
}

/// Refuses training labels in which a class is missing.
pub(crate) fn check_no_class_empty(
    path: &Path,
    labels: &[u16],
    classes: &[String],
    remedy: &str,
) -> Result<(), DataError> {
    let Some(class) = class_counts(labels, classes.len()).iter().position(|&n| n == 0) else {
        return Ok(());
    };
    let (path, class, remedy) = (path.to_owned(), classes[class].clone(), remedy.to_owned());
    Err(DataError::EmptyClass { path, class, remedy })
}

/// Refuses an empty list of indices, and indices that are not below `len`.
pub(crate) fn check_indices(indices: &[usize], len: usize) -> Result<(), DataError> {
    if indices.is_empty() {
        return Err(DataError::argument("indices", "at least one image", "none"));
    }
    match indices.iter().find(|&&i| i >= len) {
        Some(index) => Err(DataError::argument("indices", format!("indices below {len}"), index)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| i.to_string()).collect()
    }

    #[test]
    fn getters_and_subset() {
        let data = Dataset::new((0..12).collect(), vec![0, 1, 1], [2, 1, 2], names(2)).unwrap();
        assert_eq!(*data.image(1).unwrap(), [4, 5, 6, 7]);
        assert_eq!(data.class_counts(), [1, 2]);
        let part = data.subset(&[2, 0]).unwrap();
        assert_eq!(
            (&*part.image(0).unwrap(), &*part.image(1).unwrap(), part.labels()),
            (&[8, 9, 10, 11][..], &[0, 1, 2, 3][..], &[1, 0][..])
        );
        assert!(data.subset(&[3]).unwrap_err().to_string().contains("indices below 3, found 3"));
        assert!(data.subset(&[]).is_err());
    }

    #[test]
    fn another_shape() {
        let grey = Dataset::new(vec![0, 40, 9, 9], vec![0, 1], [1, 2, 1], names(2)).unwrap();
        let colour = grey.clone().with_image_shape([1, 2, 3]).unwrap();
        assert_eq!(*colour.image(0).unwrap(), [0, 0, 0, 40, 40, 40]);
        assert_eq!(colour.clone().with_image_shape([1, 2, 1]).unwrap(), grey, "there and back");
        let large = colour.with_image_shape([2, 5, 1]).unwrap();
        assert_eq!((large.image_shape(), &*large.image(1).unwrap()), ([2, 5, 1], &[9; 10][..]));
        assert_eq!(large.labels(), grey.labels());
        let red = Dataset::new(vec![200, 0, 0], vec![0], [1, 1, 3], names(2)).unwrap();
        assert_eq!(red.with_image_shape([1, 1, 1]).unwrap().image(0).unwrap()[..], [60]);

        let refusal = |from: usize, to| {
            let data = Dataset::new(vec![0; from], vec![0], [1, 1, from], names(2)).unwrap();
            data.with_image_shape(to).unwrap_err().to_string()
        };
        assert!(
            refusal(3, [1, 1, 2]).contains("channels: expected 1 (grey) or 3 (colour), found 2")
        );
        assert!(refusal(4, [1, 1, 3]).contains("channels: expected the 4 of the images"));
        assert!(refusal(3, [0, 1, 3]).contains("sides of 1 to 4096 pixels, found 0x1"));
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let refusal = |bytes: usize, labels: &[u16], shape, classes| {
            Dataset::new(vec![0; bytes], labels.to_vec(), shape, names(classes))
                .unwrap_err()
                .to_string()
        };
        assert!(refusal(0, &[], [1, 1, 1], 2).contains("at least one image"));
        assert!(refusal(0, &[0], [0, 1, 1], 2).contains("0x1x1"));
        assert!(refusal(7, &[0, 1], [2, 2, 1], 2).contains("2 images of 2x2x1 bytes, found 7"));
        assert!(refusal(0, &[0], [usize::MAX, 2, 3], 2).contains("found 0 bytes"));
        assert!(refusal(1, &[0], [1, 1, 1], 1).contains("2 to 65535 classes, found 1"));
        assert!(refusal(1, &[0], [1, 1, 1], 65_536).contains("found 65536"));
        let text = refusal(2, &[0, 3], [1, 1, 1], 3);
        assert!(text.contains("labels from 0 to 2, found label 3 at index 1; correct"), "{text}");
        let text = refusal(3, &[1, 2, 3], [1, 1, 1], 3);
        assert!(
            text.contains("found label 3 at index 2; the labels seem to count from 1"),
            "{text}"
        );
    }
}
