//! ASAP: anneal and prune (Algorithm 1), with the schedule of section 4.1 or that of Theorem 2.

use asap_core::{
    Adam, Annealed, Annealing, Evidence, Genotype, LogitGradients, MixingTables, NetworkShape, Pac,
    Pruned, Sureness, TemperatureSchedule, ThresholdPolicy,
};
use asap_data::Batch;

use super::cost::{self, CostTerm};
use super::{Clock, Method, Step, Turns, generator, seeded};
use crate::error::Error;
use crate::search::learner::Learner;
use crate::settings::config::{AlphaOptimizer, Config, Interval, Order, Trained};
use asap_net::steps::{NonFinite, StepScore};

/// Anneals and prunes.
pub(super) struct Anneal {
    seed: u64,
    annealing: Annealing,
    turns: Turns,
    time: Time,
    adam: Adam,
    optimizer: AlphaOptimizer,
    /// What a step on the weights trains.
    trained: Trained,
    /// Number of candidates of an edge.
    candidates: usize,
    evidence: Evidence,
    /// The probability of a wrong pruning that the evidence must exclude, if it has a say.
    delta: Option<f64>,
    /// True if the loss without an operation has a say.
    veto: bool,
    cost: Option<CostTerm>,
    order: Order,
    /// Time in epochs at which the choices that come second are begun.
    second: f64,
    /// True if gradients are shuffled, for the placebo.
    shuffled: bool,
}

/// The time on which the schedules depend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    Epochs,
    Steps,
    AlphaSteps,
}

impl Anneal {
    /// Eq. 9 and a fixed threshold, for epochs of `steps` steps.
    pub(super) fn exponential(
        config: &Config,
        adam: Adam,
        steps: usize,
        trained: &NetworkShape,
    ) -> Result<Self, Error> {
        let turns = Turns { first: config.first_annealing(), every: config.alpha.every };
        Ok(Self {
            seed: config.seed,
            annealing: config.annealing(),
            turns,
            time: match config.search.schedule {
                Interval::Epoch => Time::Epochs,
                Interval::Step => Time::Steps,
            },
            adam,
            optimizer: config.alpha.optimizer,
            trained: config.weights.trained,
            candidates: config.network.candidates.len(),
            evidence: turns.evidence(config, steps)?,
            delta: config.annealing.evidence.then_some(config.annealing.delta),
            veto: config.annealing.veto,
            cost: CostTerm::new(config, trained)?,
            order: config.annealing.order,
            second: f64::midpoint(turns.first, config.search.epochs as f64),
            shuffled: false,
        })
    }

    /// The same with gradients that say nothing.
    pub(super) fn placebo(
        config: &Config,
        adam: Adam,
        steps: usize,
        trained: &NetworkShape,
    ) -> Result<Self, Error> {
        Ok(Self { shuffled: true, ..Self::exponential(config, adam, steps, trained)? })
    }

    /// Eqs. 5 to 8, after the same number of grace epochs.
    ///
    /// A step of Adam moves an alpha by about its rate, whatever the gradient: eta L is that rate.
    pub(super) fn pac(
        config: &Config,
        adam: Adam,
        steps: usize,
        trained: &NetworkShape,
    ) -> Result<Self, Error> {
        let fraction = config.annealing.threshold;
        let pac = Pac {
            eta: adam.lr,
            bound: 1.0,
            candidates: config.network.candidates.len(),
            delta: config.annealing.delta,
            fraction,
        };
        let annealing = Annealing {
            temperature: TemperatureSchedule::Pac(pac),
            threshold: ThresholdPolicy::Pac { fraction },
            grace: f64::INFINITY,
        };
        let time = Time::AlphaSteps;
        Ok(Self { annealing, time, ..Self::exponential(config, adam, steps, trained)? })
    }

    /// The choices that move at a time.
    fn moving(&self, clock: &Clock) -> Moving {
        match self.order {
            Order::OperationsFirst if clock.epochs() < self.second => Moving::Operations,
            Order::EdgesFirst if clock.epochs() < self.second => Moving::Edges,
            _ => Moving::All,
        }
    }

    fn time(&self, clock: &Clock) -> f64 {
        match self.time {
            Time::Epochs => clock.epoch as f64,
            Time::Steps => clock.epochs(),
            Time::AlphaSteps => (clock.alpha_steps + 1) as f64,
        }
    }
}

/// The choices that move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moving {
    All,
    Operations,
    Edges,
}

impl Moving {
    fn includes(self, pruned: &Pruned) -> bool {
        match self {
            Self::All => true,
            Self::Operations => pruned.operation.is_some(),
            Self::Edges => pruned.operation.is_none(),
        }
    }

    /// Removes the gradients of the others.
    fn retain(self, gradients: &mut LogitGradients) {
        match self {
            Self::All => {}
            Self::Operations => {
                gradients.inputs.iter_mut().flatten().flatten().for_each(|g| *g = 0.0)
            }
            Self::Edges => {
                gradients.operations.iter_mut().flatten().flatten().for_each(|g| *g = 0.0)
            }
        }
    }
}

/// A learner and the evidence on its choices; nothing goes that the evidence does not allow, or the loss on some images, if
/// they have a say.
struct Proven<'a> {
    learner: &'a mut Learner,
    evidence: &'a mut Evidence,
    delta: Option<f64>,
    veto: Option<&'a Batch>,
    moving: Moving,
}

