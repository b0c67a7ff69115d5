//! The time that the steps of an epoch take, and the checkpoints due within it.

use std::time::{Duration, Instant};

/// The clock of an epoch's steps.
pub(crate) struct Pace {
    pause: Duration,
    saved: Instant,
    lap: Instant,
}

impl Pace {
    /// Starts; a checkpoint is due every `minutes`. The first lap began at `since`.
    pub(crate) fn new(minutes: f64, since: Instant) -> Self {
        let pause = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX);
        Self { pause, saved: Instant::now(), lap: since }
    }

    /// Seconds since the last call.
    pub(crate) fn lap(&mut self) -> f64 {
        let seconds = self.lap.elapsed().as_secs_f64();
        self.lap = Instant::now();
        seconds
    }

    /// True if a checkpoint is due.
    pub(crate) fn checkpoint_is_due(&self) -> bool {
        self.saved.elapsed() >= self.pause
    }

    /// Records that a checkpoint was written.
    pub(crate) fn checkpoint_written(&mut self) {
        self.saved = Instant::now();
    }
}
