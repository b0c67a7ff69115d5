//! The content of a data set and the problems in it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use rayon::prelude::*;
use serde::Serialize;

use crate::random::fnv1a;
use crate::{DataError, Dataset, Normalization, Splits, normalization};

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
    pub faults: Vec<Fault>,
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

/// A problem of a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fault {
    /// Its kind.
    pub kind: FaultKind,
    /// What it is, with counts.
    pub text: String,
    /// The images concerned: their files, or part and index, such as `train 17`.
    pub images: Vec<String>,
}

/// A kind of problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// Image files that could not be decoded.
    Unreadable,
    /// No test images.
    NoTest,
    /// A class without images in a part.
    EmptyClass,
    /// Classes of very different sizes.
    Unbalanced,
    /// Images of a single colour.
    SingleColour,
    /// The same image more than once in a part, with one label.
    Duplicates,
    /// The same image in training and in another part.
    SharedWithTraining,
    /// The same image with different labels.
    TwoLabels,
    /// A channel that is nearly the same everywhere.
    EmptyChannel,
    /// Two classes that are mirror images of each other.
    MirrorClasses,
}

/// Smallest ratio of the largest class to the smallest one that is reported.
const IMBALANCE: usize = 5;
/// A channel is nearly empty below this standard deviation, for values in `0..=1`.
const EMPTY_CHANNEL: f32 = 0.004;
/// Fewest images of a class whose mean says what it looks like.
const MEAN_OF: usize = 5;
/// Most sums that are kept for the means of the classes.
const MOST_SUMS: usize = 1 << 26;
/// Number of images named in the text.
const NAMED: usize = 3;

/// Examines all images: counts, statistics and problems.
///
/// # Errors
/// An image that is not in memory and cannot be read.
pub fn describe(splits: &Splits) -> Result<Description, DataError> {
    let mut faults = Vec::new();
    if !splits.unreadable.is_empty() {
        let text = format!("unreadable image files, left out: {}", splits.unreadable.len());
        let images = splits.unreadable.clone();
        faults.push(Fault { kind: FaultKind::Unreadable, text, images });
    }
    if splits.test.is_none() {
        let text = "no test images: nothing will tell the error on new images".to_owned();
        faults.push(Fault { kind: FaultKind::NoTest, text, images: Vec::new() });
    }
    let mut seen: HashMap<u64, Vec<Place>> = HashMap::new();
    for (name, data) in splits.parts() {
        faults.extend(class_faults(name, data));
        let (hashes, constant) = examine(name, data, &mut faults)?;
        if !constant.is_empty() {
            let text = format!("images with a single colour in {name}: {}", constant.len());
            let images = constant.iter().map(|&index| named(name, data, index)).collect();
            faults.push(Fault { kind: FaultKind::SingleColour, text, images });
        }
        for (index, hash) in hashes.into_iter().enumerate() {
            let label = data.labels()[index];
            seen.entry(hash).or_default().push(Place { part: name, index, label });
        }
    }
    faults.extend(repeated(splits, seen));
    let data = &splits.train;
    let normalization = normalization(data)?;
    for (channel, std) in normalization.std.iter().enumerate() {
        // A channel that is the same everywhere has deviation 1, which no other has.
        let mean = normalization.mean[channel];
        let std = if *std == 1.0 { 0.0 } else { *std };
        let empty = std < EMPTY_CHANNEL;
        if empty && data.channels() > 1 {
            let colour = ["red", "green", "blue"].get(channel).unwrap_or(&"a");
            let text = format!(
                "the {colour} channel is nearly the same in all images (mean {mean:.3}, deviation {:.4}): training turns its noise into \
                 a signal; read the images in grey, or look at how they were made",
                std
            );
            faults.push(Fault { kind: FaultKind::EmptyChannel, text, images: Vec::new() });
        }
    }
    let part = |(name, data): (_, &Dataset)| SplitDescription {
        name,
        images: data.len(),
        class_counts: data.class_counts(),
    };
    Ok(Description {
        name: splits.name.clone(),
        height: data.height(),
        width: data.width(),
        channels: data.channels(),
        classes: data.classes().to_vec(),
        normalization,
        splits: splits.parts().map(part).collect(),
        notes: splits.warnings.clone(),
        faults,
    })
}

