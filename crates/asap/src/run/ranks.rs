//! One run in several processes: rank 0 leads, with its folder and its progress; the others follow, each with the same state in memory, and
//! compute their part of every step. All that is not computed from images is decided together, or by rank 0.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use asap_core::Design;
use asap_data::Splits;
use asap_kernels::Level;
use asap_net::steps::Score;
use asap_net::team::{Alone, Ranks, Team, gather};
use asap_net::tensor_file;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::jobs;
use crate::run::driver::{self, Epochs, Kind};
use crate::run::record::Outcome;
use crate::run::sink::{Memory, Tensors};
use crate::search::Search;
use crate::settings::config::Config;
use crate::train::Training;

/// The processes that this one leads.
static RANKS: OnceLock<Arc<dyn Ranks>> = OnceLock::new();

/// The work that rank 0 shares.
#[derive(Serialize, Deserialize)]
struct Job {
    version: String,
    level: String,
    kind: Kind,
    /// The configuration as TOML.
    config: String,
    design: Option<Design>,
    /// True if there are test images.
    test: bool,
}

/// What ranks tell each other between steps.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Word {
    /// True to stop; one is enough.
    pub(crate) stop: bool,
    /// Seconds that passed, as rank 0 measures them.
    pub(crate) seconds: f64,
    /// The reason if a rank cannot go on.
    pub(crate) fault: Option<String>,
    /// A hash of weights and alpha, the same on all ranks.
    pub(crate) state: Option<u64>,
    /// Scores of batches: number, bits of the loss, correct, images.
    pub(crate) scores: Vec<[u64; 4]>,
}

impl Word {
    /// The scores of some batches, by their number.
    pub(crate) fn of_scores(scores: &[(usize, Score)]) -> Self {
        let word = |(number, score): &(usize, Score)| {
            [*number as u64, score.loss.to_bits(), score.correct as u64, score.images as u64]
        };
        Self { scores: scores.iter().map(word).collect(), ..Self::default() }
    }

    /// The score of all batches, summed in their order.
    pub(crate) fn score(&self) -> Score {
        let mut all = self.scores.clone();
        all.sort_unstable();
        let mut sum = Score::default();
        for [_, loss, correct, images] in all {
            let (correct, images) = (correct as usize, images as usize);
            sum.add(Score { loss: f64::from_bits(loss), correct, images });
        }
        sum
    }
}

/// Makes this process, rank 0, the one that leads the others in every run from now on.
pub fn lead(ranks: Arc<dyn Ranks>) {
    let _ = RANKS.set(ranks);
}

/// Sends the others home.
pub fn dismiss() {
    if let Some(ranks) = RANKS.get() {
        gather(&**ranks, Vec::new(), true);
    }
}

