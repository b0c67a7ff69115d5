//! A training that keeps to its time.

/// Fraction of the time by which the end may miss it before the number of epochs is changed.
const TOLERANCE: f64 = 0.03;
/// Fraction of the time by which a last epoch may exceed it.
const EXCESS: f64 = 0.1;

/// The number of epochs that comes closest to `limit` seconds, for `done` of `planned` epochs in `seconds` of which the last one
/// took `epoch_seconds`. It is `planned` without a limit, and as long as that is about right.
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
    let end = |epochs: usize| seconds + (epochs - done) as f64 * epoch_seconds;
    let slack = (TOLERANCE * limit).max(0.5 * epoch_seconds);
    let latest = (1.0 + EXCESS) * limit;
    if (end(planned) - limit).abs() <= slack && end(planned) <= latest {
        return planned;
    }
    let closest = done + ((limit - seconds) / epoch_seconds).round().max(0.0) as usize;
    if closest > done && end(closest) > latest { closest - 1 } else { closest }
}

#[cfg(test)]
mod tests {
    /// The seconds and epochs of a training whose epochs take what `of_epoch` says.
    fn run(planned: usize, limit: f64, of_epoch: impl Fn(usize) -> f64) -> (f64, usize) {
        let (mut seconds, mut epochs, mut done) = (0.0, planned, 0);
        while done < epochs {
            let epoch = of_epoch(done);
            (seconds, done) = (seconds + epoch, done + 1);
            epochs = super::epochs(done, epochs, seconds, epoch, limit);
        }
        (seconds, done)
    }

    #[test]
    fn the_plan_stays_if_the_speed_does() {
        assert_eq!(run(20, 100.0, |_| 5.0), (100.0, 20));
        assert_eq!(run(20, 100.0, |_| 5.05).1, 20);
        assert_eq!(run(20, 0.0, |_| 500.0).1, 20, "no limit");
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
    fn one_epoch_is_always_made() {
        assert_eq!(run(5, 1.0, |_| 10.0), (10.0, 1));
    }
}