/// Where an image is.
#[derive(Clone, Copy)]
struct Place {
    part: &'static str,
    index: usize,
    label: u16,
}

/// The file of an image, or its part and index.
fn named(part: &str, data: &Dataset, index: usize) -> String {
    data.name(index).map_or_else(|| format!("{part} {index}"), String::from)
}

/// A number for every image that is the same for the same bytes, and the images of a single colour; adds classes that mirror each other.
fn examine(
    name: &str,
    data: &Dataset,
    faults: &mut Vec<Fault>,
) -> Result<(Vec<u64>, Vec<usize>), DataError> {
    let (classes, size) = (data.classes().len(), data.image_shape().iter().product::<usize>());
    let few = classes.saturating_mul(size) <= MOST_SUMS;
    let mut sums = vec![vec![0u32; if few { size } else { 0 }]; classes];
    let (mut hashes, mut constant) = (Vec::with_capacity(data.len()), Vec::new());
    for first in (0..data.len()).step_by(data.at_a_time()) {
        let chosen = first..data.len().min(first + data.at_a_time());
        let images = chosen.into_par_iter().map(|index| data.image(index));
        for (index, image) in (first..).zip(images.collect::<Result<Vec<_>, _>>()?) {
            hashes.push(fnv1a(&image));
            if is_constant(&image, data.channels()) {
                constant.push(index);
            }
            let sum = &mut sums[usize::from(data.labels()[index])];
            sum.iter_mut().zip(&*image).for_each(|(sum, &byte)| *sum += u32::from(byte));
        }
    }
    if few && name == "train" {
        faults.extend(mirrored_classes(data, &sums));
    }
    Ok((hashes, constant))
}

/// Pairs of classes, each of which looks, mirrored, much more like the other than like itself: by their mean images.
fn mirrored_classes(data: &Dataset, sums: &[Vec<u32>]) -> Option<Fault> {
    let counts = data.class_counts();
    let [_, width, channels] = data.image_shape();
    let mean = |class: usize| -> Vec<f64> {
        sums[class].iter().map(|&sum| f64::from(sum) / counts[class] as f64).collect()
    };
    let mirrored = |image: &[f64]| -> Vec<f64> {
        let rows = image.chunks_exact(width * channels);
        rows.flat_map(|row| row.chunks_exact(channels).rev().flatten().copied()).collect()
    };
    let distance = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
    };
    let means: Vec<Vec<f64>> = (0..counts.len()).map(mean).collect();
    // The class that a mirrored one is nearest to, if that is not itself by far.
    let nearest = |class: usize| {
        let image = mirrored(&means[class]);
        let others = (0..means.len()).filter(|&other| counts[other] >= MEAN_OF && other != class);
        let to = |other: usize| distance(&image, &means[other]);
        let found = others.min_by(|&a, &b| to(a).total_cmp(&to(b)))?;
        (4.0 * to(found) < to(class)).then_some(found)
    };
    let enough = |class: &usize| counts[*class] >= MEAN_OF;
    let nearest: Vec<_> =
        (0..means.len()).map(|class| Some(class).filter(enough).and_then(nearest)).collect();
    let pairs: Vec<String> = (nearest.iter().enumerate())
        .filter_map(|(class, other)| Some((class, (*other)?)))
        .filter(|&(class, other)| class < other && nearest[other] == Some(class))
        .map(|(class, other)| {
            format!("`{}` and `{}`", data.classes()[class], data.classes()[other])
        })
        .collect();
    (!pairs.is_empty()).then(|| Fault {
        kind: FaultKind::MirrorClasses,
        text: format!(
            "classes that look like mirror images of each other: {}; mirrored training images would get the wrong label: \
             --set augment.flip=false --set train.augment.flip=false",
            pairs.join(", ")
        ),
        images: Vec::new(),
    })
}

