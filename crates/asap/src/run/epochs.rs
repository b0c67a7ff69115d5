//! What runs in epochs: its parts, which the driver calls, and its position.

use asap_core::Design;
use asap_data::{Batch, DataError, Loader};
use asap_net::parameters::NamedValues;
use asap_net::steps::{NonFinite, Score, StepScore};
use asap_net::team::Team;
use asap_net::tensor_file::Header;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::run::folder::RunFolder;
use crate::run::ranks::Kind;
use crate::run::record::{Event, Record};
use crate::run::sink::{Sink, Tensors};
use crate::settings::config::Config;

/// Steps of which a device keeps the scores until they are read together.
const READ_TOGETHER: usize = 16;

/// The position of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Position {
    /// Current epoch, from 0.
    pub(crate) epoch: usize,
    /// Completed steps of that epoch.
    pub(crate) step: usize,
    /// Scores of the epoch's steps, as far as they are read.
    pub(crate) train: Score,
    /// The others, which are still on the device.
    pub(crate) unread: Vec<StepScore>,
    /// Seconds of the epoch so far.
    pub(crate) epoch_seconds: f64,
    /// Seconds of the run so far.
    pub(crate) seconds: f64,
}

impl Position {
    /// Adds the score of a step.
    pub(crate) fn add_score(&mut self, score: StepScore) -> Result<(), NonFinite> {
        self.unread.push(score);
        let is_read = matches!(self.unread[..], [StepScore::Read(_)]);
        if is_read || self.unread.len() == READ_TOGETHER { self.read() } else { Ok(()) }
    }

    fn read(&mut self) -> Result<(), NonFinite> {
        self.train.add(StepScore::read_all(std::mem::take(&mut self.unread))?);
        Ok(())
    }

    /// Counts seconds that have passed.
    pub(crate) fn add(&mut self, seconds: f64) {
        self.epoch_seconds += seconds;
        self.seconds += seconds;
    }

    /// The error for a number that is not finite at this step.
    pub(crate) fn error(&self, error: NonFinite) -> Error {
        Error::non_finite(error, self.epoch, self.step)
    }
}

/// Batches as a loader gives them.
pub(crate) type Batches<'a> = &'a mut dyn Iterator<Item = Result<Batch, DataError>>;

/// A run in epochs: a search, or a training.
pub(crate) trait Epochs {
    /// The state that a checkpoint holds besides the tensors.
    type State: Header + Clone + Send + Sync + 'static;
    /// The closing record of an epoch.
    type Record: Record + DeserializeOwned;
    /// The outcome of a step.
    type Step;
    /// The result of the run.
    type Result: Serialize;

    /// The configuration key to lower if a number is not finite.
    const RATE_KEY: &'static str;
    /// The images of a validation, for errors.
    const VALIDATION: &'static str;
    /// Which of the two it is.
    const RUN: Kind;
    /// The files that it has made when it has a result.
    const MADE: &'static [&'static str];

    /// The configuration, with everything decided that depended on the images. Its `threads` is 0 for those of the pool in
    /// which the run is started.
    fn config(&self) -> &Config;

    /// What is trained, if it is not searched for.
    fn design(&self) -> Option<&Design> {
        None
    }

    /// True if there are test images.
    fn has_test(&self) -> bool;

    /// The workers of every step.
    fn team(&self) -> &Team;

    /// The same, to have their work done by other processes.
    fn set_team(&mut self, team: Team);

    /// The position of the run.
    fn position(&self) -> &Position;

    /// The same, to move it.
    fn position_mut(&mut self) -> &mut Position;

    /// Reads the scores that are still on the device.
    fn read_scores(&mut self) -> Result<(), Error> {
        let read = self.position_mut().read();
        read.map_err(|error| self.position().error(error))
    }

    /// Minutes between checkpoints inside an epoch.
    fn checkpoint_minutes(&self) -> f64;

    /// True if there is another epoch.
    fn goes_on(&self) -> bool;

    /// Finds what would be an error only after the last step, such as test images that cannot be read.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Writes everything that is known before the first step.
    fn begin(&self, _: &mut dyn Sink) -> Result<(), Error> {
        Ok(())
    }

    /// The images of the steps.
    fn train(&self) -> &Loader;

    /// Images that accompany them, batch by batch, if this epoch has any.
    fn companions(&self) -> Option<&Loader> {
        None
    }

    /// A step, added to the scores.
    fn step(&mut self, batch: &Batch, companion: Option<&Batch>) -> Result<Self::Step, NonFinite>;

    /// The event of a completed step.
    fn step_event<'a>(&'a self, step: &'a Self::Step) -> Event<'a>;

    /// True if the epoch ends with the step just made, before its last batch.
    fn cuts_epoch_short(&self) -> bool {
        false
    }

    /// Called before the validation of an epoch.
    fn prepare_validation(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// The images that an epoch is validated on, if there are any.
    fn validation(&self) -> Option<&Loader>;

    /// Scores some of these images.
    fn validate(&self, batches: Batches<'_>) -> Result<Score, DataError>;

    /// Frees memory that the epoch did not use.
    fn trim(&self);

    /// The closing record of the epoch.
    fn record(&self, valid: Option<Score>) -> Self::Record;

    /// The event of a closed epoch.
    fn epoch_event(record: &Self::Record) -> Event<'_>;

    /// Applies the consequences of an epoch's record, and prepares the next epoch except for the position.
    fn close(&mut self, record: &Self::Record, sink: &mut dyn Sink) -> Result<(), Error>;

    /// The state to resume from, and its tensors.
    fn state(&self) -> (Self::State, NamedValues);

    /// Returns to a state; `refuse` makes the error for one that does not fit.
    fn restore(
        &mut self,
        state: Tensors<Self::State>,
        refuse: &dyn Fn(&str) -> Error,
    ) -> Result<(), Error>;

    /// Completes the run, and writes everything but the result.
    fn finish(
        &mut self,
        last: Option<&Self::Record>,
        sink: &mut dyn Sink,
    ) -> Result<Self::Result, Error>;

    /// Publishes the current state of the run in its folder.
    fn publish(&self, folder: &RunFolder, result: Option<&Self::Result>) -> Result<(), Error>;
}