/// Works for rank 0 until it sends this one home, with so many threads.
///
/// # Errors
/// If a run fails on this rank.
pub fn follow(ranks: &Arc<dyn Ranks>, threads: usize) -> Result<(), Error> {
    loop {
        let sent = gather(&**ranks, Vec::new(), true).swap_remove(0);
        if sent.is_empty() {
            return Ok(());
        }
        // Rank 0 reports what all ranks know.
        match follow_one(ranks, threads, &sent) {
            Err(Error::Rank(_)) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
}

/// The vector instructions of this processor, on which last bits depend.
fn level() -> String {
    Level::available()[0].to_string()
}

fn follow_one(ranks: &Arc<dyn Ranks>, threads: usize, sent: &[u8]) -> Result<(), Error> {
    let end = sent.iter().position(|&byte| byte == b'\n').unwrap_or(sent.len());
    let read = || -> Result<(Job, Config, Splits), Error> {
        let job: Job = serde_json::from_slice(&sent[..end])
            .map_err(|error| Error::Run(format!("it sent no job of this version: {error}")))?;
        let (own, own_level) = (env!("CARGO_PKG_VERSION"), level());
        if (job.version.as_str(), &job.level) != (own, &own_level) {
            return Err(Error::Run(format!(
                "expected asap {} with {}, as rank 0, found asap {own} with {own_level}; last digits would differ",
                job.version, job.level
            )));
        }
        let config: Config = toml::from_str(&job.config)
            .map_err(|error| Error::Run(format!("configuration: {}", error.message())))?;
        let config = Config { threads, ..config };
        let mut images = jobs::load(&config, &mut ())?;
        images.test = images.test.filter(|_| job.test);
        Ok((job, config, images))
    };
    let state = &sent[(end + 1).min(sent.len())..];
    match read() {
        Ok((Job { kind: Kind::Search, .. }, config, images)) => {
            run(ranks, Search::new(config, images), state)
        }
        Ok((Job { kind: Kind::Training, design, .. }, config, images)) => {
            let design = design.expect("a training has one");
            run(ranks, Training::new(config, design, images), state)
        }
        Err(error) => run::<Search>(ranks, Err(error), state),
    }
}

/// Runs what rank 0 runs, from its state.
fn run<E: Epochs<Result: Send> + Send>(
    ranks: &Arc<dyn Ranks>,
    made: Result<E, Error>,
    state: &[u8],
) -> Result<(), Error> {
    let ready = made.and_then(|mut epochs| {
        let file = tempfile::NamedTempFile::new().map_err(|error| Error::Run(error.to_string()))?;
        std::fs::write(file.path(), state).map_err(Error::io("write", file.path()))?;
        let (header, values) = tensor_file::load(file.path())?;
        epochs.restore(Tensors { header, values }, &|problem| Error::Run(problem.to_owned()))?;
        Ok(epochs)
    });
    let fault = ready.as_ref().err().map(ToString::to_string);
    agree(&**ranks, Word { fault, ..Word::default() })?;
    let mut epochs = ready.expect("a fault is an error of all");
    let team = Team::of(epochs.config().workers, Arc::clone(ranks));
    epochs.set_team(team);
    let stop = AtomicBool::new(false);
    driver::run_together(&mut epochs, &mut Memory::new(), &mut (), &stop).map(drop)
}

/// Shares a run that begins with the other ranks, if there are any.
pub(crate) fn share<E: Epochs>(epochs: &mut E) -> Result<(), Error> {
    let Some(ranks) = RANKS.get() else { return Ok(()) };
    let (workers, count) = (epochs.config().workers, ranks.count());
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
        level: level(),
        kind: E::RUN,
        config: toml::to_string(&epochs.config().from_anywhere()).expect("a configuration is TOML"),
        design: epochs.design().cloned(),
        test: epochs.has_test(),
    };
    let mut sent = serde_json::to_vec(&job).expect("plain data is JSON");
    sent.push(b'\n');
    sent.extend(state);
    gather(&**ranks, sent, true);
    agree(&**ranks, Word::default())?;
    epochs.set_team(Team::of(workers, Arc::clone(ranks)));
    Ok(())
}

/// What the ranks tell each other, as one: to stop if one says so, the seconds of rank 0, and the scores of all.
///
/// # Errors
/// The fault of the first rank that has one, on every rank.
pub(crate) fn agree(ranks: &dyn Ranks, own: Word) -> Result<Word, Error> {
    let sent = serde_json::to_vec(&own).expect("plain data is JSON");
    let words: Vec<Word> = gather(ranks, sent, false)
        .iter()
        .map(|word| serde_json::from_slice(word))
        .collect::<Result<_, _>>()
        .map_err(|error| Error::Rank(format!("the ranks are not at the same place: {error}")))?;
    let mut joined = Word { seconds: words[0].seconds, state: words[0].state, ..Word::default() };
    for (rank, word) in words.into_iter().enumerate() {
        if let Some(fault) = word.fault {
            return Err(Error::Rank(format!("rank {rank}: {fault}")));
        }
        if word.state != joined.state {
            return Err(Error::Rank(format!(
                "rank {rank} has other weights than rank 0; the last checkpoint is from before the epoch in which they parted; check the \
                 memory and the processor of its host"
            )));
        }
        joined.stop |= word.stop;
        joined.scores.extend(word.scores);
    }
    Ok(joined)
}

/// True if other ranks take part.
pub(crate) fn are_several(team: &Team) -> bool {
    team.ranks().count() > 1
}

/// A run that ended here, as all ranks see it.
pub(crate) fn end<T>(team: &Team, outcome: Result<Outcome<T>, Error>) -> Result<Outcome<T>, Error> {
    if !are_several(team) || matches!(outcome, Err(Error::Rank(_))) {
        return outcome;
    }
    let fault = outcome.as_ref().err().map(ToString::to_string);
    match agree(team.ranks(), Word { fault, ..Word::default() }) {
        Err(error) if outcome.is_ok() => Err(error),
        _ => outcome,
    }
}

/// A team in this process only.
pub(crate) fn alone(workers: usize) -> Team {
    Team::of(workers, Arc::new(Alone))
}
