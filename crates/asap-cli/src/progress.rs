//! Progress on standard error.

use std::time::Duration;

use asap::run::record::{EpochRecord, Event, Observer, StepReport, TrainRecord, TrainStep};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output::duration;

/// A bar that counts, on a terminal.
pub(crate) struct Count {
    bar: ProgressBar,
}

impl Count {
    pub(crate) fn new(what: &'static str) -> Self {
        let template =
            "{bar:20} {percent:>3} %  {pos}/{len} {msg}  {elapsed} elapsed, about {eta} left";
        let style = ProgressStyle::with_template(template).expect("a valid template");
        Self { bar: ProgressBar::no_length().with_style(style).with_message(what) }
    }

    pub(crate) fn at(&self, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// An observer that prints a line per epoch and, on a terminal, a progress bar.
pub(crate) struct Progress {
    bar: ProgressBar,
    started: bool,
}

impl Progress {
    /// Progress that starts with the first step.
    pub(crate) fn new() -> Self {
        let style = ProgressStyle::with_template(
            "{bar:20} {percent:>3} %  {elapsed} elapsed, about {eta} left  {msg}",
        )
        .expect("a valid template");
        let bar = ProgressBar::no_length().with_style(style);
        Self { bar, started: false }
    }

    /// Moves the bar to step `made` of `steps` in `epoch` of `epochs`.
    fn bar(&mut self, [epoch, epochs, made, steps]: [usize; 4], message: String) {
        let position = (epoch * steps + made) as u64;
        // A training that keeps to its time changes its number of epochs.
        self.bar.set_length((epochs * steps) as u64);
        if !self.started {
            self.started = true;
            self.bar.set_position(position - 1);
            self.bar.reset_elapsed();
            self.bar.reset_eta();
            self.bar.enable_steady_tick(Duration::from_millis(500));
        }
        self.bar.set_position(position);
        self.bar.set_message(format!("epoch {}/{epochs}  {message}", epoch + 1));
    }

    fn step(&mut self, report: &StepReport<'_>) {
        let message = format!(
            "{}{} operations  accuracy {:.1} %",
            temperature(report.temperature),
            report.alive_ops,
            100.0 * report.train_accuracy,
        );
        self.bar([report.epoch, report.epochs, report.step, report.steps], message);
    }

    fn train_step(&mut self, step: &TrainStep) {
        let message = format!(
            "lr {:.4}  loss {:.3}  accuracy {:.1} %",
            step.lr,
            step.train_loss,
            100.0 * step.train_accuracy,
        );
        self.bar([step.epoch, step.epochs, step.step, step.steps], message);
    }

    fn epoch(&self, record: &EpochRecord) {
        self.line(&format!(
            "epoch {:>3}  {}operations {:>3}  train {:>5.1} %  valid {:>5.1} %  \
             entropy {:.2}{}  {}",
            record.epoch + 1,
            temperature(record.temperature),
            record.alive_ops,
            100.0 * record.train_accuracy,
            100.0 * record.valid_accuracy,
            record.entropy_normal,
            record.entropy_reduce.map_or(String::new(), |entropy| format!(" {entropy:.2}")),
            duration(record.epoch_seconds),
        ));
    }

    fn train_epoch(&self, record: &TrainRecord) {
        let valid = record
            .valid_accuracy
            .map(|accuracy| format!("  valid {:>5.2} %", 100.0 * accuracy))
            .unwrap_or_default();
        self.line(&format!(
            "epoch {:>3}  lr {:.4}  loss {:.4}  train {:>5.2} %{valid}  {}",
            record.epoch + 1,
            record.lr,
            record.train_loss,
            100.0 * record.train_accuracy,
            duration(record.epoch_seconds),
        ));
    }

    /// Prints a line above the bar.
    pub(crate) fn line(&self, text: &str) {
        self.bar.suspend(|| eprintln!("{text}"));
    }

    /// Removes the bar.
    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// The temperature, if there is one: 1 is that of methods without.
fn temperature(temperature: f64) -> String {
    if temperature == 1.0 { String::new() } else { format!("T {temperature:.3}  ") }
}

impl Observer for Progress {
    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Step(report) => self.step(&report),
            Event::Epoch(record) => self.epoch(record),
            Event::TrainStep(step) => self.train_step(&step),
            Event::TrainEpoch(record) => self.train_epoch(record),
            Event::Begin(what) => {
                self.started = false;
                self.line(what);
            }
            Event::Note(note) => self.line(&format!("note: {note}")),
            _ => {}
        }
    }
}