/// Images that occur more than once.
fn repeated(splits: &Splits, seen: HashMap<u64, Vec<Place>>) -> Vec<Fault> {
    let mut groups: Vec<Vec<Place>> =
        seen.into_values().filter(|places| places.len() > 1).collect();
    let order =
        |place: &Place| (splits.parts().position(|(name, _)| name == place.part), place.index);
    groups.sort_by_key(|places| order(&places[0]));
    let data = |part| splits.parts().find(|(name, _)| *name == part).map(|(_, data)| data);
    let name = |place: &Place| {
        let data = data(place.part);
        data.map_or_else(String::new, |data| named(place.part, data, place.index))
    };
    let class = |label: u16| &splits.train.classes()[usize::from(label)];
    let mut two_labels = Vec::new();
    let (mut within, mut shared) = (BTreeMap::<_, Vec<_>>::new(), BTreeMap::<_, Vec<_>>::new());
    for places in &groups {
        let first = &places[0];
        if let Some(other) = places.iter().find(|place| place.label != first.label) {
            two_labels.push(format!(
                "{} (`{}`) and {} (`{}`)",
                name(first),
                class(first.label),
                name(other),
                class(other.label)
            ));
        }
        for (index, place) in places.iter().enumerate().skip(1) {
            let before = &places[..index];
            if place.part != "train" && before.iter().any(|other| other.part == "train") {
                shared.entry(place.part).or_default().push(format!(
                    "{} is {}",
                    name(place),
                    name(first)
                ));
            } else if let Some(other) =
                before.iter().find(|other| other.part == place.part && other.label == place.label)
            {
                within.entry(place.part).or_default().push(format!(
                    "{} is {}",
                    name(place),
                    name(other)
                ));
            }
        }
    }
    let mut faults = Vec::new();
    for (name, images) in within {
        let text = format!("{name} images that are there more than once: {}", images.len());
        faults.push(Fault { kind: FaultKind::Duplicates, text, images });
    }
    for (name, images) in shared {
        let text = format!("{name} images that are also training images: {}", images.len());
        faults.push(Fault { kind: FaultKind::SharedWithTraining, text, images });
    }
    if !two_labels.is_empty() {
        let text = format!("images that have two labels: {}", two_labels.len());
        faults.push(Fault { kind: FaultKind::TwoLabels, text, images: two_labels });
    }
    faults
}

fn is_constant(image: &[u8], channels: usize) -> bool {
    image.chunks_exact(channels).all(|pixel| *pixel == image[..channels])
}

