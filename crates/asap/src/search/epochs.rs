//! A search in the form that the loop of [`crate::run::driver`] needs: its steps, records and states.

use asap_core::{CellKind, Pruned};
use asap_data::{Batch, DataError, Loader};
use asap_net::parameters::NamedValues;
use asap_net::steps::{NonFinite, Score};
use asap_net::team::Team;

use super::{Search, ending};
use crate::error::Error;
use crate::memory::{peak_rss_mb, rss_mb};
#[cfg(feature = "report")]
use crate::report;
use crate::run::checkpoint::{Progress, State};
use crate::run::epochs::{Batches, Epochs, Position};
use crate::run::folder::{EVALUATED, GENOTYPE_JSON, GENOTYPE_TEXT, RunFolder};
use crate::run::ranks::Kind;
use crate::run::record::{EpochRecord, Event, SearchResult, StepReport};
use crate::run::sink::{Sink, Tensors};
use crate::search::learner::Learner;
use crate::search::method::{Clock, Step};
use crate::settings::config::Config;

/// A completed step of a search.
pub(crate) struct Made {
    /// The time before it.
    clock: Clock,
    /// The operations that it pruned.
    pruned: Vec<Pruned>,
}

impl Epochs for Search {
    type State = State;
    type Record = EpochRecord;
    type Step = Made;
    type Result = SearchResult;

