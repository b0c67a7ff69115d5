//! ENAS: a recurrent network that learns to write good genotypes (Pham et al. 2018, arXiv 1802.03268).

mod pass;
mod settings;

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

pub use settings::ControllerSettings;

use self::pass::{Decision, Question, entropy, parameter_count};
use crate::error::Error;
use crate::genotype::{Gene, Genotype};
use crate::numeric::adam::Moments;
use crate::numeric::draw::weighted;
use crate::numeric::vector::{add_scaled, largest};
use crate::space::{Ending, SearchSpace};

/// An LSTM that samples genotypes and learns by REINFORCE which of them are rewarded.
///
/// In the order of kinds and nodes it decides which inputs a node keeps, if only some, and then the operation of
/// each: for DARTS two inputs and two operations per node, for NAS-Bench-201 an operation per edge.
/// For each decision the LSTM reads the embedding of the last one; one linear head scores the states, another the
/// operations, and `tanh_constant * tanh(score / temperature)` are the logits of a softmax over what may be chosen, with a
/// smaller constant for operations.
///
/// Ours: the inputs are scored by a head of their own, where the ENAS code attends over the hidden states of the nodes; a node's inputs
/// always differ, as in the cells that the other methods derive; and no operation has a bias. Those of the ENAS code, 10 inside the tanh
/// for its two convolutions, saturate it, so that their scores no longer learn and neither is ever told from the other.
///
/// A round trip through JSON is bit-exact, and the copy learns on as the original does.
///
/// ```
/// use asap_core::{Controller, SearchSpace};
/// use rand::SeedableRng;
///
/// let mut controller = Controller::new(&SearchSpace::default(), 1);
/// let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(2);
/// let sample = controller.sample(&mut rng);
/// let reward = sample.genotype.skip_count() as f64; // in a search, a validation accuracy
/// controller.reinforce(&[(sample, reward)])?;
/// # Ok::<(), asap_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawController")]
pub struct Controller {
    space: SearchSpace,
    settings: ControllerSettings,
    /// LSTM, head of the states, head of the operations, then the embeddings: start, states, operations.
    parameters: Vec<f64>,
    #[serde(flatten)]
    moments: Moments,
    baseline: Option<f64>,
}

/// A genotype that a [`Controller`] sampled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The cells; the inputs of each node in ascending order.
    pub genotype: Genotype,
    /// The logarithm of the probability of the decisions.
    pub ln_probability: f64,
    /// The sum of the entropies of the decisions, in nats.
    pub entropy: f64,
    decisions: Vec<usize>,
}

impl Controller {
    /// An untrained controller with [`ControllerSettings::default`]; weights uniform in -0.1 to 0.1, as in ENAS.
    pub fn new(space: &SearchSpace, seed: u64) -> Self {
        Self::build(space, ControllerSettings::default(), seed)
    }

    /// An untrained controller with custom settings.
    ///
    /// # Errors
    /// Those of [`ControllerSettings::check`].
    pub fn with_settings(
        space: &SearchSpace,
        settings: ControllerSettings,
        seed: u64,
    ) -> Result<Self, Error> {
        settings.check()?;
        Ok(Self::build(space, settings, seed))
    }

    fn build(space: &SearchSpace, settings: ControllerSettings, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let count = parameter_count(space, settings.hidden);
        Self {
            space: space.clone(),
            settings,
            parameters: (0..count).map(|_| 0.2 * rng.random::<f64>() - 0.1).collect(),
            moments: Moments::new(count),
            baseline: None,
        }
    }

    /// The search space.
    pub fn space(&self) -> &SearchSpace {
        &self.space
    }

    /// The constants.
    pub fn settings(&self) -> &ControllerSettings {
        &self.settings
    }

    /// The moving average of the rewards; none before the first.
    pub fn baseline(&self) -> Option<f64> {
        self.baseline
    }

    /// Draws a genotype; one number of `rng` for each decision.
    pub fn sample(&self, rng: &mut impl Rng) -> Sample {
        self.sample_of(&self.pass(|_, ln| draw(ln, rng)))
    }

