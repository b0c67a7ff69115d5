//! A training in the form that the loop of [`crate::run::driver`] needs: its steps, records and states.

use std::sync::Arc;

use asap_core::{CellGenotype, Design, Genotype};
use asap_data::{Batch, DataError, Loader};
use asap_net::evaluation::Evaluation;
use asap_net::parameters::NamedValues;
use asap_net::pass::DropPath;
use asap_net::steps::{Descent, NonFinite, Score, descend, evaluate};
use asap_net::team::Team;
use asap_net::tensor_file::Header;
use asap_net::trained::{NetworkCard, TrainedNetwork};
use serde::{Deserialize, Serialize};

use super::{Training, time};
use crate::error::Error;
use crate::latency;
use crate::memory::peak_rss_mb;
#[cfg(feature = "report")]
use crate::report;
use crate::run::epochs::{Batches, Epochs, Position};
use crate::run::folder::{BEST, GENOTYPE_JSON, RunFolder, WEIGHTS};
use crate::run::ranks::Kind;
use crate::run::record::{DataSummary, Event, TrainRecord, TrainResult, TrainStep};
use crate::run::sink::{Sink, Tensors};
use crate::settings::config::Config;

/// The state of a training that its checkpoint holds besides the tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct State {
    data: DataSummary,
    #[serde(rename = "genotype")]
    design: Design,
    progress: Progress,
}

impl Header for State {
    const KIND: &'static str = "training";
    const REMEDY: &'static str = "give the folder of a training, or start a new training";
}

/// The progress of a training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Progress {
    /// Current epoch, from 0.
    epoch: usize,
    /// Completed steps of that epoch.
    step: usize,
    /// Scores of the epoch's steps.
    train: Score,
    /// Epoch with the best accuracy on the validation images, and that accuracy.
    best: Option<(usize, f64)>,
    /// Seconds of the epoch so far.
    epoch_seconds: f64,
    /// Seconds of the training so far.
    seconds: f64,
    /// Number of epochs, if it was changed to keep to the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    epochs: Option<usize>,
}

/// A file of a trained network.
fn file(network: &TrainedNetwork) -> Arc<Tensors<NetworkCard>> {
    Arc::new(Tensors { header: network.card().clone(), values: network.values() })
}

impl Epochs for Training {
    type State = State;
    type Record = TrainRecord;
    /// The learning rate.
    type Step = f64;
    type Result = TrainResult;

