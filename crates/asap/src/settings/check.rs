//! Checks of a whole configuration: every value in its range, and values that exclude each other.

use std::sync::Arc;

use asap_core::{EdgePolicy, Ending, Stem};
use asap_kernels::Precision;
use asap_net::device::DeviceName;
use asap_net::team::{Ranks, Team};

use super::auto::Auto;
use super::config::{AnnealingConfig, Config, Order};
use super::derived::LAST_TEMPERATURE;
use super::method::MethodName;
use crate::error::Error;

impl Config {
    /// Refuses workers that cannot share a batch.
    fn check_workers(&self) -> Result<(), Error> {
        let workers = self.workers;
        if !workers.is_power_of_two() {
            return Err(Error::Config(format!(
                "workers: expected a power of two, such as 1, 2 or 4, found {workers}"
            )));
        }
        let batches = [("search.batch", self.search.batch), ("train.batch", self.train.batch)];
        match batches.into_iter().find(|(_, batch)| !batch.is_multiple_of(workers)) {
            Some((key, batch)) => Err(Error::Config(format!(
                "{key}: expected a multiple of workers = {workers}, found {batch}"
            ))),
            None if self.sync_batch_norm && self.device != DeviceName::Cpu => {
                Err(Error::Config(format!(
                    "sync_batch_norm: expected false on the device {}; only CPUs share batches",
                    self.device
                )))
            }
            None => Ok(()),
        }
    }

    /// The workers of every step, whose work these processes do.
    pub(crate) fn team(&self, ranks: Arc<dyn Ranks>) -> Team {
        Team::of(self.workers, ranks).with_whole_batches(self.sync_batch_norm)
    }

    /// The most images that a process computes together, of the `batch` images of a step.
    pub(crate) fn part_of(&self, batch: usize) -> usize {
        if self.sync_batch_norm { batch } else { batch.div_ceil(self.workers) }
    }

    /// The number of images of a step, at most `batch` of so many.
    ///
    /// # Errors
    /// If the workers cannot share them.
    pub(crate) fn batch_of(&self, batch: usize, images: usize) -> Result<usize, Error> {
        let batch = batch.min(images);
        if batch.is_multiple_of(self.workers) {
            return Ok(batch);
        }
        Err(Error::Config(format!(
            "workers: expected a number that divides the {batch} images of a step, which are all there are, found {}",
            self.workers
        )))
    }

    /// [`Config::check`], and what a new run is refused for, but not one that was begun by an earlier version.
    pub(crate) fn check_new(&self) -> Result<(), Error> {
        self.check()?;
        if self.annealing.memory < 0.25 {
            return Err(Error::Config(format!(
                "annealing.memory: expected at least 0.25, since annealing.delta holds for about one memory; found {}",
                self.annealing.memory
            )));
        }
        if self.goes_by_evidence() && self.search.edge_policy == EdgePolicy::Normalize {
            return Err(Error::Config(
                "search.edge_policy: expected anneal or strength unless search.relaxation = \"mixture\", found normalize".to_owned(),
            ));
        }
        let anneals = self.search.method.anneals() && !self.goes_by_evidence();
        let AnnealingConfig { initial_temperature, decay, threshold, .. } = self.annealing;
        if anneals && decay == Auto::Auto && initial_temperature < LAST_TEMPERATURE {
            return Err(Error::Config(format!(
                "annealing.initial_temperature: expected at least {LAST_TEMPERATURE}, at which annealing.decay = \"auto\" ends, found {initial_temperature}"
            )));
        }
        if self.search.method == MethodName::AsapPac && threshold == 0.0 {
            return Err(Error::Config(
                "annealing.threshold: expected more than 0 with asap-pac, found 0".to_owned(),
            ));
        }
        if self.annealing.veto && self.search.method == MethodName::Placebo {
            return Err(Error::Config(
                "annealing.veto: expected false with placebo, whose prunings it would confirm by true losses; found true".to_owned(),
            ));
        }
        if self.train.inherit && self.train.stem != Stem::Small {
            return Err(Error::Config(
                "train.inherit: expected false with train.stem = \"large\", since search networks have the small stem; found true"
                    .to_owned(),
            ));
        }
        if self.train.inherit && !self.search.method.shares_weights() {
            return Err(Error::Config(format!(
                "train.inherit: expected false with {}, which trains every cell from fresh weights; found true",
                self.search.method
            )));
        }
        Ok(())
    }

