//! The content of a data set and the problems in it.

use std::collections::HashSet;
use std::fmt;

use serde::Serialize;

use crate::{Dataset, Normalization, Splits, normalization};

/// Counts, sizes, statistics and problems of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Description {
    /// Name or path of the data set.
    pub name: String,
    /// Height in pixels.
    pub height: usize,
    /// Width in pixels.
    pub width: usize,
    /// 1 for grey, 3 for colour.
    pub channels: usize,
    /// Names of the classes, in the order of the labels.
    pub classes: Vec<String>,
    /// Mean and standard deviation of the training images per channel, for values in `0..=1`.
    pub normalization: Normalization,
    /// The parts: `train`, and `valid` and `test` if they exist.
    pub splits: Vec<SplitDescription>,
    /// What was done to the images while they were read.
    pub notes: Vec<String>,
    /// Problems to look at.
    pub faults: Vec<String>,
}

/// Counts of one part.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SplitDescription {
    /// `train`, `valid` or `test`.
    pub name: &'static str,
    /// Number of images.
    pub images: usize,
    /// Number of images per class.
    pub class_counts: Vec<usize>,
}

/// Smallest ratio of the largest class to the smallest one that is reported.
const IMBALANCE: usize = 5;

/// Examines all images: counts, statistics and problems (empty or unbalanced classes, duplicates, constant images).
pub fn describe(splits: &Splits) -> Description {
    let mut faults = Vec::new();
    for (name, data) in splits.parts() {
        faults.extend(class_faults(name, data));
        let constant = images(data).filter(|image| is_constant(image, data.channels())).count();
        if constant > 0 {
            faults.push(format!("images with a single colour in {name}: {constant}"));
        }
    }
    let train: HashSet<&[u8]> = images(&splits.train).collect();
    for (name, data) in splits.parts().filter(|(name, _)| *name != "train") {
        let shared = images(data).filter(|image| train.contains(image)).count();
        if shared > 0 {
            faults.push(format!("{name} images that are also training images: {shared}"));
        }
    }
    let data = &splits.train;
    let part = |(name, data): (_, &Dataset)| SplitDescription {
        name,
        images: data.len(),
        class_counts: data.class_counts(),
    };
    Description {
        name: splits.name.clone(),
        height: data.height(),
        width: data.width(),
        channels: data.channels(),
        classes: data.classes().to_vec(),
        normalization: normalization(data),
        splits: splits.parts().map(part).collect(),
        notes: splits.warnings.clone(),
        faults,
    }
}

fn images(data: &Dataset) -> impl Iterator<Item = &[u8]> {
    (0..data.len()).map(|i| data.image(i))
}

fn is_constant(image: &[u8], channels: usize) -> bool {
    image.chunks_exact(channels).all(|pixel| *pixel == image[..channels])
}

fn class_faults(name: &str, data: &Dataset) -> Vec<String> {
    let counts = data.class_counts();
    let named = || data.classes().iter().zip(counts.iter().copied());
    let mut faults: Vec<String> = named()
        .filter(|&(_, n)| n == 0)
        .map(|(class, _)| format!("no {name} images of class `{class}`"))
        .collect();
    let filled = || named().filter(|&(_, n)| n > 0);
    let extremes = filled().min_by_key(|class| class.1).zip(filled().max_by_key(|class| class.1));
    if let Some(((small, least), (large, most))) =
        extremes.filter(|(min, max)| max.1 >= IMBALANCE * min.1)
    {
        faults.push(format!(
            "unbalanced {name} classes: {most} images of `{large}`, {least} of `{small}`"
        ));
    }
    faults
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, height, width, channels, classes, normalization, splits, notes, faults } =
            self;
        let values =
            |values: &[f32]| values.iter().map(|v| format!("{v:.4}")).collect::<Vec<_>>().join(" ");
        let colour = match channels {
            1 => "grey".to_owned(),
            3 => "colour".to_owned(),
            n => format!("{n} channels"),
        };
        writeln!(f, "{name}: {} classes, {height}x{width} {colour}", classes.len())?;
        writeln!(
            f,
            "mean {}, standard deviation {}",
            values(&normalization.mean),
            values(&normalization.std)
        )?;
        let wide = classes.iter().map(|c| c.chars().count()).max().unwrap_or(0).max("images".len());
        let mut row = |head: &str, cell: &dyn Fn(&SplitDescription) -> String| {
            write!(f, "{head:wide$}")?;
            splits.iter().try_for_each(|split| write!(f, "  {:>8}", cell(split)))?;
            writeln!(f)
        };
        row("", &|split| split.name.to_owned())?;
        row("images", &|split| split.images.to_string())?;
        for (index, class) in classes.iter().enumerate() {
            row(class, &|split| split.class_counts[index].to_string())?;
        }
        notes.iter().try_for_each(|note| writeln!(f, "note: {note}"))?;
        match faults.len() {
            0 => writeln!(f, "no problems found"),
            _ => faults.iter().try_for_each(|fault| writeln!(f, "problem: {fault}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dataset(images: &[[u8; 2]], labels: &[u16]) -> Dataset {
        let classes = ["cat", "dog", "newt"].map(String::from).to_vec();
        Dataset::new(images.concat(), labels.to_vec(), [1, 2, 1], classes).unwrap()
    }

    #[test]
    fn counts_and_faults() {
        let train =
            dataset(&[[0, 255], [1, 2], [3, 4], [5, 6], [7, 8], [9, 9]], &[0, 0, 0, 0, 0, 2]);
        let test = dataset(&[[0, 255], [1, 3]], &[0, 1]);
        let warnings = vec!["skipped something".into()];
        let found = describe(&Splits {
            name: "pets".into(),
            train,
            valid: None,
            test: Some(test),
            warnings,
        });
        assert_eq!(
            found.splits[0],
            SplitDescription { name: "train", images: 6, class_counts: vec![5, 0, 1] }
        );
        assert_eq!(
            found.splits[1],
            SplitDescription { name: "test", images: 2, class_counts: vec![1, 1, 0] }
        );
        assert_eq!(found.notes, ["skipped something"]);
        assert_eq!(
            found.faults,
            [
                "no train images of class `dog`",
                "unbalanced train classes: 5 images of `cat`, 1 of `newt`",
                "images with a single colour in train: 1",
                "no test images of class `newt`",
                "test images that are also training images: 1",
            ]
        );
        let text = found.to_string();
        assert!(text.starts_with("pets: 3 classes, 1x2 grey\nmean 0.1010"), "{text}");
        assert!(text.contains("\ncat            5         1\n"), "{text}");
        assert!(text.contains("\nproblem: no train images of class `dog`\n"), "{text}");
        assert_eq!(serde_json::to_value(&found).unwrap()["splits"][1]["class_counts"][1], 1);
    }

    #[test]
    fn a_good_set_has_no_faults() {
        let train = dataset(&[[0, 1], [1, 2], [2, 3]], &[0, 1, 2]);
        let found = describe(&Splits {
            name: "x".into(),
            train,
            valid: None,
            test: None,
            warnings: vec![],
        });
        assert!(found.faults.is_empty(), "{found}");
        assert!(found.to_string().ends_with("no problems found\n"));
    }
}
