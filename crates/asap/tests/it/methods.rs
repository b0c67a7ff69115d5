//! Every method through the one loop: to the end, broken off, and what the paper says of them.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use asap::run::record::EpochRecord;
use asap::settings::config::{Auto, Config};
use asap::{MethodName, Outcome, RunFolder, Search, SearchResult};
use asap_core::EdgePolicy;

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

fn settings(method: MethodName) -> Config {
    let mut config = tiny();
    config.search.method = method;
    config.search.epochs = 4;
    config.pc_darts.parts = 2;
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
        assert!(!records.is_empty() && result.valid_accuracy > 0.3, "{method}");
        let whole = trace(result, records);

        let path = scratch.path().join(format!("{method}-broken"));
        let mut folder = RunFolder::create(&path, &config).unwrap();
        let stop = AtomicBool::new(false);
        let mut first = Search::new(config.clone(), stripes(192)).unwrap();
        // In the second epoch, except of the one that ends with the first.
        let steps = if method == MethodName::DartsPlus { 7 } else { 17 };
        let outcome = first.run(&mut folder, &mut StopAfter(steps, &stop), &stop).unwrap();
        assert_eq!(outcome, Outcome::Stopped, "{method}");
        let mut second = Search::new(config, stripes(192)).unwrap();
        let outcome = second.resume(&mut folder, &mut (), &AtomicBool::new(false)).unwrap();
        let Outcome::Finished(result) = outcome else { panic!("not asked to stop") };
        assert_eq!(trace(*result, folder.events().unwrap()), whole, "{method}");
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
    // The one thing that differs: ASAP says that its choices were meant to be made before the end.
    assert!(result.warnings.iter().any(|warning| warning.contains("still open")));
    result.warnings.clone_from(&darts.0.warnings);
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
