//! Latencies of random cells and plain networks: the sum from a table of pieces beside the measurement of the whole.
//!
//!     cargo run --release -p asap-nas --example latencies -- 30

use asap::latency::{Latencies, measure};
use asap_core::plan::Plan;
use asap_core::{Design, Family, Genotype, NetworkShape, SearchSpace, Stem};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: u64 = std::env::args().nth(1).map_or(Ok(30), |text| text.parse())?;
    let mut table = Latencies::new(1);
    let space = SearchSpace::of(Family::Darts);
    for seed in 0..count {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let design = Design::from(Genotype::random(&space, &mut random));
        let shape = NetworkShape {
            channels: [8, 16, 24][random.random_range(0..3)],
            cells: [5, 8][random.random_range(0..2)],
            height: 32,
            width: 32,
            in_channels: 3,
            classes: 10,
            stem: Stem::Small,
        };
        let plan = Plan::of(&design, &shape, false)?;
        let predicted = table.of_plan(&plan)?;
        let measured = measure(&design, shape, 1)?;
        println!(
            "{seed} {} {} {predicted:.3} {measured:.3} {:+.1} %",
            shape.channels,
            shape.cells,
            100.0 * (predicted / measured - 1.0)
        );
    }
    Ok(())
}
