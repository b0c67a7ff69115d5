//! The speed of a run on this machine, from a few of its steps.

use std::time::Instant;

use crate::error::Error;
use crate::run::epochs::Epochs;
use crate::run::ranks;
use crate::run::threads::with_threads;

/// The fewest steps, and seconds, from which the seconds of an epoch are estimated; and the part of the time that they may take if
/// that is less.
const TIMED: (u32, f64, f64) = (3, 1.0, 0.05);

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
            epochs.read_scores()?;
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
