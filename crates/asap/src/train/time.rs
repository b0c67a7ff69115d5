//! The number of epochs that fits into a time, when a training is planned and after each of its epochs.

use crate::settings::MOST_EPOCHS;

/// Fraction of the time by which the end may miss it before a planned number of epochs is changed.
const TOLERANCE: f64 = 0.03;
/// Fraction of the time by which the planned end may exceed it.
const EXCESS: f64 = 0.1;
/// The same for a machine that turns out slower than planned: an end with the rate in its middle would cost more.
const MOST_EXCESS: f64 = 0.2;

/// The whole number of epochs of `epoch_seconds` that comes closest to filling `limit` seconds.
pub(crate) fn epochs_to_fill(epoch_seconds: f64, limit: f64) -> usize {
    fill(0.0, epoch_seconds, limit, EXCESS)
}

/// The whole number of epochs of `epoch_seconds` that comes closest to filling what is left of `limit` seconds after the first
/// `seconds`, with an end of at most this excess.
fn fill(seconds: f64, epoch_seconds: f64, limit: f64, excess: f64) -> usize {
    let epochs = ((limit - seconds) / epoch_seconds).round().max(0.0) as usize;
    let end = seconds + epochs as f64 * epoch_seconds;
    if end > (1.0 + excess) * limit { epochs.saturating_sub(1) } else { epochs }
}

/// The number of epochs that a training makes in all, if `done` of `planned` ones took `seconds` and the last of them
/// `epoch_seconds`. It is `planned` without a limit (0), and as long as that is about right.
pub(super) fn epochs(
    done: usize,
    planned: usize,
    seconds: f64,
    epoch_seconds: f64,
    limit: f64,
) -> usize {
    if limit == 0.0 || done >= planned || epoch_seconds <= 0.0 {
        return planned;
    }
    let end = seconds + (planned - done) as f64 * epoch_seconds;
    let slack = (TOLERANCE * limit).max(0.5 * epoch_seconds);
    if (end - limit).abs() <= slack && end <= (1.0 + EXCESS) * limit {
        return planned;
    }
    (done + fill(seconds, epoch_seconds, limit, MOST_EXCESS)).min(planned.max(MOST_EPOCHS))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seconds and epochs of a training whose epochs take what `of_epoch` says.
    fn run(planned: usize, limit: f64, of_epoch: impl Fn(usize) -> f64) -> (f64, usize) {
        let (mut seconds, mut planned, mut done) = (0.0, planned, 0);
        while done < planned {
            let epoch = of_epoch(done);
            (seconds, done) = (seconds + epoch, done + 1);
            planned = epochs(done, planned, seconds, epoch, limit);
        }
        (seconds, done)
    }

    #[test]
    fn the_plan_stays_if_the_speed_does() {
        for epoch in [3.0, 5.0, 17.0, 30.0, 47.0, 60.0, 90.0, 105.0] {
            let planned = epochs_to_fill(epoch, 100.0);
            assert!(planned as f64 * epoch <= 110.0, "{epoch}");
            assert_eq!(run(planned, 100.0, |_| epoch).1, planned, "{epoch}");
            assert_eq!(run(planned, 100.0, |_| 1.01 * epoch).1, planned, "{epoch}");
        }
        assert_eq!(run(20, 0.0, |_| 500.0).1, 20, "no limit");
        assert_eq!(run(20, 100.0, |_| 0.001).1, MOST_EPOCHS);
        assert_eq!(run(900, 100.0, |_| 0.001).1, 900, "as many as were planned");
    }

    #[test]
    fn another_speed_changes_the_number_of_epochs_and_not_the_time() {
        let speeds: [fn(usize) -> f64; 4] = [
            |_| 2.5,
            |_| 9.0,
            |epoch| if epoch < 6 { 5.0 } else { 11.0 },
            |epoch| 5.0 + 3.0 * (epoch as f64 * 1.7).sin(),
        ];
        for (number, speed) in speeds.into_iter().enumerate() {
            let (seconds, epochs) = run(20, 100.0, speed);
            assert!((92.0..=110.0).contains(&seconds), "{number}: {epochs} in {seconds} s");
        }
    }

    #[test]
    fn few_epochs_that_are_a_little_slower_than_planned_are_all_made() {
        for (planned, epoch) in [(2, 56.0), (2, 60.0), (3, 37.5), (3, 40.0)] {
            assert_eq!(run(planned, 100.0, |_| epoch).1, planned, "{epoch}");
        }
        assert_eq!(run(2, 100.0, |_| 65.0), (65.0, 1), "another would exceed the time by 30 %");
    }

    #[test]
    fn an_epoch_that_does_not_fit_is_none_but_one_that_is_begun_is_completed() {
        assert_eq!(epochs_to_fill(120.0, 100.0), 0);
        assert_eq!(epochs_to_fill(105.0, 100.0), 1);
        assert_eq!(run(5, 1.0, |_| 10.0), (10.0, 1));
    }
}
