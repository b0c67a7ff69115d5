//! One run in several processes: rank 0 leads, with its folder and its progress; the others follow ([`crate::jobs::follow`]), each with the same
//! state in memory, and compute their part of every step. All that is not computed from images is decided together, or by rank 0.

use std::sync::{Arc, OnceLock};

use asap_core::Design;
use asap_kernels::Level;
use asap_net::steps::Score;
use asap_net::team::{Ranks, Team, gather};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::run::record::Outcome;

/// The processes that this one leads.
static RANKS: OnceLock<Arc<dyn Ranks>> = OnceLock::new();

/// The kinds of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    Search,
    Training,
}

/// The work that rank 0 shares.
#[derive(Serialize, Deserialize)]
pub(crate) struct Job {
    pub(crate) version: String,
    pub(crate) level: String,
    pub(crate) kind: Kind,
    /// The configuration as TOML.
    pub(crate) config: String,
    pub(crate) design: Option<Design>,
    /// True if there are test images.
    pub(crate) test: bool,
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

/// The processes that this one leads, if there are any.
pub(crate) fn led() -> Option<&'static Arc<dyn Ranks>> {
    RANKS.get()
}

/// Sends the others home.
pub fn dismiss() {
    if let Some(ranks) = RANKS.get() {
        gather(&**ranks, Vec::new(), true);
    }
}

/// The vector instructions of this processor, on which last bits depend.
pub(crate) fn level() -> String {
    Level::available()[0].to_string()
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