    /// The entropy of the decisions on operations of each kind of cell, divided by ln N, in the mean over some samples (Fig. 7).
    pub fn operation_entropies(&self, samples: usize, rng: &mut impl Rng) -> Vec<f64> {
        let questions = self.questions();
        let kinds = self.space.kinds().len();
        let largest = (self.space.candidates.len() as f64).ln();
        let mut sums = vec![(0.0, 0.0); kinds];
        for _ in 0..samples {
            let pass = self.pass(|_, ln| draw(ln, rng));
            for (index, (decision, question)) in pass.iter().zip(&questions).enumerate() {
                if let Question::Operation = question {
                    let (sum, count) = &mut sums[index * kinds / questions.len()];
                    *sum += entropy(&decision.ln_probabilities);
                    *count += 1.0;
                }
            }
        }
        let mean = |(sum, count): (f64, f64)| {
            if largest > 0.0 && count > 0.0 { sum / count / largest } else { 0.0 }
        };
        sums.into_iter().map(mean).collect()
    }

    /// The genotype of the likeliest decision at each step; the first of equals.
    pub fn likeliest(&self) -> Genotype {
        self.sample_of(&self.pass(|_, ln| largest(ln))).genotype
    }

    /// Learns from the rewards of some samples of this controller: one Adam step on the means over them.
    ///
    /// Ascends `(reward - baseline) ln_probability + entropy_weight * entropy`. The baseline is that from before the sample's
    /// reward, and then moves to `decay * baseline + (1 - decay) * reward`. It starts at the first reward, which thus
    /// teaches nothing; in the ENAS code it starts at 0, so that the first hundreds of samples are all made likelier, and that code adds the
    /// entropy to the reward without a gradient of its own.
    ///
    /// # Errors
    /// [`Error::Value`] if a reward is NaN or infinite; nothing changes.
    ///
    /// # Panics
    /// If a sample comes from a controller of another space.
    pub fn reinforce(&mut self, samples: &[(Sample, f64)]) -> Result<(), Error> {
        if let Some((_, reward)) = samples.iter().find(|(_, reward)| !reward.is_finite()) {
            return Err(Error::value("reward", reward, "a finite number"));
        }
        let decay = self.settings.baseline_decay;
        let mut mean = vec![0.0; self.parameters.len()];
        for (sample, reward) in samples {
            let baseline = self.baseline.unwrap_or(*reward);
            let pass = self.replay(&sample.decisions);
            let gradient = self.backward(&pass, reward - baseline, self.settings.entropy_weight);
            add_scaled(&mut mean, &gradient, 1.0 / samples.len() as f64);
            self.baseline = Some(decay * baseline + (1.0 - decay) * reward);
        }
        self.ascend(&mean);
        Ok(())
    }

    /// Learns from the advantages of some samples, the rewards beyond a baseline: one Adam step on the means over them.
    ///
    /// Ascends PPO's clipped objective `min(r A, clip(r, 1 - clip, 1 + clip) A)`, where `r` is the probability of a sample relative to that
    /// with which it was drawn, and the entropy.
    ///
    /// # Errors
    /// [`Error::Value`] if an advantage is NaN or infinite; nothing changes.
    ///
    /// # Panics
    /// If a sample comes from a controller of another space.
    pub fn ascend_clipped(&mut self, samples: &[(Sample, f64)], clip: f64) -> Result<(), Error> {
        if let Some((_, advantage)) = samples.iter().find(|(_, advantage)| !advantage.is_finite()) {
            return Err(Error::value("advantage", advantage, "a finite number"));
        }
        let mut mean = vec![0.0; self.parameters.len()];
        let share = 1.0 / samples.len().max(1) as f64;
        for (sample, advantage) in samples {
            let pass = self.replay(&sample.decisions);
            let ln: f64 = pass.iter().map(|d| d.ln_probabilities[d.chosen]).sum();
            let ratio = (ln - sample.ln_probability).exp();
            let is_clipped = if *advantage > 0.0 { ratio > 1.0 + clip } else { ratio < 1.0 - clip };
            let of_ln = if is_clipped { 0.0 } else { ratio * advantage };
            let gradient = self.backward(&pass, of_ln, self.settings.entropy_weight);
            add_scaled(&mut mean, &gradient, share);
        }
        self.ascend(&mean);
        Ok(())
    }

