//! The loop of everything that runs in epochs: steps, validation, records, checkpoints, events, and resuming from a
//! checkpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use asap_data::DataError;
use asap_net::steps::{Score, finite};
use asap_net::team::{Alone, gather};
use asap_net::tensor_file::{self, Header};

use crate::error::Error;
use crate::memory::reset_peak;
use crate::run::epochs::{Epochs, Position};
use crate::run::folder::{CHECKPOINT, EVENTS, PREVIOUS, RESULT};
use crate::run::pace::Pace;
use crate::run::ranks::{self, Job, Word};
use crate::run::record::{Curves, Event, Observer, Outcome, Record};
use crate::run::sink::{Sink, Tensors};
use crate::run::threads::with_threads;

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
    epochs.check()?;
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

fn run_here<E: Epochs>(
    epochs: &mut E,
    sink: &mut dyn Sink,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome<E::Result>, Error> {
    reset_peak();
    // Records, checkpoints and reports take time too, which counts with the next epoch.
    let mut since = Instant::now();
    if (epochs.position().epoch, epochs.position().step) == (0, 0) {
        epochs.check()?;
        // It may have read all images for tests, which no epoch does again.
        epochs.position_mut().seconds += since.elapsed().as_secs_f64();
        since = Instant::now();
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
    epochs.read_scores()?;
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
    epochs.read_scores()?;
    let (header, values) = epochs.state();
    let finite = tensor_file::check_finite(&values, E::RATE_KEY);
    finite.map_err(|error| epochs.position().error(error))?;
    sink.save_tensors(CHECKPOINT, Arc::new(Tensors { header, values }))
}
