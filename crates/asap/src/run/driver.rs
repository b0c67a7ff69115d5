//! The loop of everything that runs in epochs: steps, validation, records, checkpoints, events, and resuming from a
//! checkpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use asap_core::Design;
use asap_data::{Batch, DataError, Loader};
use asap_net::parameters::NamedValues;
use asap_net::steps::{NonFinite, Score, StepScore, finite};
use asap_net::team::{Alone, Team, gather};
use asap_net::tensor_file::{self, Header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::run::folder::{CHECKPOINT, EVENTS, PREVIOUS, RESULT, RunFolder};
use crate::run::pace::Pace;
use crate::run::ranks::{self, Job, Kind, Word};
use crate::run::record::{Curves, Event, Observer, Outcome, Record};
use crate::run::sink::{Sink, Tensors};
use crate::settings::config::Config;

/// The fewest steps, and seconds, from which the seconds of an epoch are estimated; and the part of the time that they may take if
/// that is less.
const TIMED: (u32, f64, f64) = (3, 1.0, 0.05);

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

/// Steps of which a device keeps the scores until they are read together.
const READ_TOGETHER: usize = 16;

impl Position {
    /// Adds the score of a step.
    pub(crate) fn add_score(&mut self, score: StepScore) -> Result<(), NonFinite> {
        self.unread.push(score);
        let is_read = matches!(self.unread[..], [StepScore::Read(_)]);
        if is_read || self.unread.len() == READ_TOGETHER { self.read() } else { Ok(()) }
    }

    /// Reads what is still on the device.
    fn read(&mut self) -> Result<(), NonFinite> {
        self.train.add(StepScore::read_all(std::mem::take(&mut self.unread))?);
        Ok(())
    }

    fn add(&mut self, seconds: f64) {
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

    /// Minutes between checkpoints inside an epoch.
    fn checkpoint_minutes(&self) -> f64;

    /// True if there is another epoch.
    fn goes_on(&self) -> bool;

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

/// Runs to the end, or until `stop` is set; the sink is locked meanwhile.
pub(crate) fn run<E: Epochs<Result: Send> + Send>(
    epochs: &mut E,
    sink: &mut dyn Sink,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<E::Result>, Error> {
    let _lock = sink.lock()?;
    run_locked(epochs, sink, observer, stop)
}

/// Returns to the checkpoint of the sink, then runs.
pub(crate) fn resume<E: Epochs<Result: Send> + Send>(
    epochs: &mut E,
    sink: &mut dyn Sink,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<E::Result>, Error> {
    let _lock = sink.lock()?;
    let state = last_good(sink, observer)?;
    restore(epochs, sink, state, observer)?;
    run_locked(epochs, sink, observer, stop)
}

/// The last checkpoint or, if it is damaged, the one before, which is told.
///
/// # Errors
/// If neither can be used: the one for the last.
pub(crate) fn last_good<H: Header + Clone + Send + Sync + 'static>(
    sink: &dyn Sink,
    observer: &mut dyn Observer,
) -> Result<Tensors<H>, Error> {
    sink.load_tensors(CHECKPOINT).or_else(|error| {
        let Ok(before) = sink.load_tensors(PREVIOUS) else { return Err(error) };
        observer.on_event(Event::Note(&format!("{error}; going on from the checkpoint before it")));
        // The next save must not put the damaged one in the place of the good one.
        if let Some(folder) = sink.folder() {
            folder.set_damaged_aside()?;
        }
        Ok(before)
    })
}

/// Returns to a state of the sink, which is locked, and drops the events written after it.
pub(crate) fn restore<E: Epochs>(
    epochs: &mut E,
    sink: &mut dyn Sink,
    state: Tensors<E::State>,
    observer: &mut dyn Observer,
) -> Result<(), Error> {
    epochs.restore(state, &|problem| sink.refuse(problem))?;
    let mut records: Vec<E::Record> = sink.events()?;
    let done = epochs.position().epoch;
    records.retain(|record| record.epoch() < done);
    if records.len() < done {
        observer.on_event(Event::Note(&format!(
            "expected the events of {done} epochs in {EVENTS}, found {}; the curves will lack the others",
            records.len()
        )));
    }
    let records: Vec<&dyn Record> = records.iter().map(|record| record as &dyn Record).collect();
    sink.replace_events(&records)
}

/// Runs in a locked sink.
pub(crate) fn run_locked<E: Epochs<Result: Send> + Send>(
    epochs: &mut E,
    sink: &mut dyn Sink,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<E::Result>, Error> {
    with_threads(epochs.config().threads, || {
        share(epochs)?;
        let outcome = run_together(epochs, sink, observer, stop);
        epochs.set_team(epochs.config().team(Arc::new(Alone)));
        outcome
    })?
}

/// Shares a run that begins with the other ranks, if there are any.
fn share<E: Epochs>(epochs: &mut E) -> Result<(), Error> {
    let Some(others) = ranks::led() else { return Ok(()) };
    let (workers, count) = (epochs.config().workers, others.count());
    if workers < count {
        return Err(Error::Config(format!(
            "workers: expected at least {count}, one for each process of MPI, found {workers}; add --set workers={count}"
        )));
    }
    let (header, values) = epochs.state();
    let file = tempfile::NamedTempFile::new().map_err(|error| Error::Run(error.to_string()))?;
    tensor_file::save(file.path(), &header, &values)?;
    let state = std::fs::read(file.path()).map_err(Error::io("read", file.path()))?;
    let job = Job {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        level: ranks::level(),
        kind: E::RUN,
        config: toml::to_string(&epochs.config().from_anywhere()).expect("a configuration is TOML"),
        design: epochs.design().cloned(),
        test: epochs.has_test(),
    };
    let mut sent = serde_json::to_vec(&job).expect("plain data is JSON");
    sent.push(b'\n');
    sent.extend(state);
    gather(&**others, sent, true);
    ranks::agree(&**others, Word::default())?;
    epochs.set_team(epochs.config().team(Arc::clone(others)));
    Ok(())
}

/// Runs on every rank, which all end together.
pub(crate) fn run_together<E: Epochs>(
    epochs: &mut E,
    sink: &mut dyn Sink,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<E::Result>, Error> {
    let outcome = run_here(epochs, sink, observer, stop);
    ranks::end(epochs.team(), outcome)
}

/// Does work with this many threads; 0 uses those of the pool in which it is called.
pub(crate) fn with_threads<R: Send>(
    threads: usize,
    work: impl FnOnce() -> R + Send,
) -> Result<R, Error> {
    if threads == 0 || threads == rayon::current_num_threads() {
        return Ok(work());
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    Ok(pool.install(work))
}

fn run_here<E: Epochs>(
    epochs: &mut E,
    sink: &mut dyn Sink,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<E::Result>, Error> {
    // Records, checkpoints and reports take time too, which counts with the next epoch.
    let mut since = Instant::now();
    if (epochs.position().epoch, epochs.position().step) == (0, 0) {
        epochs.begin(sink)?;
        save(epochs, sink)?;
    }
    // An interrupted epoch is completed first.
    while epochs.position().step > 0 || epochs.goes_on() {
        if !steps(epochs, sink, observer, stop, since)? {
            save(epochs, sink)?;
            observer.on_event(Event::Checkpoint);
            return Ok(Outcome::Stopped);
        }
        let valid = validate(epochs)?;
        since = Instant::now();
        let record = epochs.record(valid);
        epochs.trim();
        sink.append_event(&record)?;
        observer.on_event(E::epoch_event(&record));
        epochs.close(&record, sink)?;
        let Position { epoch, seconds, .. } = *epochs.position();
        *epochs.position_mut() = Position { epoch: epoch + 1, seconds, ..Position::default() };
        if ranks::are_several(epochs.team()) {
            let state = Some(hash(epochs));
            ranks::agree(epochs.team().ranks(), Word { state, ..Word::default() })?;
        }
        save(epochs, sink)?;
        observer.on_event(Event::Checkpoint);
        if let Some(folder) = sink.folder() {
            epochs.publish(folder, None)?;
        }
    }
    let records: Vec<E::Record> = sink.events()?;
    let result = epochs.finish(records.last(), sink)?;
    if let Some(folder) = sink.folder() {
        epochs.publish(folder, Some(&result))?;
    }
    sink.write_json(RESULT, &result)?;
    Ok(Outcome::Finished(Box::new(result)))
}

/// The steps of an epoch; false if asked to stop before its end.
fn steps<E: Epochs>(
    epochs: &mut E,
    sink: &mut dyn Sink,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    since: Instant,
) -> Result<bool, Error> {
    let Position { epoch, step: first, .. } = *epochs.position();
    let team = epochs.team();
    let mut companions =
        epochs.companions().map(|images| team.own(images).epoch_from(epoch, first));
    let batches = team.own(epochs.train()).epoch_from(epoch, first);
    let mut pace = Pace::new(epochs.checkpoint_minutes(), since);
    let several = ranks::are_several(epochs.team());
    for batch in batches {
        let companion = companions.as_mut().and_then(Iterator::next).transpose();
        let ready = batch.and_then(|batch| Ok((batch, companion?)));
        let mut asked = stop.load(Ordering::Relaxed);
        if several {
            let fault = ready.as_ref().err().map(ToString::to_string);
            let word = Word { stop: asked, seconds: pace.lap(), fault, ..Word::default() };
            let word = ranks::agree(epochs.team().ranks(), word)?;
            epochs.position_mut().add(word.seconds);
            asked = word.stop;
        }
        if asked {
            return Ok(false);
        }
        let (batch, companion) = ready?;
        let step = epochs.step(&batch, companion.as_ref());
        let step = step.map_err(|error| epochs.position().error(error))?;
        let position = epochs.position_mut();
        position.step += 1;
        if !several {
            position.add(pace.lap());
        }
        observer.on_event(epochs.step_event(&step));
        if epochs.cuts_epoch_short() {
            break;
        }
        if pace.checkpoint_is_due() {
            save(epochs, sink)?;
            observer.on_event(Event::Checkpoint);
            pace.checkpoint_written();
        }
    }
    if several {
        let word = Word { seconds: pace.lap(), ..Word::default() };
        let word = ranks::agree(epochs.team().ranks(), word)?;
        epochs.position_mut().add(word.seconds);
    }
    read(epochs)?;
    Ok(true)
}

/// A hash of all tensors, alpha among them.
fn hash<E: Epochs>(epochs: &E) -> u64 {
    let (_, values) = epochs.state();
    let mut bytes = Vec::new();
    for (name, (_, values)) in &values {
        bytes.extend(name.as_bytes());
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    asap_data::fnv1a(&bytes)
}

fn validate<E: Epochs>(epochs: &mut E) -> Result<Option<Score>, Error> {
    let started = Instant::now();
    epochs.prepare_validation()?;
    let mut passed = None;
    let valid = match epochs.validation() {
        Some(images) if ranks::are_several(epochs.team()) => {
            let ranks = epochs.team().ranks();
            let own = images.epoch_by(0, ranks.rank(), ranks.count());
            let score =
                |(number, batch)| Ok((number, epochs.validate(&mut std::iter::once(batch))?));
            let numbers = (ranks.rank()..).step_by(ranks.count());
            let scores: Result<Vec<_>, DataError> = numbers.zip(own).map(score).collect();
            let mut word = match scores {
                Ok(scores) => Word::of_scores(&scores),
                Err(error) => Word { fault: Some(error.to_string()), ..Word::default() },
            };
            word.seconds = started.elapsed().as_secs_f64();
            let word = ranks::agree(ranks, word)?;
            passed = Some(word.seconds);
            Some(word.score())
        }
        Some(images) => Some(epochs.validate(&mut images.epoch(0))?),
        None => None,
    };
    if let Some(score) = &valid {
        let what = format!("the loss on {}", E::VALIDATION);
        let finite = finite(&what, score.loss, E::RATE_KEY);
        finite.map_err(|error| epochs.position().error(error))?;
    }
    // Ranks take the time of rank 0, so that nothing that depends on it differs.
    let seconds = passed.unwrap_or_else(|| match ranks::are_several(epochs.team()) {
        true => 0.0,
        false => started.elapsed().as_secs_f64(),
    });
    epochs.position_mut().add(seconds);
    Ok(valid)
}

fn save<E: Epochs>(epochs: &mut E, sink: &mut dyn Sink) -> Result<(), Error> {
    read(epochs)?;
    let (header, values) = epochs.state();
    let finite = tensor_file::check_finite(&values, E::RATE_KEY);
    finite.map_err(|error| epochs.position().error(error))?;
    sink.save_tensors(CHECKPOINT, Arc::new(Tensors { header, values }))
}

/// Reads the scores that are still on the device.
fn read<E: Epochs>(epochs: &mut E) -> Result<(), Error> {
    let read = epochs.position_mut().read();
    read.map_err(|error| epochs.position().error(error))
}

/// Estimated seconds of an epoch like the one at the position on this machine. It takes a few steps, so the run is not
/// usable afterwards: fewer where only `seconds` are to be planned. They are measured on this process alone; others that it leads
/// take their share of the work.
pub(crate) fn seconds_per_epoch<E: Epochs + Send>(
    mut epochs: E,
    seconds: f64,
) -> Result<f64, Error> {
    with_threads(epochs.config().threads, move || {
        let epoch = epochs.position().epoch;
        let mut companions = epochs.companions().map(|images| images.epoch(epoch));
        let (least_steps, least_seconds, part) = TIMED;
        let least_seconds = least_seconds.min(part * seconds);
        let mut started = Instant::now();
        let mut steps = 0;
        let per_epoch = epochs.train().batches_per_epoch();
        for (made, batch) in epochs.train().epoch(epoch).enumerate() {
            let batch = batch?;
            let companion = companions.as_mut().and_then(Iterator::next).transpose()?;
            let step = epochs.step(&batch, companion.as_ref());
            step.map_err(|error| epochs.position().error(error))?;
            read(&mut epochs)?;
            // Steps differ by what they are due for, and by their path.
            epochs.position_mut().step += 1;
            steps += 1;
            if made == 0 && per_epoch > 1 {
                // The first step allocates its memory.
                (started, steps) = (Instant::now(), 0);
            } else if steps >= least_steps && started.elapsed().as_secs_f64() >= least_seconds {
                break;
            }
        }
        let step = started.elapsed().as_secs_f64() / f64::from(steps.max(1));
        let share = ranks::led().map_or(1.0, |ranks| 1.0 / ranks.count() as f64);
        let started = Instant::now();
        epochs.prepare_validation()?;
        let prepared = started.elapsed().as_secs_f64();
        let training = share * (step * per_epoch as f64 + prepared);
        let Some(images) = epochs.validation() else { return Ok(training) };
        let started = Instant::now();
        epochs.validate(&mut images.epoch(0).take(1))?;
        let inference = started.elapsed().as_secs_f64();
        Ok(training + share * inference * images.batches_per_epoch() as f64)
    })?
}
