//! Every method through the one loop: to the end, broken off, and what the paper says of them.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use asap::run::folder::EVALUATED;
use asap::run::record::EpochRecord;
use asap::settings::Auto;
use asap::settings::config::{AlphaOptimizer, Config, Interval, Order, Relaxation, Trained};
use asap::{MethodName, Outcome, RunFolder, Search, SearchResult};
use asap_core::{CellGenotype, EdgePolicy, Family, Operation};

use crate::small::{StopAfter, stripes, tiny};

fn search(config: &Config, path: &Path) -> (SearchResult, Vec<EpochRecord>) {
    let mut folder = RunFolder::create(path, config).unwrap();
    let mut search = Search::new(config.clone(), stripes(192)).unwrap();
    let outcome = search.run(&mut folder, &mut (), &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(result) = outcome else { panic!("not asked to stop") };
    (*result, folder.events().unwrap())
}

fn trace(mut result: SearchResult, mut records: Vec<EpochRecord>) -> String {
    (result.seconds, result.peak_rss_mb) = (0.0, None);
    for record in &mut records {
        (record.epoch_seconds, record.peak_rss_mb, record.rss_mb) = (0.0, None, None);
    }
    serde_json::to_string(&(result, records)).unwrap()
}

/// The trace of a search in a new folder that is broken off after `steps` steps and resumed.
fn resumed(config: &Config, path: &Path, steps: usize) -> String {
    let mut folder = RunFolder::create(path, config).unwrap();
    let stop = AtomicBool::new(false);
    let mut first = Search::new(config.clone(), stripes(192)).unwrap();
    let outcome = first.run(&mut folder, &mut StopAfter(steps, &stop), &stop).unwrap();
    assert_eq!(outcome, Outcome::Stopped, "{}", path.display());
    let mut second = Search::new(config.clone(), stripes(192)).unwrap();
    let outcome = second.resume(&mut folder, &mut (), &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(result) = outcome else { panic!("not asked to stop") };
    trace(*result, folder.events().unwrap())
}

/// A search by evidence, in either space.
fn by_evidence(family: Family, relaxation: Relaxation) -> Config {
    let mut config = settings(MethodName::Asap);
    config.space = family;
    config.network.nodes = 3;
    config.network.candidates = family.candidates()[..3].to_vec();
    config.search.relaxation = relaxation;
    config.search.schedule = Interval::Step;
    config.search.warmup = 0.3;
    config.search.statistics = 3;
    config.weights.lr = 0.1;
    config
}

#[test]
fn a_search_by_evidence_says_how_sure_it_is_and_goes_on_where_it_was_broken_off() {
    let scratch = tempfile::tempdir().unwrap();
    let both = [Relaxation::Paths, Relaxation::Even];
    for (family, relaxation) in Family::ALL.into_iter().flat_map(|f| both.map(|r| (f, r))) {
        let config = by_evidence(family, relaxation);
        let name = format!("{family}-{relaxation:?}");
        let (result, records) = search(&config, &scratch.path().join(format!("{name}-whole")));
        assert!(result.choices.len() >= 6, "{:?}", result.choices);
        assert!(result.choices.iter().all(|choice| (0.0..=1.0).contains(&choice.sure)));
        let gap = result.relaxation_gap.unwrap();
        if relaxation == Relaxation::Paths {
            assert_eq!(gap.search, gap.derived, "a path is a cell: nothing is lost by the cut");
        }
        let rates: Vec<f64> = records.iter().map(|record| record.lr).collect();
        assert!(rates.is_sorted_by(|a, b| a > b), "{rates:?}");
        let phi = |epoch: usize| records[epoch].probabilities[0][0][0];
        assert!((phi(0) - 1.0 / 3.0).abs() < 1e-12, "alpha rests in the warm-up");
        assert!((phi(3) - 1.0 / 3.0).abs() > 1e-3);
        let whole = trace(result, records);

        let path = scratch.path().join(format!("{name}-broken"));
        assert_eq!(resumed(&config, &path, 31), whole, "{name}");
    }
}

#[test]
fn the_cheapest_cell_is_found_if_only_cost_counts() {
    let scratch = tempfile::tempdir().unwrap();
    let relaxations = [Relaxation::Paths, Relaxation::Even, Relaxation::Mixture];
    for (relaxation, latency_ms) in relaxations.into_iter().flat_map(|r| [(r, 0.0), (r, 1e6)]) {
        let mut config = by_evidence(Family::Darts, relaxation);
        config.limits.latency_ms = latency_ms;
        config.network.candidates =
            vec![Operation::SepConv3x3, Operation::SkipConnect, Operation::DilConv3x3];
        config.network.nodes = 1;
        config.search.cost = 100.0;
        let name = format!("{relaxation:?}-{latency_ms}");
        let found = search(&config, &scratch.path().join(name)).0.genotype;
        // In a reduction cell a skip connection has weights, and is not always the fastest.
        let kinds = if latency_ms == 0.0 { 2 } else { 1 };
        let skips = found.cells().iter().take(kinds).map(CellGenotype::skip_count).sum::<usize>();
        assert_eq!(skips, 2 * kinds, "{relaxation:?} {latency_ms} {found}");
    }
}

/// Each setting alone changes the search, and a threshold that evidence must confirm prunes no more than the threshold.
#[test]
fn every_cure_is_a_setting_that_changes_the_search() {
    type Change = fn(&mut Config);
    let scratch = tempfile::tempdir().unwrap();
    let run = |name: &str, change: Change| {
        let mut config = settings(MethodName::Asap);
        change(&mut config);
        search(&config, &scratch.path().join(name))
    };
    let (plain, records) = run("plain", |_| ());
    let alive = |records: &[EpochRecord]| records.last().unwrap().alive_ops;
    let changes: [(&str, Change); 11] = [
        ("warmup", |c| c.search.warmup = 0.7),
        ("step", |c| c.search.schedule = Interval::Step),
        ("statistics", |c| c.search.statistics = 3),
        ("even", |c| c.weights.trained = Trained::Even),
        ("path", |c| c.weights.trained = Trained::Path),
        ("descent", |c| c.alpha.optimizer = AlphaOptimizer::Descent),
        ("every", |c| c.alpha.every = 3),
        ("veto", |c| c.annealing.veto = true),
        ("cost", |c| c.search.cost = 1.0),
        ("operations first", |c| c.annealing.order = Order::OperationsFirst),
        ("edges first", |c| c.annealing.order = Order::EdgesFirst),
    ];
    let before = trace(plain.clone(), records.clone());
    for (name, change) in changes {
        let (result, records) = run(name, change);
        assert_ne!(trace(result, records), before, "{name}");
    }
    let (_, proven) = run("evidence", |c| {
        c.annealing.evidence = true;
        c.annealing.delta = 1e-6;
    });
    assert!(alive(&records) < alive(&proven), "pruned without evidence: {records:?}");
}

#[test]
fn what_comes_second_rests_for_half_of_the_time() {
    let scratch = tempfile::tempdir().unwrap();
    for (order, operations) in [(Order::OperationsFirst, true), (Order::EdgesFirst, false)] {
        let mut config = settings(MethodName::Asap);
        config.annealing.order = order;
        config.annealing.threshold = 0.9;
        let (_, records) = search(&config, &scratch.path().join(format!("{order:?}")));
        let pruned: Vec<_> = records.iter().map(|record| record.pruned.clone()).collect();
        let is_operation = |name: &str| !name.ends_with("(the whole edge)");
        let (first, second) = pruned.split_at(2);
        let (mut first, mut second) = (first.concat(), second.concat());
        first.retain(|name| is_operation(name) == operations);
        assert!(!first.is_empty() && first == pruned[..2].concat(), "{order:?}: {pruned:?}");
        second.retain(|name| is_operation(name) != operations);
        assert!(!second.is_empty(), "{order:?}: {pruned:?}");
    }
}

fn settings(method: MethodName) -> Config {
    let mut config = tiny();
    config.search.method = method;
    config.search.epochs = 4;
    config.pc_darts.parts = 2;
    if method == MethodName::PrDarts {
        // It replaces convolutions by others.
        config.network.candidates = Family::Darts.candidates().to_vec();
    }
    if method == MethodName::PDarts {
        // Its stages have 3, 4 and 6.
        config.network.cells = 6;
    }
    config
}

#[test]
fn every_method_finds_a_cell_and_goes_on_where_it_was_broken_off() {
    let scratch = tempfile::tempdir().unwrap();
    for method in MethodName::ALL {
        let config = settings(method);
        let path = scratch.path().join(format!("{method}-whole"));
        let (result, records) = search(&config, &path);
        assert_eq!(result.method, method);
        if method == MethodName::Random {
            assert!(records.is_empty(), "it searches nothing");
            continue;
        }
        // Of its best epoch: PR-DARTS has cut operations and begun anew in each of these four.
        let best = records.iter().map(|record| record.valid_accuracy).fold(0.0, f64::max);
        assert!(best > 0.3, "{method}: {best}");
        if method.queries() {
            // What is told of the cell that was found is its own accuracy, and not that of the last one.
            let file = std::fs::read(path.join(EVALUATED)).unwrap();
            let cells: serde_json::Value = serde_json::from_slice(&file).unwrap();
            let cells = cells.as_array().unwrap().iter();
            let best = cells.map(|cell| cell["accuracy"].as_f64().unwrap()).fold(0.0, f64::max);
            assert_eq!((result.valid_accuracy, result.derived_valid_accuracy), (None, Some(best)));
        }
        let whole = trace(result, records);

        let path = scratch.path().join(format!("{method}-broken"));
        // In the second epoch, but in the third, of a deeper network, and in the first of a search that ends with it.
        let steps = match method {
            MethodName::DartsPlus => 7,
            MethodName::PDarts => 25,
            _ => 17,
        };
        assert_eq!(resumed(&config, &path, steps), whole, "{method}");
    }
}

#[test]
fn darts_is_asap_at_temperature_one_without_pruning() {
    let scratch = tempfile::tempdir().unwrap();
    let darts = search(&settings(MethodName::Darts), &scratch.path().join("darts"));
    let mut asap = settings(MethodName::Asap);
    asap.search.edge_policy = EdgePolicy::Strength;
    asap.annealing.initial_temperature = 1.0;
    asap.annealing.decay = Auto::Value(1.0);
    asap.annealing.threshold = 0.0;
    let (mut result, records) = search(&asap, &scratch.path().join("asap"));
    // The one thing that differs: ASAP says how sure it is of its choices.
    assert!(result.warnings.iter().any(|warning| warning.contains("choices are not sure")));
    assert!(!result.choices.is_empty());
    result.warnings.clone_from(&darts.0.warnings);
    result.choices.clear();
    result.method = MethodName::Darts;
    assert_eq!(trace(result, records), trace(darts.0, darts.1));
}

#[test]
fn the_second_order_goes_another_way_than_the_first() {
    let scratch = tempfile::tempdir().unwrap();
    let (_, first) = search(&settings(MethodName::Darts), &scratch.path().join("first"));
    let (_, second) = search(&settings(MethodName::Darts2nd), &scratch.path().join("second"));
    assert_ne!(first[1].probabilities, second[1].probabilities);
}
