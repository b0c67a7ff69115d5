//! `asap pac`: Theorem 2 by simulation.

use asap_core::anneal::pac::{PacTrial, failure_rate};
use serde::Serialize;

use crate::args::{Common, PacArgs};
use crate::output;

#[derive(Serialize)]
struct Report {
    trial: PacTrial,
    runs: u32,
    lost_best: f64,
    bound: f64,
    holds: bool,
}

pub(crate) fn run(args: &PacArgs, common: &Common) -> anyhow::Result<()> {
    let trial = PacTrial {
        arms: args.arms,
        gap: args.gap,
        bound: 1.0,
        eta: 1.0,
        delta: args.delta,
        steps: args.steps,
        seed: common.seed.unwrap_or(0),
    };
    let lost_best = failure_rate(&trial, &trial.annealing(), args.runs)?;
    let holds = lost_best <= args.delta;
    let text = format!(
        "{} runs of Algorithm 1 with the schedule of Theorem 2 and {} operations:\n\
         the best operation was pruned in {:.2} % of them; the theorem allows {:.2} %{}",
        args.runs,
        args.arms,
        100.0 * lost_best,
        100.0 * args.delta,
        if holds { "" } else { ", so it does not hold here" },
    );
    let bound = args.delta;
    output::print(common.json, &Report { trial, runs: args.runs, lost_best, bound, holds }, &text)
}