    /// Refuses weights from a search where there is none.
    ///
    /// # Errors
    /// If they are to be inherited.
    pub fn check_without_search(&self) -> Result<(), Error> {
        match self.train.inherit {
            true => Err(Error::Config(
                "train.inherit: expected false here, since only asap run and asap compare search before they train; found true".to_owned(),
            )),
            false => Ok(()),
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let train = &self.train;
        check_precision(self.device, self.precision())?;
        let at_least_one = [
            ("network.channels", self.network.channels),
            ("network.cells", self.network.cells),
            ("network.nodes", self.network.nodes),
            ("search.batch", self.search.batch),
            ("alpha.every", self.alpha.every),
            ("pc_darts.parts", self.pc_darts.parts),
            ("train.channels", train.channels),
            ("train.cells", train.cells),
            ("train.epochs", train.epochs),
            ("limits.latency_threads", self.limits.latency_threads),
            ("train.batch", train.batch),
            ("train.cycles", train.cycles),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                return Err(Error::Config(format!("{key}: expected at least 1, found 0")));
            }
        }
        self.check_workers()?;
        self.query.evolution().check()?;
        let auto = |value: Auto| value.or_derived(|| 0.5);
        let (not_negative, positive) = (0.0, f64::MIN_POSITIVE);
        let ranges = [
            ("annealing.initial_temperature", self.annealing.initial_temperature, positive, 1e6),
            ("annealing.decay", auto(self.annealing.decay), positive, 1.0),
            ("annealing.grace_temperature", self.annealing.grace_temperature, positive, 1e6),
            ("annealing.threshold", self.annealing.threshold, not_negative, 0.999),
            ("annealing.delta", self.annealing.delta, positive, 1.0),
            ("annealing.memory", self.annealing.memory, positive, 1e6),
            ("search.cost", self.search.cost, not_negative, 100.0),
            ("search.held_out", self.search.held_out, not_negative, 0.9),
            ("search.seconds", self.search.seconds, not_negative, 1e9),
            ("train.seconds", train.seconds, not_negative, 1e9),
            ("limits.latency_ms", self.limits.latency_ms, not_negative, 1e9),
            ("search.warmup", self.search.warmup, not_negative, 0.9),
            ("pruning.start", self.pruning.start, not_negative, 1.0),
            ("pruning.end", self.pruning.end, self.pruning.start, 1.0),
            ("pruning.power", self.pruning.power, positive, 100.0),
            ("pc_darts.warmup", self.pc_darts.warmup, not_negative, 1.0),
            ("weights.lr", self.weights.lr, positive, 100.0),
            ("weights.lr_min", self.weights.lr_min, not_negative, 100.0),
            ("weights.momentum", self.weights.momentum, not_negative, 0.9999),
            ("weights.weight_decay", self.weights.weight_decay, not_negative, 1.0),
            ("weights.gradient_clip", self.weights.gradient_clip, positive, 1e9),
            ("alpha.lr", auto(self.alpha.lr), positive, 100.0),
            ("alpha.beta1", self.alpha.beta1, not_negative, 0.9999),
            ("alpha.beta2", self.alpha.beta2, not_negative, 0.99999),
            ("alpha.weight_decay", self.alpha.weight_decay, not_negative, 1.0),
            ("search.checkpoint_minutes", self.search.checkpoint_minutes, positive, 1e6),
            ("augment.cutout", auto(self.augment.cutout), not_negative, 1.0),
            ("augment.random_erasing", self.augment.random_erasing, not_negative, 1.0),
            ("train.validation", train.validation, not_negative, 0.9),
            ("train.lr", train.lr, positive, 100.0),
            ("train.lr_min", train.lr_min, not_negative, 100.0),
            ("train.amplitude_decay", train.amplitude_decay, positive, 1.0),
            ("train.power", train.power, positive, 1e6),
            ("train.warmup_epochs", train.warmup_epochs, not_negative, train.epochs as f64),
            ("train.momentum", train.momentum, not_negative, 0.9999),
            ("train.weight_decay", train.weight_decay, not_negative, 1.0),
            ("train.bias_rate", train.bias_rate, positive, 1000.0),
            ("train.gradient_clip", train.gradient_clip, positive, 1e9),
            ("train.label_smoothing", train.label_smoothing, not_negative, 0.9),
            ("train.auxiliary_weight", train.auxiliary_weight, not_negative, 10.0),
            ("train.drop_path", train.drop_path, not_negative, 0.9),
            ("train.average", train.average, not_negative, 0.999_999),
            ("train.checkpoint_minutes", train.checkpoint_minutes, positive, 1e6),
            ("train.augment.cutout", auto(train.augment.cutout), not_negative, 1.0),
            ("train.augment.random_erasing", train.augment.random_erasing, not_negative, 1.0),
        ];
        for (key, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                let low = if low == positive { "more than 0".to_owned() } else { format!("{low}") };
                return Err(Error::Config(format!(
                    "{key}: expected a number from {low} to {high}, found {value}"
                )));
            }
        }
        let space = self.space()?;
        let by_evidence = self.goes_by_evidence();
        if by_evidence
            && matches!(space.family.ending(), Ending::Inputs(_))
            && self.search.edge_policy != EdgePolicy::Anneal
        {
            return Err(Error::Config(format!(
                "search.edge_policy: expected anneal unless search.relaxation = \"mixture\", found {}",
                self.search.edge_policy
            )));
        }
        let chooses_edges = matches!(space.family.ending(), Ending::Inputs(_))
            && self.search.edge_policy == EdgePolicy::Anneal;
        if self.search.method.anneals()
            && self.annealing.order != Order::Together
            && (by_evidence || !chooses_edges)
        {
            return Err(Error::Config(
                "annealing.order: expected together unless search.relaxation = \"mixture\" and the space's edges are annealed \
                 (search.edge_policy = \"anneal\")"
                    .to_owned(),
            ));
        }
        let parts = space.partial;
        if !self.network.channels.is_multiple_of(parts) {
            return Err(Error::Config(format!(
                "network.channels: expected a multiple of {parts} (pc_darts.parts), found {}",
                self.network.channels
            )));
        }
        if parts > 1 && train.inherit {
            return Err(Error::Config(
                "train.inherit: expected false with pc-darts, whose search network has operations with fewer channels; \
                 found true"
                    .to_owned(),
            ));
        }
        let limits = &self.limits;
        let limited = limits.weights > 0 || limits.multiply_adds > 0 || limits.latency_ms > 0.0;
        if limited && train.inherit {
            return Err(Error::Config(
                "train.inherit: expected false with limits, which may take channels away; found true"
                    .to_owned(),
            ));
        }
        if train.multiply_adds > 0 && train.inherit {
            return Err(Error::Config(format!(
                "train.multiply_adds: expected 0 with train.inherit, which takes the search network's channels; found {}",
                train.multiply_adds
            )));
        }
        for (key, augment) in [("augment", &self.augment), ("train.augment", &train.augment)] {
            if augment.auto_augment != "none" && augment.policy().is_none() {
                return Err(Error::Config(format!(
                    "{key}.auto_augment: expected one of none, cifar, svhn, imagenet, found `{}`",
                    augment.auto_augment
                )));
            }
        }
        Ok(())
    }
}

