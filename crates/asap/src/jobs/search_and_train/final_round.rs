//! The final of a run: short trainings of everything that might be trained, judged on held-out training images.

use asap_core::{Design, Family, Genotype, PlainNetwork, PublishedCell};
use asap_data::Splits;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Progress, SIMPLE};
use crate::error::Error;
use crate::jobs::fit::{self, Share, Size};
use crate::run::tables::{Candidate, SearchAndTrainings};
use crate::settings::config::Config;
use crate::train::{self, Training};

/// Fraction of the time that the final takes.
pub(super) const SHARE: f64 = 0.15;
/// Without a time, the epochs of the trainings of the final: this fraction of those of the training, and no more than that.
const SHORT: (f64, usize) = (0.2, 10);
/// Fraction of the training images on which the final judges, unless the configuration holds out more.
const HELD_OUT: f64 = 0.1;
/// The most images that the final judges on, as a fraction of those that it trains on: to judge must not take longer than to train.
const HELD_OUT_OF_FEW: f64 = 0.5;
/// The published cell of the final.
const PUBLISHED: &str = "ASAP";
/// The file of what is decided before the first candidate.
const FINAL: &str = "final.json";
/// The folder of the trainings of the final.
const CANDIDATES: &str = "candidates";

impl Progress<'_> {
    /// The final: short trainings of everything that might be trained, in the same time or at the same cost, judged on held-out
    /// training images, but for the simplest, which is judged before. What does not fit into the time or the limits is left out.
    pub(super) fn compare(&mut self, searches: &[SearchAndTrainings]) -> Result<Judged, Error> {
        let mut designs = plain()?;
        let found = searches.iter().map(|found| (&found.folder, &found.search.genotype));
        designs.extend(found.map(|(name, genotype)| (name.clone(), genotype.clone().into())));
        designs.extend(others(&self.config)?);
        let mut candidates = Vec::new();
        for (number, (name, design)) in designs.iter().enumerate().filter(|(_, d)| d.0 != SIMPLE) {
            match self.judge(number, name, design)? {
                Judged::Done(made) => candidates.extend(made),
                Judged::Stopped => return Ok(Judged::Stopped),
            }
        }
        Ok(Judged::Done(candidates))
    }

    /// The short training of a candidate; none if it is left out.
    pub(super) fn judge(
        &mut self,
        number: usize,
        name: &str,
        design: &Design,
    ) -> Result<Judged, Error> {
        match self.candidate(number, name, design) {
            Ok(Some(made)) => Ok(Judged::Done(vec![made])),
            Ok(None) => Ok(Judged::Stopped),
            Err(error) if is_its_own(&error) => {
                self.say(&format!("final, without {name}: {error}"));
                self.left_out.push((name.to_owned(), error));
                Ok(Judged::Done(Vec::new()))
            }
            Err(error) => Err(error),
        }
    }

    /// The short training of a candidate; `None` if asked to stop.
    fn candidate(
        &mut self,
        number: usize,
        name: &str,
        design: &Design,
    ) -> Result<Option<Candidate>, Error> {
        let run = self.run;
        let count = self.candidates();
        // The test images decide nothing, so nothing of them is measured here.
        let images = Splits { test: None, ..self.images.clone() };
        let short = self.short();
        let folder = format!("{CANDIDATES}/{name}");
        let path = run.path(&folder);
        let title = format!("final, {} of {count}: {name}", number + 1);
        let fitting = |_: &Self, seconds: f64| {
            let share = Share { seconds: SHARE * seconds / count as f64, must: false };
            fit::training(&short, design, &images, share, Size::Decided)
        };
        let config = self.decided(&path, &title, short.clone(), fitting)?;
        let made = self.train_in(&path, &config, design, &images, None)?;
        Ok(made.map(|result| Candidate {
            folder,
            name: name.to_owned(),
            design: design.clone(),
            params: result.params,
            multiply_adds: result.multiply_adds,
            epochs: result.epochs,
            seconds: result.seconds,
            accuracy: result.valid_accuracy.unwrap_or(0.0),
            held_out: result.data.valid_images,
        }))
    }

    /// Number of candidates: plain networks, cells found, a published one if there is one, a random one.
    fn candidates(&self) -> usize {
        let published = usize::from(published(self.config.space).is_some());
        PlainNetwork::NAMES.len() + self.run.plan.searches as usize + published + 1
    }

    /// With a time, decides how many images the final trains on: cells, the slowest candidates, must see them several times.
    pub(super) fn decide_images(&mut self) -> Result<(), Error> {
        let Some(seconds) = self.run.plan.seconds else { return Ok(()) };
        if let Some(ImagesToCompare { images }) = self.run.folder.read_json(FINAL)? {
            self.images_to_compare = images;
            return Ok(());
        }
        let (_, cell) = others(&self.config)?.swap_remove(0);
        let images = Splits { test: None, ..self.images.clone() };
        let seconds = SHARE * seconds / self.candidates() as f64;
        let most = match fit::images_to_compare(&self.short(), &cell, &images, seconds) {
            Ok(most) => most,
            // What keeps a cell from training keeps none of the others.
            Err(error) if is_its_own(&error) => self.images_to_compare,
            Err(error) => return Err(error),
        };
        if most != self.images_to_compare {
            self.say(&format!(
                "the final trains on {most} images, so that each candidate sees them several times"
            ));
        }
        self.images_to_compare = most;
        self.run.folder.write_json(FINAL, &ImagesToCompare { images: most })
    }

    /// If the simplest candidate could not be trained for another reason than time, makes sure before a search that another one can.
    pub(super) fn refuse_if_none_fits(&self) -> Result<(), Error> {
        match self.left_out.first() {
            Some((_, error)) if !is_short(error) => {
                let images = Splits { test: None, ..self.images.clone() };
                simplest(&self.short(), &images).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// The settings of a short training.
    pub(super) fn short(&self) -> Config {
        let mut config = self.config.clone();
        config.train.images = self.images_to_compare;
        let images = self.images.train.len();
        let trained_on = Some(self.images_to_compare).filter(|&most| most > 0).unwrap_or(images);
        let most = HELD_OUT_OF_FEW * trained_on as f64 / images as f64;
        config.train.validation = config.train.validation.max(HELD_OUT).min(most);
        if self.images.valid.is_some() {
            config.train.validate_at_most((HELD_OUT_OF_FEW * trained_on as f64) as usize);
        }
        config.train.inherit = false;
        if self.run.plan.seconds.is_none() {
            let (share, most) = SHORT;
            let train = &mut config.train;
            train.epochs = ((share * train.epochs as f64) as usize).clamp(1, most);
            train.warmup_epochs = train.warmup_epochs.min(0.2 * train.epochs as f64);
            train.seconds = 0.0;
        }
        config
    }

    /// Gives every network the multiply-adds that a published cell has with the configuration's channels, unless all have the same
    /// anyway or a time decides.
    pub(super) fn equal_cost(&mut self) -> Result<(), Error> {
        let train = &mut self.config.train;
        if train.multiply_adds == 0 && self.run.plan.seconds.is_none() {
            let shape = train.shape_for(&self.images.train);
            let usual = published(self.config.space).unwrap_or(PublishedCell::find(PUBLISHED)?);
            let cost = shape.cost_with(&usual.genotype().into(), shape.channels)?;
            train.multiply_adds = cost.multiply_adds;
        }
        Ok(())
    }
}

/// What is decided before the first candidate.
#[derive(Serialize, Deserialize)]
struct ImagesToCompare {
    /// The most training images of each; 0: all.
    images: usize,
}

/// Candidates that were judged.
pub(super) enum Judged {
    /// Those that were not left out.
    Done(Vec<Candidate>),
    /// Asked to stop.
    Stopped,
}

/// A candidate of a final by its name.
pub(super) type Named = (String, Design);

/// The plain networks, the simplest first.
fn plain() -> Result<Vec<Named>, Error> {
    let named = |name: &str| Ok((name.to_owned(), Design::Plain(name.parse()?)));
    PlainNetwork::NAMES.into_iter().map(named).collect()
}

/// The cells that need no search: a published one, if there is one of the space, and a random one.
fn others(config: &Config) -> Result<Vec<Named>, Error> {
    let published = published(config.space);
    let published = published.map(|cell| (cell.name.to_owned(), cell.genotype().into()));
    let mut random = ChaCha8Rng::seed_from_u64(config.seed);
    let random = Genotype::random(&config.space()?, &mut random);
    Ok(published.into_iter().chain([("random".to_owned(), random.into())]).collect())
}

/// The candidates that need no search: the plain networks, then the cells.
fn without_search(config: &Config) -> Result<Vec<Named>, Error> {
    Ok(plain()?.into_iter().chain(others(config)?).collect())
}

/// The first candidate without a search that can be trained with these settings; the error of the first if none can.
pub(super) fn simplest(config: &Config, images: &Splits) -> Result<Named, Error> {
    let mut first = None;
    for (name, design) in without_search(config)? {
        match Training::new(config.clone(), design.clone(), images.clone()) {
            Ok(_) => return Ok((name, design)),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    Err(first.unwrap_or_else(|| unreachable!("there are plain networks")))
}

/// Refuses limits that no candidate known so far can keep. Latencies are not measured here.
pub(super) fn check_limits(config: &Config, images: &Splits) -> Result<(), Error> {
    let shape = config.train.shape_for(&images.train);
    let designs: Vec<Design> =
        without_search(config)?.into_iter().map(|(_, design)| design).collect();
    train::check_limits(&config.limits, &designs, shape)
}

/// True for an error of a candidate or a search that leaves other candidates a chance: of time, limits, memory or numbers, and not of files.
pub(super) fn is_its_own(error: &Error) -> bool {
    matches!(
        error,
        Error::TooShort { .. } | Error::Config(_) | Error::Core(_) | Error::NonFinite { .. }
    )
}

/// True if the time was too short.
pub(super) fn is_short(error: &Error) -> bool {
    matches!(error, Error::TooShort { .. })
}

/// The published cell of the final, if there is one of the family.
fn published(family: Family) -> Option<&'static PublishedCell> {
    PublishedCell::find(PUBLISHED).ok().filter(|cell| cell.genotype().family() == family)
}
