//! The parts of a data set: images for training, for validation and for tests.

use std::borrow::Cow;
use std::sync::Arc;

use crate::{DataError, Dataset, ImageSource};

/// A data set: training, validation and test images with the same size and classes.
#[derive(Clone, Debug)]
pub struct Splits {
    /// The name or path of the data set.
    pub name: String,
    /// Training images; a search splits them again.
    pub train: Dataset,
    /// Validation images, if the data set has its own.
    pub valid: Option<Dataset>,
    /// Test images, if there are any.
    pub test: Option<Dataset>,
    /// Remarks for the user: images that were resized, skipped or missing.
    pub warnings: Vec<String>,
    /// Image files that could not be decoded and were skipped, with the reason.
    pub unreadable: Vec<String>,
}

impl Splits {
    /// The existing parts with their names: `train`, `valid`, `test`.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, &Dataset)> {
        let parts = [
            ("train", Some(&self.train)),
            ("valid", self.valid.as_ref()),
            ("test", self.test.as_ref()),
        ];
        parts.into_iter().filter_map(|(name, data)| Some((name, data?)))
    }

    /// The images of all parts as one data set, in the order of [`Splits::parts`].
    ///
    /// # Errors
    /// Parts of different shape or classes.
    pub fn joined(&self) -> Result<Dataset, DataError> {
        let parts: Vec<Dataset> = self.parts().map(|(_, images)| images.clone()).collect();
        let (first, rest) = (&parts[0], &parts[1..]);
        if let Some(other) = rest
            .iter()
            .find(|p| p.image_shape() != first.image_shape() || p.classes() != first.classes())
        {
            let of = |data: &Dataset| {
                format!("{:?} in {} classes", data.image_shape(), data.classes().len())
            };
            return Err(DataError::argument("parts", of(first), of(other)));
        }
        let labels = parts.iter().flat_map(|part| part.labels().iter().copied()).collect();
        let name = |part: &Dataset, i| part.name(i).map(str::to_owned);
        let names = parts.iter().flat_map(|part| (0..part.len()).map(|i| name(part, i)));
        let names: Option<Vec<String>> = names.collect();
        let classes = first.classes().to_vec();
        let joined = Dataset::from_source(Arc::new(Joined(parts)), labels, classes)?;
        Ok(match names {
            Some(names) => joined.with_names(names),
            None => joined,
        })
    }

    /// Applies `change` to every part.
    pub(crate) fn map(
        self,
        change: impl Fn(Dataset) -> Result<Dataset, DataError>,
    ) -> Result<Self, DataError> {
        Ok(Self {
            train: change(self.train)?,
            valid: self.valid.map(&change).transpose()?,
            test: self.test.map(&change).transpose()?,
            ..self
        })
    }
}

/// The images of several data sets of one shape, one data set after the other.
#[derive(Debug)]
struct Joined(Vec<Dataset>);

impl ImageSource for Joined {
    fn count(&self) -> usize {
        self.0.iter().map(Dataset::len).sum()
    }

    fn shape(&self) -> [usize; 3] {
        self.0[0].image_shape()
    }

    fn read(&self, mut index: usize) -> Result<Cow<'_, [u8]>, DataError> {
        for part in &self.0 {
            if index < part.len() {
                return part.image(index);
            }
            index -= part.len();
        }
        unreachable!("the index of an image that is counted")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_joined_in_order() {
        let part = |first: u8, labels: &[u16], classes| {
            let images = (first..).take(labels.len()).collect();
            let names = (0..classes).map(|i: usize| i.to_string()).collect();
            Dataset::new(images, labels.to_vec(), [1, 1, 1], names).unwrap()
        };
        let splits = |test| Splits {
            name: "parts".to_owned(),
            train: part(0, &[0, 1, 0], 2),
            valid: None,
            test: Some(test),
            warnings: Vec::new(),
            unreadable: Vec::new(),
        };
        let all = splits(part(7, &[1, 1], 2)).joined().unwrap();
        assert_eq!(all.labels(), [0, 1, 0, 1, 1]);
        let images: Vec<u8> = (0..5).map(|i| all.image(i).unwrap()[0]).collect();
        assert_eq!(images, [0, 1, 2, 7, 8]);
        assert_eq!(*all.subset(&[4, 1]).unwrap().image(0).unwrap(), [8]);
        assert!(splits(part(7, &[1], 3)).joined().unwrap_err().to_string().contains("3 classes"));
    }
}