fn class_faults(name: &str, data: &Dataset) -> Vec<Fault> {
    let counts = data.class_counts();
    let named = || data.classes().iter().zip(counts.iter().copied());
    let fault = |kind, text| Fault { kind, text, images: Vec::new() };
    let mut faults: Vec<Fault> = named()
        .filter(|&(_, n)| n == 0)
        .map(|(class, _)| {
            fault(FaultKind::EmptyClass, format!("no {name} images of class `{class}`"))
        })
        .collect();
    let filled = || named().filter(|&(_, n)| n > 0);
    let extremes = filled().min_by_key(|class| class.1).zip(filled().max_by_key(|class| class.1));
    if let Some(((small, least), (large, most))) =
        extremes.filter(|(min, max)| max.1 >= IMBALANCE * min.1)
    {
        let text =
            format!("unbalanced {name} classes: {most} images of `{large}`, {least} of `{small}`");
        faults.push(fault(FaultKind::Unbalanced, text));
    }
    faults
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.images[..self.images.len().min(NAMED)];
        f.write_str(&self.text)?;
        if let [first, rest @ ..] = shown {
            write!(f, " ({first}")?;
            rest.iter().try_for_each(|image| write!(f, "; {image}"))?;
            let more = self.images.len() - shown.len();
            if more > 0 {
                write!(f, "; and {more} more, all with --json")?;
            }
            f.write_str(")")?;
        }
        Ok(())
    }
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
            unreadable: Vec::new(),
        })
        .unwrap();
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
            found.faults.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "no train images of class `dog`",
                "unbalanced train classes: 5 images of `cat`, 1 of `newt`",
                "images with a single colour in train: 1 (train 5)",
                "no test images of class `newt`",
                "test images that are also training images: 1 (test 0 is train 0)",
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
            test: Some(dataset(&[[5, 6], [6, 7], [7, 9]], &[0, 1, 2])),
            warnings: vec![],
            unreadable: Vec::new(),
        })
        .unwrap();
        assert!(found.faults.is_empty(), "{found}");
        assert!(found.to_string().ends_with("no problems found\n"));
    }

    #[test]
    fn the_same_image_twice_or_with_two_labels() {
        let train = dataset(&[[0, 1], [1, 2], [2, 3], [0, 1], [1, 2], [7, 9]], &[0, 1, 2, 0, 2, 1]);
        let train = train.with_names((0..6).map(|i| format!("{i}.png")).collect());
        let test = Some(dataset(&[[7, 9], [8, 9], [8, 9]], &[0, 1, 1]));
        let found = describe(&Splits {
            name: "x".into(),
            train,
            valid: None,
            test,
            warnings: vec![],
            unreadable: vec!["broken.png".into()],
        })
        .unwrap();
        let of = |kind| found.faults.iter().find(|fault| fault.kind == kind).unwrap();
        assert_eq!(of(FaultKind::Unreadable).images, ["broken.png"]);
        let twice: Vec<_> =
            found.faults.iter().filter(|f| f.kind == FaultKind::Duplicates).collect();
        assert_eq!(twice[0].images, ["test 2 is test 1"]);
        assert_eq!(twice[1].images, ["3.png is 0.png"]);
        assert_eq!(of(FaultKind::SharedWithTraining).images, ["test 0 is 5.png"]);
        let two = ["1.png (`dog`) and 4.png (`newt`)", "5.png (`dog`) and test 0 (`cat`)"];
        assert_eq!(of(FaultKind::TwoLabels).images, two);
    }

    #[test]
    fn empty_channels_and_classes_that_mirror_each_other() {
        let side = |left: bool, seed: u8| -> Vec<u8> {
            let bright = [200 + seed % 20, 30 + seed, 0];
            let dark = [seed, 10, 0];
            if left { [bright, dark].concat() } else { [dark, bright].concat() }
        };
        let middle = |seed: u8| vec![90, 90 + seed, 0, 91, 90, 0];
        let images: Vec<u8> = (0..30)
            .flat_map(|i| match i % 3 {
                0 => side(true, i),
                1 => side(false, i),
                _ => middle(i),
            })
            .collect();
        let classes = ["left", "right", "middle"].map(String::from).to_vec();
        let labels: Vec<u16> = (0..30).map(|i| i % 3).collect();
        let train = Dataset::new(images, labels, [1, 2, 3], classes).unwrap();
        let splits = Splits {
            name: "x".into(),
            train,
            valid: None,
            test: None,
            warnings: vec![],
            unreadable: vec![],
        };
        let faults = describe(&splits).unwrap().faults;
        let texts: Vec<_> = faults.iter().map(|fault| fault.text.as_str()).collect();
        assert!(texts[1].contains("mirror images of each other: `left` and `right`;"), "{texts:?}");
        assert!(texts[2].contains("the blue channel is nearly the same"), "{texts:?}");
        assert_eq!(texts.len(), 3, "{texts:?}");
    }
}