    fn sample_of(&self, pass: &[Decision]) -> Sample {
        let decisions: Vec<_> = pass.iter().map(|decision| decision.chosen).collect();
        let mut rest = &decisions[..];
        let genotype = self.space.assemble(|node| {
            let (own, after) = rest.split_at(self.questions_of(node).len());
            rest = after;
            let (inputs, operations): (Vec<_>, _) = match self.space.family.ending() {
                Ending::EveryEdge => ((0..own.len()).collect(), own),
                Ending::Inputs(count) => (own[..count].to_vec(), &own[count..]),
            };
            let mut genes: Vec<_> = (inputs.into_iter().zip(operations))
                .map(|(input, &k)| Gene { operation: self.space.candidates[k], input })
                .collect();
            genes.sort_by_key(|gene| gene.input);
            genes
        });
        Sample {
            genotype,
            ln_probability: pass.iter().map(|d| d.ln_probabilities[d.chosen]).sum(),
            entropy: pass.iter().map(|d| entropy(&d.ln_probabilities)).sum(),
            decisions,
        }
    }

    fn ascend(&mut self, gradient: &[f64]) {
        let down: Vec<f64> = gradient.iter().map(|up| -up).collect();
        self.moments.step(&self.settings.adam, &mut self.parameters, &down, |_| true);
    }
}