    const RATE_KEY: &'static str = "weights.lr";
    const VALIDATION: &'static str = "the validation half";
    const RUN: Kind = Kind::Search;
    const MADE: &'static [&'static str] = &[GENOTYPE_JSON];

    fn config(&self) -> &Config {
        &self.config
    }

    fn has_test(&self) -> bool {
        self.data.test_images > 0
    }

    fn team(&self) -> &Team {
        self.learner.team()
    }

    fn set_team(&mut self, team: Team) {
        self.learner.set_team(team);
    }

    fn position(&self) -> &Position {
        &self.position
    }

    fn position_mut(&mut self) -> &mut Position {
        &mut self.position
    }

    fn checkpoint_minutes(&self) -> f64 {
        self.config.search.checkpoint_minutes
    }

    fn goes_on(&self) -> bool {
        let Position { epoch, seconds, .. } = self.position;
        let limit = self.config.search.seconds;
        let in_time = limit == 0.0 || seconds < limit;
        epoch < self.epochs() && in_time && !self.method.is_over(&self.learner)
    }

    fn train(&self) -> &Loader {
        &self.train
    }

    /// The steps on alpha.
    fn companions(&self) -> Option<&Loader> {
        self.method.moves(&self.clock()).then_some(&self.alpha)
    }

    fn step(&mut self, train: &Batch, valid: Option<&Batch>) -> Result<Made, NonFinite> {
        let clock = self.clock();
        let sgd = self.config.sgd();
        let step = Step { clock, train, sgd: &sgd, learning_rate: self.learning_rate(&clock) };
        self.position.add_score(self.method.weight_step(&mut self.learner, &step)?)?;
        let mut pruned = Vec::new();
        if let Some(valid) = valid.filter(|_| self.method.is_due(&clock)) {
            pruned = self.method.architecture_step(&mut self.learner, &step, valid)?;
            self.alpha_steps += 1;
            if let Some(found) = self.learner.architecture.first_non_finite() {
                let value = found.value;
                return Err(NonFinite { what: found.what(), value, key: "alpha.lr" });
            }
        }
        if self.position.step + 1 == self.steps_per_epoch() {
            pruned.extend(self.method.end_epoch(&mut self.learner, &clock));
        }
        let step = self.position.step;
        self.pruned.extend(pruned.iter().map(|pruned| format!("step {step}: {pruned}")));
        Ok(Made { clock, pruned })
    }

    fn step_event<'a>(&'a self, made: &'a Made) -> Event<'a> {
        Event::Step(StepReport {
            epoch: self.position.epoch,
            epochs: self.epochs(),
            step: self.position.step,
            steps: self.steps_per_epoch(),
            temperature: self.method.temperature(&made.clock),
            alive_ops: self.alive_ops(),
            train_accuracy: self.position.train.accuracy().unwrap_or(0.0),
            pruned: &made.pruned,
        })
    }

    fn cuts_epoch_short(&self) -> bool {
        self.learner.architecture.is_decided() && self.method.is_over(&self.learner)
    }

    fn prepare_validation(&mut self) -> Result<(), Error> {
        match self.config.search.statistics {
            0 => Ok(()),
            batches => {
                let mixing = self.method.mixing(&self.learner, &self.clock());
                self.recompute_statistics(batches, &mixing)
            }
        }
    }

    fn validation(&self) -> Option<&Loader> {
        Some(&self.valid)
    }

    fn validate(&self, batches: Batches<'_>) -> Result<Score, DataError> {
        self.score(batches, &self.method.mixing(&self.learner, &self.clock()))
    }

    fn trim(&self) {
        self.learner.network.engine().trim();
    }

    fn record(&self, valid: Option<Score>) -> EpochRecord {
        let Position { epoch, train, epoch_seconds, .. } = self.position;
        let valid = valid.unwrap_or_default();
        let clock = self.clock();
        let temperature = self.method.temperature(&clock);
        let architecture = &self.learner.architecture;
        let candidates = architecture.space().candidates.len();
        let entropy = |kind| self.method.entropy(&self.learner, &clock, kind);
        EpochRecord {
            epoch,
            temperature,
            threshold: self.method.threshold(&clock, candidates),
            lr: self.learning_rate(&Clock { step: 0, ..clock }),
            alpha_lr: if self.method.moves(&clock) { self.alpha_lr } else { 0.0 },
            train_loss: train.mean_loss().unwrap_or(0.0),
            train_accuracy: train.accuracy().unwrap_or(0.0),
            valid_loss: valid.mean_loss().unwrap_or(0.0),
            valid_accuracy: valid.accuracy().unwrap_or(0.0),
            entropy_normal: entropy(CellKind::Normal),
            entropy_reduce: (architecture.space().kinds().contains(&CellKind::Reduction))
                .then(|| entropy(CellKind::Reduction)),
            alive_ops: self.alive_ops(),
            sparsity: architecture.sparsity(),
            alpha_spread: self.alpha_spread(),
            epoch_seconds,
            peak_rss_mb: peak_rss_mb(),
            rss_mb: rss_mb(),
            pruned: self.pruned.clone(),
            probabilities: (architecture.space().kinds().iter())
                .map(|&kind| {
                    let choices = architecture.cell(kind).operations.iter();
                    choices.map(|choice| choice.probabilities(temperature)).collect()
                })
                .collect(),
        }
    }

    fn epoch_event(record: &EpochRecord) -> Event<'_> {
        Event::Epoch(record)
    }

    fn close(&mut self, record: &EpochRecord, _: &mut dyn Sink) -> Result<(), Error> {
        let clock = self.clock();
        self.method.validated(&mut self.learner, &clock, record.valid_accuracy);
        self.pruned.clear();
        Ok(())
    }

    fn state(&self) -> (State, NamedValues) {
        let Position { epoch, step, train, epoch_seconds, seconds, .. } = self.position;
        let pruned = self.pruned.clone();
        let alpha_steps = self.alpha_steps;
        let state = State {
            data: self.data.clone(),
            progress: Progress { epoch, step, alpha_steps, train, pruned, epoch_seconds, seconds },
            architecture: self.learner.architecture.clone(),
            method: self.method.state(),
        };
        (state, self.learner.parameters.to_named())
    }

    fn restore(
        &mut self,
        Tensors { header: state, values }: Tensors<State>,
        refuse: &dyn Fn(&str) -> Error,
    ) -> Result<(), Error> {
        let fresh = &self.learner.architecture;
        if state.architecture.space() != fresh.space()
            || state.architecture.policy() != fresh.policy()
        {
            return Err(refuse(
                "the checkpoint belongs to a different search space than config.toml; \
                 restore the original config.toml",
            ));
        }
        if !state.data.is_of(&self.data) {
            return Err(refuse(
                "expected the images that the search began with, found others (their number, \
                 classes, size or mean has changed); restore them, or start a new search",
            ));
        }
        self.learner.architecture = state.architecture;
        let Progress { epoch, step, alpha_steps, train, pruned, epoch_seconds, seconds } =
            state.progress;
        let cells = |epoch| self.method.cells(epoch, self.config.network.cells);
        if cells(epoch) == cells(0) {
            let Learner { network, parameters, architecture, .. } = &mut self.learner;
            network.prune_to(parameters, architecture);
        } else {
            self.learner.restart(cells(epoch));
        }
        self.learner.parameters.load_named(&values)?;
        self.position =
            Position { epoch, step, train, epoch_seconds, seconds, ..Position::default() };
        (self.alpha_steps, self.pruned) = (alpha_steps, pruned);
        self.method.restore(state.method).map_err(|error| {
            refuse(&format!("expected a checkpoint of this method ({error}); start a new search"))
        })
    }

    fn finish(
        &mut self,
        last: Option<&EpochRecord>,
        sink: &mut dyn Sink,
    ) -> Result<SearchResult, Error> {
        let result = self.end(last.map(|record| record.valid_accuracy))?;
        sink.write_json(GENOTYPE_JSON, &result.genotype)?;
        sink.write(GENOTYPE_TEXT, format!("{}\n", result.genotype).as_bytes())?;
        if let Some(evaluated) = self.method.evaluated() {
            sink.write_json(EVALUATED, &evaluated)?;
        }
        Ok(result)
    }

    fn publish(&self, folder: &RunFolder, result: Option<&SearchResult>) -> Result<(), Error> {
        if let Some(result) = result {
            ending::publish(folder, &result.genotype)?;
        }
        #[cfg(feature = "report")]
        report::write(folder, &self.data, &self.config, result)?;
        Ok(())
    }
}
