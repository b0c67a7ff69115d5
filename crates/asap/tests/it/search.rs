//! Whole searches on small data: to the end, broken off, repeated.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use asap::Precision;
use asap::run::folder::{CHECKPOINT, CONFIG, EVENTS, GENOTYPE_JSON, GENOTYPE_TEXT, REPORT, RESULT};
use asap::run::record::{EpochRecord, Event, Observer};
use asap::settings::Auto;
use asap::settings::config::Config;
use asap::{Error, Outcome, RunFolder, Search, SearchResult};
use asap_core::{EdgePolicy, Genotype};

use crate::small::{StopAfter, stripes, tiny};

static NEVER: AtomicBool = AtomicBool::new(false);

fn search(config: &Config, path: &Path) -> (SearchResult, Vec<EpochRecord>) {
    let mut folder = RunFolder::create(path, config).unwrap();
    let mut search = Search::new(config.clone(), stripes(192)).unwrap();
    let outcome = search.run(&mut folder, &mut (), &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(result) = outcome else { panic!("not asked to stop") };
    (*result, folder.events().unwrap())
}

/// What must not depend on how a search went: everything but times and memory.
fn trace(result: &SearchResult, records: &[EpochRecord]) -> String {
    let mut result = result.clone();
    (result.seconds, result.peak_rss_mb) = (0.0, None);
    let mut records = records.to_vec();
    for record in &mut records {
        (record.epoch_seconds, record.peak_rss_mb, record.rss_mb) = (0.0, None, None);
    }
    serde_json::to_string(&(result, records)).unwrap()
}

#[test]
fn a_search_ends_by_annealing_and_leaves_a_whole_run_folder() {
    for policy in [EdgePolicy::Strength, EdgePolicy::Anneal] {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("run");
        let mut config = tiny();
        config.search.edge_policy = policy;
        let (result, records) = search(&config, &path);

        assert!(result.decided_by_annealing, "{:?}", result.fallback);
        assert!(result.valid_accuracy > Some(0.6), "chance is 0.33: {:?}", result.valid_accuracy);
        let last = records.last().unwrap();
        // Five edges a cell: all of them under `strength`, two inputs a node under `anneal`.
        let left = if policy == EdgePolicy::Anneal { 2 * 4 } else { 2 * 5 };
        assert_eq!(last.alive_ops, left);
        assert_eq!((last.entropy_normal, last.entropy_reduce), (0.0, Some(0.0)));
        assert_eq!(records[0].alive_ops, 2 * 5 * 3, "nothing is pruned in a grace epoch");
        assert_eq!(records[0].alpha_spread, 0.0, "alpha does not move in a grace epoch");
        if policy == EdgePolicy::Anneal {
            let (search, derived) = (result.valid_accuracy, result.derived_valid_accuracy);
            assert_eq!(search, derived, "the search network is the final network");
        }

        let file = |name: &str| std::fs::read_to_string(path.join(name)).unwrap();
        let genotype: Genotype = file(GENOTYPE_TEXT).parse().unwrap();
        assert_eq!(genotype, result.genotype);
        assert_eq!(file(GENOTYPE_JSON).parse::<Genotype>().unwrap(), genotype);
        assert_eq!(file(EVENTS).lines().count(), records.len());
        assert!(file(CONFIG).contains("edge_policy"));
        assert!(file(RESULT).contains("\"valid_accuracy\""));
        assert!(file("normal.svg").contains("</svg>") && file("reduction.svg").contains("</svg>"));
        assert!(file(REPORT).contains("</html>"));
        assert!(path.join(CHECKPOINT).exists());
    }
}

#[test]
fn a_seed_decides_everything() {
    let scratch = tempfile::tempdir().unwrap();
    let run = |name: &str, seed| {
        let config = Config { seed, ..tiny() };
        let (result, records) = search(&config, &scratch.path().join(name));
        trace(&result, &records)
    };
    let first = run("first", 1);
    assert_eq!(first, run("again", 1));
    assert_ne!(first, run("other", 2));
}

#[test]
fn threads_do_not_change_the_result() {
    let scratch = tempfile::tempdir().unwrap();
    let run = |threads: usize, precision| {
        let path = scratch.path().join(format!("{threads}-{precision}"));
        let precision = Auto::Value(precision);
        let config = Config { precision, threads, ..tiny() };
        let (result, records) = search(&config, &path);
        trace(&result, &records)
    };
    let one = Precision::ALL.map(|precision| {
        let one = run(1, precision);
        assert_eq!(one, run(2, precision));
        assert_eq!(one, run(5, precision));
        one
    });
    assert_ne!(one[0], one[1], "the steps take the precision of the configuration");
}

#[test]
fn workers_decide_a_search_and_threads_do_not() {
    let scratch = tempfile::tempdir().unwrap();
    let run = |workers: usize, threads: usize| {
        let path = scratch.path().join(format!("{workers}-{threads}"));
        let (result, records) = search(&Config { workers, threads, ..tiny() }, &path);
        trace(&result, &records)
    };
    let two = run(2, 1);
    assert_eq!(two, run(2, 2));
    assert_ne!(two, run(1, 2));
}

#[test]
fn a_search_that_is_broken_off_goes_on_to_the_same_end() {
    let scratch = tempfile::tempdir().unwrap();
    let (result, records) = search(&tiny(), &scratch.path().join("whole"));
    let whole = trace(&result, &records);
    // In grace, at an epoch's end, and in the middle of pruning.
    for steps in [5, 12, 20, 30] {
        let path = scratch.path().join(steps.to_string());
        let mut folder = RunFolder::create(&path, &tiny()).unwrap();
        let stop = AtomicBool::new(false);
        let outcome = Search::new(tiny(), stripes(192))
            .unwrap()
            .run(&mut folder, &mut StopAfter(steps, &stop), &stop)
            .unwrap();
        assert_eq!(outcome, Outcome::Stopped, "after {steps} steps");
        // A line that was written after the checkpoint must not stay.
        let mut late = records[0].clone();
        late.epoch = 99;
        folder.append_event(&late).unwrap();

        let (mut folder, config) = RunFolder::open(&path).unwrap();
        assert_eq!(config, tiny());
        let mut resumed = Search::new(config, stripes(192)).unwrap();
        let outcome = resumed.resume(&mut folder, &mut (), &AtomicBool::new(false)).unwrap();
        let Outcome::Finished(result) = outcome else { panic!("not asked to stop") };
        assert_eq!(trace(&result, &folder.events().unwrap()), whole, "after {steps} steps");
    }
}

/// Notes that an observer was given.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn on_event(&mut self, event: Event<'_>) {
        if let Event::Note(text) = event {
            self.0.push(text.to_owned());
        }
    }
}