/// Draws a choice that is allowed.
fn draw(ln_probabilities: &[f64], rng: &mut impl Rng) -> usize {
    let probabilities: Vec<f64> = ln_probabilities.iter().map(|ln| ln.exp()).collect();
    weighted(&probabilities, rng).unwrap_or(0)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawController {
    space: SearchSpace,
    settings: ControllerSettings,
    parameters: Vec<f64>,
    first_moment: Vec<f64>,
    second_moment: Vec<f64>,
    steps: u64,
    baseline: Option<f64>,
}

impl TryFrom<RawController> for Controller {
    type Error = Error;

    fn try_from(raw: RawController) -> Result<Self, Error> {
        raw.settings.check()?;
        let count = parameter_count(&raw.space, raw.settings.hidden);
        if raw.parameters.len() != count {
            let found = format!("{} numbers", raw.parameters.len());
            let expected = format!("{count} numbers for this space and hidden size");
            return Err(Error::value("parameters", found, expected));
        }
        let moments = Moments::load(raw.first_moment, raw.second_moment, raw.steps, count)?;
        Ok(Self {
            space: raw.space,
            settings: raw.settings,
            parameters: raw.parameters,
            moments,
            baseline: raw.baseline,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Adam, CellGenotype, Family, Operation};

    fn small(hidden: usize, lr: f64, seed: u64) -> Controller {
        let default = ControllerSettings::default();
        let adam = Adam { lr, ..default.adam };
        let settings = ControllerSettings { hidden, adam, operation_tanh_constant: 2.5, ..default };
        Controller::with_settings(&SearchSpace::default(), settings, seed).unwrap()
    }

    #[test]
    fn the_gradient_is_that_of_finite_differences() {
        for family in Family::ALL {
            let space = SearchSpace::new(family, 2, family.candidates()[..3].to_vec()).unwrap();
            gradient_is_that_of_finite_differences(&space);
        }
    }

    fn gradient_is_that_of_finite_differences(space: &SearchSpace) {
        let settings = ControllerSettings { hidden: 4, ..ControllerSettings::default() };
        let mut controller = Controller::with_settings(space, settings, 3).unwrap();
        controller.parameters.iter_mut().for_each(|p| *p *= 20.0); // far from uniform
        let sample = controller.sample(&mut ChaCha8Rng::seed_from_u64(4));
        for (of_ln, of_entropy) in [(1.0, 0.0), (0.0, 1.0)] {
            let gradient =
                controller.backward(&controller.replay(&sample.decisions), of_ln, of_entropy);
            assert!(gradient.iter().any(|g| g.abs() > 0.01));
            for (k, found) in gradient.iter().enumerate() {
                let shifted = |by: f64| {
                    let mut other = controller.clone();
                    other.parameters[k] += by;
                    let again = other.sample_of(&other.replay(&sample.decisions));
                    of_ln * again.ln_probability + of_entropy * again.entropy
                };
                let numeric = (shifted(1e-5) - shifted(-1e-5)) / 2e-5;
                assert!((found - numeric).abs() < 1e-7, "{k}: {found} {numeric}");
            }
        }
    }

    #[test]
    fn probabilities_sum_to_1_over_everything_that_can_be_sampled() {
        let space =
            SearchSpace::new(Family::Darts, 1, Family::Darts.candidates()[..2].to_vec()).unwrap();
        let (hidden, wide) = (3, 2.5);
        let settings = ControllerSettings {
            hidden,
            tanh_constant: wide,
            operation_tanh_constant: wide,
            ..ControllerSettings::default()
        };
        let mut controller = Controller::with_settings(&space, settings, 5).unwrap();
        controller.parameters.iter_mut().for_each(|p| *p *= 20.0);
        let mut rng = ChaCha8Rng::seed_from_u64(6);
        // one order or the other of two inputs and two times two operations, in each cell
        let mut seen = std::collections::BTreeMap::new();
        for _ in 0..4000 {
            let sample = controller.sample(&mut rng);
            seen.entry(sample.decisions.clone()).or_insert((sample, 0)).1 += 1;
        }
        let total: f64 = seen.values().map(|(sample, _)| sample.ln_probability.exp()).sum();
        assert!(seen.len() <= 64 && total > 0.99 && total < 1.0 + 1e-12, "{total}");
        for (sample, count) in seen.values() {
            let expected = 4000.0 * sample.ln_probability.exp();
            assert!((f64::from(*count) - expected).abs() < 5.0 * expected.sqrt() + 5.0);
        }
        let likeliest = seen.values().max_by_key(|(_, count)| *count).unwrap();
        assert_eq!(controller.likeliest(), likeliest.0.genotype);
    }

    #[test]
    fn of_nas_bench_201_it_decides_the_operation_of_every_edge() {
        let space = SearchSpace::of(Family::NasBench201);
        let controller = Controller::new(&space, 7);
        let mut rng = ChaCha8Rng::seed_from_u64(8);
        let mut seen = space.tables(|| 0.0);
        for _ in 0..400 {
            let sample = controller.sample(&mut rng);
            assert_eq!(sample.decisions.len(), 6);
            let weights = space.one_hot(&sample.genotype).unwrap();
            let seen = seen.iter_mut().flatten().flatten();
            seen.zip(weights.iter().flatten().flatten()).for_each(|(seen, w)| *seen += w);
        }
        // nearly uniform while untrained
        assert!(
            seen.iter().flatten().flatten().all(|seen| (seen - 100.0).abs() < 50.0),
            "{seen:?}"
        );
    }

    #[test]
    fn a_planted_operation_is_learned() {
        let planted = Operation::SepConv3x3;
        let share = |genotype: &Genotype| {
            let genes = genotype.cells().iter().flat_map(CellGenotype::genes);
            genes.filter(|(_, gene)| gene.operation == planted).count() as f64 / 16.0
        };
        let mut learned = 0;
        for seed in 0..5 {
            let mut controller = small(20, 0.01, seed);
            let mut rng = ChaCha8Rng::seed_from_u64(100 + seed);
            for _ in 0..400 {
                let sample = controller.sample(&mut rng);
                let reward = share(&sample.genotype);
                controller.reinforce(&[(sample, reward)]).unwrap();
            }
            let mean = (0..50).map(|_| share(&controller.sample(&mut rng).genotype)).sum::<f64>();
            learned += usize::from(mean / 50.0 > 0.5 && share(&controller.likeliest()) == 1.0);
        }
        assert!(learned >= 4, "{learned} of 5 seeds");
    }

    /// The bounds on the logits leave an operation at most 29 %, twice its share of the start.
    #[test]
    fn a_planted_operation_becomes_as_likely_as_the_published_constants_allow() {
        let planted = Operation::SepConv3x3;
        let share = |genotype: &Genotype| {
            let genes = genotype.cells().iter().flat_map(CellGenotype::genes);
            genes.filter(|(_, gene)| gene.operation == planted).count() as f64 / 16.0
        };
        let mut controller = Controller::new(&SearchSpace::default(), 1);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for _ in 0..400 {
            let draw = |_| controller.sample(&mut rng);
            let samples = (0..10).map(draw).map(|sample| {
                let reward = share(&sample.genotype);
                (sample, reward)
            });
            let samples: Vec<_> = samples.collect();
            controller.reinforce(&samples).unwrap();
        }
        let mean = (0..100).map(|_| share(&controller.sample(&mut rng).genotype)).sum::<f64>();
        assert!((0.22..0.33).contains(&(mean / 100.0)), "{mean} %");
        let fresh = Controller::new(&SearchSpace::default(), 1).operation_entropies(5, &mut rng);
        assert!(fresh.iter().all(|entropy| (0.99..1.0).contains(entropy)), "{fresh:?}");
        let learned = controller.operation_entropies(50, &mut rng);
        assert!(learned.len() == 2 && learned.iter().all(|entropy| *entropy < 0.99), "{learned:?}");
    }

    /// What a controller of a search is told of cells that all do equally well: noise.
    #[test]
    fn noise_does_not_make_it_collapse() {
        let space = SearchSpace::default();
        for seed in 0..3 {
            let mut controller = Controller::new(&space, seed);
            let mut rng = ChaCha8Rng::seed_from_u64(10 + seed);
            let fresh = controller.sample(&mut rng).entropy;
            for _ in 0..300 {
                let noisy = |_| (controller.sample(&mut rng), 0.4 + 0.1 * rng.random::<f64>());
                let samples: Vec<_> = (0..10).map(noisy).collect();
                controller.reinforce(&samples).unwrap();
            }
            let mean = (0..20).map(|_| controller.sample(&mut rng).entropy).sum::<f64>() / 20.0;
            assert!(mean > 0.9 * fresh, "{mean} of {fresh} nats");
        }
    }

    #[test]
    fn a_reloaded_controller_learns_on_to_the_bit() {
        let mut kept = small(8, 0.01, 1);
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for step in 0..6 {
            let sample = kept.sample(&mut rng);
            let json = serde_json::to_string(&kept).unwrap();
            let mut reloaded: Controller = serde_json::from_str(&json).unwrap();
            assert_eq!(reloaded, kept);
            for controller in [&mut kept, &mut reloaded] {
                controller.reinforce(&[(sample.clone(), f64::from(step) / 7.0)]).unwrap();
            }
            assert_eq!(reloaded, kept);
        }
        assert_ne!(kept.parameters, small(8, 0.01, 1).parameters);
        let json = serde_json::to_string(&kept).unwrap().replace("\"hidden\":8", "\"hidden\":9");
        let error = serde_json::from_str::<Controller>(&json).unwrap_err().to_string();
        assert!(error.contains("`parameters` is"), "{error}");
    }

    #[test]
    fn the_baseline_is_the_moving_average_of_the_rewards() {
        let mut controller = small(4, 0.01, 1);
        let sample = controller.sample(&mut ChaCha8Rng::seed_from_u64(2));
        assert_eq!(controller.baseline(), None);
        controller.reinforce(&[(sample.clone(), 0.5)]).unwrap();
        controller.reinforce(&[(sample.clone(), 1.0)]).unwrap();
        assert!((controller.baseline().unwrap() - (0.99 * 0.5 + 0.01)).abs() < 1e-15);
        let before = controller.clone();
        let error = controller.reinforce(&[(sample, f64::NAN)]).unwrap_err().to_string();
        assert_eq!(error, "`reward` is NaN; expected a finite number");
        assert_eq!(controller, before);
    }

    #[test]
    fn a_rewarded_sample_becomes_likelier_and_a_punished_one_less() {
        for reward in [1.0, -1.0] {
            let mut controller = small(10, 0.001, 3);
            let sample = controller.sample(&mut ChaCha8Rng::seed_from_u64(4));
            controller.baseline = Some(0.0);
            controller.reinforce(&[(sample.clone(), reward)]).unwrap();
            let after = controller.sample_of(&controller.replay(&sample.decisions));
            assert!((after.ln_probability - sample.ln_probability) * reward > 1e-4);
        }
    }
}