/// Checks that the device supports the precision.
pub(crate) fn check_precision(device: DeviceName, precision: Precision) -> Result<(), Error> {
    if precision == Precision::F32 || device == DeviceName::Cpu {
        return Ok(());
    }
    Err(Error::Config(format!(
        "precision: expected f32 on the device {device}, found {precision}; other precisions need the kernels of the CPU"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Layers, Preset};

    fn refusal(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Layers::preset(Preset::Quick).resolve().expect("a preset");
        change(&mut config);
        config.check_new().err().map(|error| error.to_string())
    }

    #[test]
    fn settings_that_need_evidence_are_refused_where_evidence_prunes_only() {
        for (method, expected) in [(MethodName::Asap, true), (MethodName::AsapPac, false)] {
            let refused = refusal(|config| {
                config.search.method = method;
                config.search.edge_policy = EdgePolicy::Strength;
            });
            assert_eq!(refused.is_some(), expected, "{method}: {refused:?}");
        }
    }

    #[test]
    fn weights_that_do_not_exist_are_not_inherited() {
        let inherit = |method, stem| {
            refusal(|config| {
                (config.search.method, config.train.stem) = (method, stem);
                config.train.inherit = true;
            })
        };
        assert_eq!(inherit(MethodName::Asap, Stem::Small), None);
        let large = inherit(MethodName::Asap, Stem::Large).expect("a refusal");
        assert!(large.contains("train.stem"), "{large}");
        let fresh = inherit(MethodName::Evolution, Stem::Small).expect("a refusal");
        assert!(fresh.contains("evolution, which trains every cell from fresh weights"), "{fresh}");
    }
}