#[test]
fn a_damaged_checkpoint_is_told_and_the_one_before_leads_to_the_same_end() {
    let scratch = tempfile::tempdir().unwrap();
    let (result, records) = search(&tiny(), &scratch.path().join("whole"));
    let whole = trace(&result, &records);
    let path = scratch.path().join("damaged");
    let mut folder = RunFolder::create(&path, &tiny()).unwrap();
    let stop = AtomicBool::new(false);
    let mut first = Search::new(tiny(), stripes(192)).unwrap();
    first.run(&mut folder, &mut StopAfter(20, &stop), &stop).unwrap();
    let mut bytes = std::fs::read(path.join(CHECKPOINT)).unwrap();
    let last = bytes.len() - 10;
    bytes[last] ^= 4;
    std::fs::write(path.join(CHECKPOINT), bytes).unwrap();
    std::fs::remove_file(path.join(EVENTS)).unwrap();
    let mut again = Search::new(tiny(), stripes(192)).unwrap();
    let mut notes = Notes::default();
    let outcome = again.resume(&mut folder, &mut notes, &NEVER).unwrap();
    let Outcome::Finished(found) = outcome else { panic!("not asked to stop") };
    assert_eq!(trace(&found, &records), whole);
    let [damaged, events] = &notes.0[..] else { panic!("{:?}", notes.0) };
    assert!(damaged.contains("checksum") && damaged.contains("checkpoint before it"), "{damaged}");
    assert!(events.contains("events of 1 epochs") || events.contains("events of 2"), "{events}");
}

#[test]
fn a_configuration_with_a_missing_key_or_of_a_later_version_is_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run");
    drop(RunFolder::create(&path, &tiny()).unwrap());
    let file = path.join("config.toml");
    let whole = std::fs::read_to_string(&file).unwrap();
    let refused = |text: &str| {
        std::fs::write(&file, text).unwrap();
        RunFolder::open(&path).unwrap_err().to_string()
    };
    let without = |key: &str| {
        whole.lines().filter(|line| !line.starts_with(key)).collect::<Vec<_>>().join("\n")
    };
    assert!(refused(&without("epochs =")).contains("missing field `epochs`"));
    assert!(refused(&without("weight_decay =")).contains("missing field `weight_decay`"));
    let later = whole.replacen(env!("CARGO_PKG_VERSION"), "77.0.1", 1);
    assert!(refused(&later).contains("found that of asap 77.0.1"));
    // Keys that the first version did not know may be missing: the setting then is what that version did.
    let later = [
        "every",
        "optimizer",
        "evidence",
        "memory",
        "order",
        "veto",
        "cost",
        "relaxation",
        "schedule",
        "seconds",
        "size",
        "statistics",
        "warmup",
        "space",
        "multiply_adds",
        "trained",
    ];
    let of_first = |line: &&str| {
        let key = line.split(" =").next().unwrap_or_default();
        !later.contains(&key)
    };
    let limits = whole.find("[limits]").unwrap();
    let first: Vec<&str> = whole[..limits].lines().filter(of_first).collect();
    std::fs::write(
        &file,
        first
            .join("\n")
            .replace("[data]", "[data]\nsize = 0")
            .replace("[pc_darts]", "[pc_darts]\nwarmup = 0.3"),
    )
    .unwrap();
    let mut expected = tiny();
    (expected.search.cost, expected.search.warmup, expected.search.statistics) = (0.0, 0.0, 0);
    assert_eq!(RunFolder::open(&path).unwrap().1, expected);
}

