//! The controller of NASNet (Zoph, Vasudevan, Shlens, Le 2018, "Learning Transferable Architectures for Scalable Image Recognition",
//! arXiv 1707.07012), which learns by proximal policy optimization (PPO, Schulman et al. 2017, arXiv 1707.06347).

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::numeric::adam::Adam;
use crate::rivals::controller::{Controller, ControllerSettings, Sample};
use crate::space::SearchSpace;

/// Cells between two updates of the controller. NASNet: 20 workers' cells form a minibatch of 20 gradients.
const BATCH: usize = 20;
/// Passes over them, and the most by which a probability may change before it no longer counts: NASNet's paper gives neither, so those of
/// PPO's, which a public reimplementation of NASNet uses, too.
const PASSES: usize = 10;
const CLIP: f64 = 0.2;

/// A recurrent controller that writes cells, and after every 20 of them makes those likelier that were better than the moving average of all
/// before.
///
/// From NASNet's appendix A.2 and A.3: one LSTM layer of 100 units, weights uniform in -0.1 to 0.1, rate 0.00035, an entropy bonus of 0.00001, and a
/// baseline that keeps 0.95 of itself at each reward, which is the accuracy. Ours: cells are written in the order of the search space (see
/// [`Controller`]), with an operation per input and no choice of how the two are joined; Adam's remaining constants are its usual ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Nasnet {
    controller: Controller,
    baseline: Option<f64>,
    /// Cells since the last update, with the reward beyond the baseline.
    batch: Vec<(Sample, f64)>,
}

impl Nasnet {
    pub(super) fn new(space: &SearchSpace, seed: u64) -> Self {
        let settings = ControllerSettings {
            hidden: 100,
            // So large that logits are the scores.
            temperature: 1e4,
            tanh_constant: 1e4,
            operation_tanh_constant: 1e4,
            entropy_weight: 1e-5,
            baseline_decay: 0.95,
            adam: Adam { lr: 3.5e-4, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 },
        };
        let controller = Controller::with_settings(space, settings, seed);
        let controller = controller.expect("the settings are sound");
        Self { controller, baseline: None, batch: Vec::new() }
    }

    pub(super) fn ask(&self, random: &mut impl Rng) -> Sample {
        self.controller.sample(random)
    }

    pub(super) fn tell(&mut self, sample: Sample, reward: f64) -> Result<(), Error> {
        let baseline = self.baseline.unwrap_or(reward);
        let decay = self.controller.settings().baseline_decay;
        self.baseline = Some(decay * baseline + (1.0 - decay) * reward);
        self.batch.push((sample, reward - baseline));
        if self.batch.len() == BATCH {
            for _ in 0..PASSES {
                self.controller.ascend_clipped(&self.batch, CLIP)?;
            }
            self.batch.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    #[test]
    fn cells_that_are_rewarded_become_likelier() {
        let space = SearchSpace::of(crate::Family::NasBench201);
        let mut nasnet = Nasnet::new(&space, 1);
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let skips = |nasnet: &Nasnet| {
            let mut random = ChaCha8Rng::seed_from_u64(3);
            let cells = (0..200).map(|_| nasnet.ask(&mut random).genotype.skip_count());
            cells.sum::<usize>() as f64 / 200.0
        };
        let before = skips(&nasnet);
        for _ in 0..30 * BATCH {
            let sample = nasnet.ask(&mut random);
            let reward = sample.genotype.skip_count() as f64 / 6.0;
            nasnet.tell(sample, reward).unwrap();
        }
        let after = skips(&nasnet);
        assert!(after > 2.0 * before, "{before} {after}");
    }
}
