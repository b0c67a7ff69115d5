//! `asap pac`: Theorem 2 by simulation.

use asap_core::anneal::pac::{PacRates, PacTrial, rates, simulate, simulate_evidence};
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
    theorem: PacRates,
    evidence: PacRates,
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
    let theorem = rates(&trial, args.runs, simulate)?;
    let evidence = rates(&trial, args.runs, simulate_evidence)?;
    let lost_best = theorem.lost_best;
    let holds = lost_best <= args.delta;
    let text = format!(
        "{} runs of Algorithm 1 with the schedule of Theorem 2 and {} operations:\n\
         the best operation was pruned in {:.2} % of them; the theorem allows {:.2} %{}\n\
         {}\n\
         Pruned by evidence, with the variance measured in place of the bound, it was lost in {:.2} %.\n\
         {}",
        args.runs,
        args.arms,
        100.0 * lost_best,
        100.0 * args.delta,
        if holds { "" } else { ", so it does not hold here" },
        decisions(&theorem),
        100.0 * evidence.lost_best,
        decisions(&evidence),
    );
    let bound = args.delta;
    let runs = args.runs;
    let report = Report { trial, runs, lost_best, bound, holds, theorem, evidence };
    output::print(common.json, &report, &text)
}

fn decisions(rates: &PacRates) -> String {
    match rates.steps {
        Some(steps) => {
            format!(
                "{:.0} % came to a decision, after {steps:.0} steps on average.",
                100.0 * rates.decided
            )
        }
        None => "No run decided within these steps.".to_owned(),
    }
}