    const RATE_KEY: &'static str = "train.lr";
    const VALIDATION: &'static str = "the validation images";
    const RUN: Kind = Kind::Training;
    const MADE: &'static [&'static str] = &[WEIGHTS];

    fn config(&self) -> &Config {
        self.config()
    }

    fn design(&self) -> Option<&Design> {
        Some(&self.design)
    }

    fn has_test(&self) -> bool {
        self.test.is_some()
    }

    fn team(&self) -> &Team {
        &self.team
    }

    fn set_team(&mut self, team: Team) {
        self.team = team;
    }

    fn position(&self) -> &Position {
        &self.position
    }

    fn position_mut(&mut self) -> &mut Position {
        &mut self.position
    }

    fn checkpoint_minutes(&self) -> f64 {
        self.config.train.checkpoint_minutes
    }

    fn goes_on(&self) -> bool {
        self.position.epoch < self.epochs()
    }

    fn check(&self) -> Result<(), Error> {
        self.test_images().map(drop)
    }

    fn begin(&self, sink: &mut dyn Sink) -> Result<(), Error> {
        sink.write_json(GENOTYPE_JSON, &self.design)
    }

    fn train(&self) -> &Loader {
        &self.train
    }

    fn step(&mut self, batch: &Batch, _: Option<&Batch>) -> Result<f64, NonFinite> {
        let (epoch, steps) = (self.position.epoch, self.steps_per_epoch());
        let settings = &self.config.train;
        let made = epoch * steps + self.position.step;
        let descent = Descent {
            sgd: settings.sgd(),
            learning_rate: self.rate.at(made as f64 / steps as f64),
            key: Self::RATE_KEY,
            drop_path: Some(DropPath {
                probability: settings.drop_path_at(epoch),
                seed: self.config.seed,
                step: made as u64,
                first: 0,
            }),
            label_smoothing: settings.label_smoothing,
            auxiliary_weight: settings.auxiliary_weight,
        };
        let score = descend(&self.network, &mut self.parameters, &[], batch, &descent, &self.team)?;
        self.position.add_score(score)?;
        if settings.average > 0.0 {
            // The first steps are too different from the last ones to be averaged for long.
            let young = (1.0 + made as f64) / (10.0 + made as f64);
            self.parameters.update_average(settings.average.min(young));
        }
        Ok(descent.learning_rate)
    }

    fn step_event<'a>(&'a self, lr: &'a f64) -> Event<'a> {
        Event::TrainStep(TrainStep {
            epoch: self.position.epoch,
            epochs: self.epochs(),
            step: self.position.step,
            steps: self.steps_per_epoch(),
            lr: *lr,
            train_loss: self.position.train.mean_loss().unwrap_or(0.0),
            train_accuracy: self.position.train.accuracy().unwrap_or(0.0),
        })
    }

    fn validation(&self) -> Option<&Loader> {
        self.valid.as_ref()
    }

    fn validate(&self, batches: Batches<'_>) -> Result<Score, DataError> {
        let parameters = self.parameters.averaged();
        let mut score = Score::default();
        for batch in batches {
            score.add(evaluate(&self.network, &parameters, &[], &batch?));
        }
        Ok(score)
    }

    fn trim(&self) {
        self.network.engine().trim();
    }

    fn record(&self, valid: Option<Score>) -> TrainRecord {
        let Position { epoch, train, epoch_seconds, .. } = self.position;
        TrainRecord {
            epoch,
            epochs: self.epochs(),
            lr: self.rate.at(epoch as f64 + 0.5),
            drop_path: self.config.train.drop_path_at(epoch),
            train_loss: train.mean_loss().unwrap_or(0.0),
            train_accuracy: train.accuracy().unwrap_or(0.0),
            valid_loss: valid.and_then(|score| score.mean_loss()),
            valid_accuracy: valid.and_then(|score| score.accuracy()),
            epoch_seconds,
            peak_rss_mb: peak_rss_mb(),
        }
    }

    fn epoch_event(record: &TrainRecord) -> Event<'_> {
        Event::TrainEpoch(record)
    }

    /// Keeps the network of the best epoch, and to the time.
    fn close(&mut self, record: &TrainRecord, sink: &mut dyn Sink) -> Result<(), Error> {
        let Position { epoch, seconds, epoch_seconds, .. } = self.position;
        let kept = time::epochs(
            epoch + 1,
            self.epochs(),
            seconds,
            epoch_seconds,
            self.config.train.seconds,
        );
        self.set_epochs(kept);
        let Some(accuracy) = record.valid_accuracy else { return Ok(()) };
        if self.best.is_none_or(|(_, best)| accuracy > best) {
            self.best = Some((record.epoch, accuracy));
            sink.save_tensors(BEST, file(&self.trained()?))?;
        }
        Ok(())
    }

    fn state(&self) -> (State, NamedValues) {
        let Position { epoch, step, train, epoch_seconds, seconds, .. } = self.position;
        let state = State {
            data: self.data.clone(),
            design: self.design.clone(),
            progress: Progress {
                epoch,
                step,
                train,
                best: self.best,
                epoch_seconds,
                seconds,
                epochs: (self.config.train.seconds > 0.0).then(|| self.epochs()),
            },
        };
        (state, self.parameters.to_named())
    }

    fn restore(
        &mut self,
        Tensors { header: state, values }: Tensors<State>,
        refuse: &dyn Fn(&str) -> Error,
    ) -> Result<(), Error> {
        if state.design != self.design {
            return Err(refuse(
                "the checkpoint is of another network than genotype.json; restore the original file",
            ));
        }
        if !state.data.is_of(&self.data) {
            return Err(refuse(
                "expected the images that the training began with, found others (their number, \
                 classes, size or mean has changed); restore them, or start a new training",
            ));
        }
        self.parameters.load_named(&values)?;
        let Progress { epoch, step, train, best, epoch_seconds, seconds, epochs } = state.progress;
        self.set_epochs(epochs.unwrap_or(self.epochs()));
        self.position =
            Position { epoch, step, train, epoch_seconds, seconds, ..Position::default() };
        self.best = best;
        Ok(())
    }

    /// Writes the network, and measures it once on the test images.
    fn finish(
        &mut self,
        last: Option<&TrainRecord>,
        sink: &mut dyn Sink,
    ) -> Result<TrainResult, Error> {
        let trained = self.trained()?;
        sink.save_tensors(WEIGHTS, file(&trained))?;
        let test: Option<Evaluation> =
            self.test.clone().map(|images| trained.evaluate(images)).transpose()?;
        let mut warnings = Vec::new();
        if let Some(last) = last.filter(|last| last.epochs > last.epoch + 1) {
            warnings.push(format!(
                "the machine was so much slower than planned that the training ended after {} of {} epochs, before its learning \
                 rate had fallen to the end; give it more time",
                last.epoch + 1,
                last.epochs
            ));
        }
        if test.is_none() {
            warnings.push(format!(
                "{} has no test images, so there is no test error; measure one with asap evaluate",
                self.data.name
            ));
        }
        if test.is_some() && self.data.train_images == self.config.train.images {
            warnings.push(format!(
                "the network was trained on {} images, the most that train.images allowed",
                self.data.train_images
            ));
        }
        if let (Design::Plain(network), true) = (&self.design, self.config.train.drop_path > 0.0) {
            warnings.push(format!(
                "train.drop_path had no effect: {network} has no operations that could be dropped"
            ));
        }
        let cells = self.design.genotype().into_iter().flat_map(Genotype::cells);
        let zero: usize = cells.map(CellGenotype::zero_nodes).sum();
        if zero > 0 {
            warnings.push(format!(
                "{zero} nodes of the cell are always zero, since all their inputs are `none`"
            ));
        }
        let limits = &self.config.limits;
        let latency_ms = (limits.latency_ms > 0.0)
            .then(|| latency::measure(&self.design, self.shape, limits.latency_threads));
        let latency_ms = latency_ms.transpose()?;
        if let Some(found) = latency_ms.filter(|&found| found > limits.latency_ms) {
            warnings.push(format!(
                "the network took {found:.2} ms, more than the {} ms allowed and than when its channels were chosen: this machine is \
                 busier now; measure again with asap bench predict",
                limits.latency_ms
            ));
        }
        Ok(TrainResult {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            seed: self.config.seed,
            data: self.data.clone(),
            design: self.design.clone(),
            params: self.cost.params as usize,
            multiply_adds: self.cost.multiply_adds,
            epochs: self.position.epoch,
            seconds: self.position.seconds,
            test,
            valid_accuracy: last.and_then(|record| record.valid_accuracy),
            best: self.best,
            peak_rss_mb: peak_rss_mb(),
            latency_ms,
            limits: self.config.limits.clone(),
            warnings,
        })
    }

    #[cfg_attr(not(feature = "report"), expect(unused_variables))]
    fn publish(&self, folder: &RunFolder, result: Option<&TrainResult>) -> Result<(), Error> {
        #[cfg(feature = "report")]
        report::write_training(folder, &self.data, &self.config, &self.design, result)?;
        Ok(())
    }
}