impl Proven<'_> {
    /// True if the loss rises no more without a candidate than without its strongest rival: the perturbation of DARTS-PT
    /// (arXiv 2108.04392), asked of one pruning.
    fn confirms(&self, images: &Batch, candidate: &Pruned, temperature: f64) -> bool {
        let loss = |pruned: &Pruned| {
            let masked = self.learner.architecture.clone().without(pruned);
            let score = self.learner.try_out(images, &masked.mixing_tables(temperature)).ok()?;
            score.mean_loss()
        };
        let rival = self.learner.architecture.rival(candidate);
        rival.is_none_or(|rival| match (loss(candidate), loss(&rival)) {
            (Some(without), Some(without_rival)) => without <= without_rival,
            _ => false,
        })
    }
}

impl Annealed for Proven<'_> {
    type Pruned = Pruned;

    fn prune_below(
        &mut self,
        threshold: &ThresholdPolicy,
        temperature: f64,
        time: f64,
    ) -> Vec<Pruned> {
        let mut pruned = self.learner.architecture.below(temperature, threshold, time);
        pruned.retain(|pruned| self.moving.includes(pruned));
        if let Some(delta) = self.delta {
            let architecture = &self.learner.architecture;
            pruned.retain(|pruned| self.evidence.allows(architecture, pruned, delta));
        }
        if let Some(images) = self.veto {
            pruned.retain(|pruned| self.confirms(images, pruned, temperature));
        }
        // An edge that goes takes its operations with it.
        let edges = pruned.iter().filter(|pruned| pruned.operation.is_none());
        let edges: Vec<_> = edges.map(|pruned| (pruned.kind, pruned.edge)).collect();
        pruned.retain(|p| p.operation.is_none() || !edges.contains(&(p.kind, p.edge)));
        self.evidence.remove(&mut self.learner.architecture, &pruned);
        self.learner.remove(&pruned);
        pruned
    }

    fn is_decided(&self) -> bool {
        self.learner.is_decided()
    }
}

impl Method for Anneal {
    fn temperature(&self, clock: &Clock) -> f64 {
        self.annealing.temperature.at(self.time(clock))
    }

    fn threshold(&self, clock: &Clock, candidates: usize) -> f64 {
        self.annealing.threshold.at(self.time(clock), candidates)
    }

    fn moves(&self, clock: &Clock) -> bool {
        self.turns.moves(clock)
    }

    fn is_due(&self, clock: &Clock) -> bool {
        self.turns.is_due(clock)
    }

    fn weight_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
    ) -> Result<StepScore, NonFinite> {
        let mixing = match self.trained {
            Trained::Annealed => learner.mixing(self.temperature(&step.clock)),
            Trained::Even => learner.mixing(f64::INFINITY),
            Trained::Path => path(learner, &step.clock, self.seed, self.candidates),
        };
        learner.weight_step(step.train, &mixing, step.sgd, step.learning_rate)
    }

    fn architecture_step(
        &mut self,
        learner: &mut Learner,
        step: &Step<'_>,
        valid: &Batch,
    ) -> Result<Vec<Pruned>, NonFinite> {
        let (annealing, time) = (self.annealing, self.time(&step.clock));
        let moving = self.moving(&step.clock);
        let Self { seed, adam, optimizer, shuffled, delta, veto, ref cost, .. } = *self;
        let veto = veto.then_some(valid);
        let mut proven = Proven { learner, evidence: &mut self.evidence, delta, veto, moving };
        annealing.anneal(&mut proven, time, |Proven { learner, evidence, .. }, temperature| {
            let (_, gradients) = learner.mixing_gradients(valid, &learner.mixing(temperature))?;
            let architecture = &mut learner.architecture;
            let mut gradients = architecture.choice_gradients(&gradients, temperature);
            if shuffled {
                gradients.shuffle(architecture, &mut generator(seed, &step.clock, "placebo"));
            }
            if let Some(cost) = cost {
                cost.add_gradients(&mut gradients, architecture, temperature);
            }
            evidence.observe_gradients(architecture, &gradients);
            let mut gradients = architecture.through_softmax(&gradients, temperature);
            moving.retain(&mut gradients);
            match optimizer {
                AlphaOptimizer::Adam => architecture.step_logits(&gradients, &adam),
                AlphaOptimizer::Descent => architecture.descend_logits(&gradients, adam.lr),
            }
            Ok(())
        })
    }

    fn sureness(&self, learner: &Learner, cell: &Genotype) -> Vec<Sureness> {
        self.evidence.sureness(&learner.architecture, cell)
    }

    fn state(&self) -> serde_json::Value {
        cost::state(&self.evidence, self.cost.as_ref())
    }

    fn restore(&mut self, state: serde_json::Value) -> Result<(), serde_json::Error> {
        // A checkpoint of an earlier version has none.
        if state.is_null() {
            return Ok(());
        }
        self.evidence = cost::restored(state, self.cost.as_mut())?;
        Ok(())
    }
}

/// The path that a step on the weights trains. As many steps as there are candidates share one draw, in which each of them
/// has its turn on every edge that all paths have.
pub(super) fn path(learner: &Learner, clock: &Clock, seed: u64, candidates: usize) -> MixingTables {
    let number = clock.epoch * clock.steps + clock.step;
    let mut random = seeded(seed, "paths of the weights");
    random.set_word_pos(((number / candidates) as u128) << 32);
    let mut paths = learner.architecture.draw_paths(candidates, &mut random);
    paths.swap_remove(number % candidates)
}