#[test]
fn a_number_that_is_not_finite_is_named_at_its_step_and_the_checkpoint_stays() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = tiny();
    config.weights.lr = 100.0;
    config.weights.gradient_clip = 1e9;
    config.weights.weight_decay = 1.0;
    config.search.epochs = 60;
    config.annealing.decay = Auto::Value(1.0);
    let mut folder = RunFolder::create(&scratch.path().join("run"), &config).unwrap();
    let mut search = Search::new(config, stripes(192)).unwrap();
    let error = search.run(&mut folder, &mut (), &AtomicBool::new(false)).unwrap_err();
    let Error::NonFinite { what, value, .. } = &error else { panic!("{error}") };
    assert!(!value.is_finite() && !what.is_empty(), "{error}");
    let (state, tensors) = asap::run::checkpoint::load(&folder).unwrap();
    assert!(state.architecture.first_non_finite().is_none());
    assert!(tensors.values().all(|(_, values)| values.iter().all(|v| v.is_finite())));
}

#[test]
fn without_a_number_of_epochs_there_are_as_many_as_make_enough_steps() {
    let mut config = tiny();
    config.search.epochs = 0;
    config.search.batch = 2;
    let of = |config: &Config, images| {
        let search = Search::new(config.clone(), stripes(images)).unwrap();
        (search.epochs(), search.epochs() * search.steps_per_epoch())
    };
    let (epochs, steps) = of(&config, 1200);
    assert!((12_500..13_000).contains(&steps) && epochs == 42, "{epochs} {steps}");
    assert_eq!(of(&config, 12).0, 500);
    config.search.epochs = 3;
    assert_eq!(of(&config, 12).0, 3);
}

#[test]
fn images_of_a_search_can_be_smaller_than_those_of_the_training() {
    let mut config = tiny();
    config.search.size = 6;
    let scratch = tempfile::tempdir().unwrap();
    let (result, _) = search(&config, &scratch.path().join("run"));
    assert_eq!(result.data.image, [6, 6, 1]);
    config.search.size = 9;
    assert_eq!(Search::new(config.clone(), stripes(192)).unwrap().data().image, [8, 8, 1]);
    config.search.size = 20;
    assert_eq!(config.search.image([40, 60, 3]), [20, 30, 3]);
}

#[test]
fn a_run_in_which_alpha_hardly_moves_says_so() {
    let scratch = tempfile::tempdir().unwrap();
    let mut config = tiny();
    config.alpha.lr = Auto::Value(1e-9);
    config.search.epochs = 2;
    let (result, _) = search(&config, &scratch.path().join("run"));
    assert!(!result.decided_by_annealing);
    assert!(result.warnings.iter().any(|w| w.contains("alpha has hardly moved")));
    assert!(result.warnings.iter().any(|w| w.contains("choices are not sure")));
}

#[test]
fn folders_in_use_and_damaged_checkpoints_are_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run");
    let folder = RunFolder::create(&path, &tiny()).unwrap();
    let message = RunFolder::create(&path, &tiny()).unwrap_err().to_string();
    assert!(message.contains("--resume") && message.contains("run"), "{message}");

    let refused = |expected: &str| {
        let mut search = Search::new(tiny(), stripes(192)).unwrap();
        let error = search.resume(&mut folder.clone(), &mut (), &NEVER).unwrap_err();
        assert!(error.is_usage() && error.to_string().contains(expected), "{error}");
    };
    refused("expected the tensors of a search");
    std::fs::write(path.join(CHECKPOINT), b"not a checkpoint").unwrap();
    refused("expected the complete tensors of a search");
    let path = scratch.path().join("others");
    let mut folder = RunFolder::create(&path, &tiny()).unwrap();
    let stop = AtomicBool::new(false);
    let mut first = Search::new(tiny(), stripes(192)).unwrap();
    first.run(&mut folder, &mut StopAfter(2, &stop), &stop).unwrap();
    let mut other = Search::new(tiny(), stripes(198)).unwrap();
    let message = other.resume(&mut folder, &mut (), &NEVER).unwrap_err().to_string();
    assert!(message.contains("expected the images that the search began with"), "{message}");

    let message = RunFolder::open(scratch.path()).unwrap_err().to_string();
    assert!(message.contains("expected the folder of a run"), "{message}");
}
