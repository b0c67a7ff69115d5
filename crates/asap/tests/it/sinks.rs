//! Runs in folders and in memory: the same results, locks, and numbers of new folders.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use asap::jobs::{Job, Resumed};
use asap::run::folder::{CHECKPOINT, EVENTS, Place, WEIGHTS};
use asap::run::record::{EpochRecord, TrainRecord};
use asap::run::sink::{Memory, Sink};
use asap::{
    Config, DeviceName, Event, Layers, Observer, Outcome, Preset, RunFolder, Search, SearchResult,
    TrainResult, Training, jobs,
};
use asap_core::PublishedCell;
use asap_data::Splits;

use crate::small::{StopAfter, stripes, tiny};

static NEVER: AtomicBool = AtomicBool::new(false);

fn search() -> Search {
    Search::new(tiny(), stripes(192)).unwrap()
}

fn training() -> Training {
    let mut config = tiny();
    config.train.validation = 0.1;
    let splits = Splits { test: Some(stripes(60).train), ..stripes(192) };
    Training::new(config, PublishedCell::find("ASAP").unwrap().genotype(), splits).unwrap()
}

fn finished<T>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Finished(result) => *result,
        Outcome::Stopped => panic!("not asked to stop"),
    }
}

/// The result and the epochs of a search without times and memory.
fn trace(mut result: SearchResult, mut records: Vec<EpochRecord>) -> String {
    (result.seconds, result.peak_rss_mb) = (0.0, None);
    for record in &mut records {
        (record.epoch_seconds, record.peak_rss_mb, record.rss_mb) = (0.0, None, None);
    }
    serde_json::to_string(&(result, records)).unwrap()
}

#[test]
fn a_search_in_memory_finds_what_one_in_a_folder_finds() {
    let scratch = tempfile::tempdir().unwrap();
    let mut folder = RunFolder::create(&scratch.path().join("run"), &tiny()).unwrap();
    let found = finished(search().run(&mut folder, &mut (), &NEVER).unwrap());
    let expected = trace(found, folder.events().unwrap());

    let mut memory = Memory::new();
    let found = finished(search().run(&mut memory, &mut (), &NEVER).unwrap());
    assert_eq!(memory.genotype(), Some(found.genotype.clone()));
    assert_eq!(memory.result::<SearchResult>(), Some(found.clone()));
    assert_eq!(trace(found, memory.events()), expected);

    // In grace, and in the middle of pruning.
    for steps in [5, 20] {
        let (mut memory, stop) = (Memory::new(), AtomicBool::new(false));
        let outcome = search().run(&mut memory, &mut StopAfter(steps, &stop), &stop).unwrap();
        assert_eq!(outcome, Outcome::Stopped);
        // The copy of a moment is resumed as well, whatever became of the other.
        let mut copy = memory.clone();
        finished(search().resume(&mut memory, &mut (), &NEVER).unwrap());
        let found = finished(search().resume(&mut copy, &mut (), &NEVER).unwrap());
        assert_eq!(trace(found, copy.events()), expected, "after {steps} steps");
    }
}

#[test]
fn a_training_in_memory_is_that_in_a_folder_and_its_network_can_be_used() {
    let scratch = tempfile::tempdir().unwrap();
    let mut folder = RunFolder::create(&scratch.path().join("run"), &tiny()).unwrap();
    let in_folder: TrainResult = finished(training().run(&mut folder, &mut (), &NEVER).unwrap());

    let (mut memory, stop) = (Memory::new(), AtomicBool::new(false));
    let outcome = training().run(&mut memory, &mut StopAfter(13, &stop), &stop).unwrap();
    assert_eq!(outcome, Outcome::Stopped);
    let error = memory.trained(DeviceName::Cpu).err().unwrap().to_string();
    assert!(error.contains("expected the tensors of a trained network, found none"), "{error}");
    let error = search().resume(&mut memory, &mut (), &NEVER).unwrap_err().to_string();
    assert!(error.contains("expected the tensors of a search, found others"), "{error}");

    let in_memory = finished(training().resume(&mut memory, &mut (), &NEVER).unwrap());
    assert_eq!((&in_memory.test, in_memory.best), (&in_folder.test, in_folder.best));
    assert_eq!(memory.events::<TrainRecord>().len(), in_memory.epochs);
    let network = memory.trained(DeviceName::Cpu).unwrap();
    let on_disk = asap::run::folder::open_trained(&folder.file(WEIGHTS), DeviceName::Cpu).unwrap();
    assert_eq!(network.values(), on_disk.values());
}

#[test]
fn a_search_and_its_observer_can_go_to_another_thread() {
    fn sends<T: Send + ?Sized>() {}
    sends::<Search>();
    sends::<Training>();
    sends::<dyn Observer>();
    sends::<dyn Sink>();
}

/// Settings on images that come with the program.
fn embedded() -> Config {
    let mut layers = Layers::preset(Preset::Quick);
    for setting in [
        "data.limit=80",
        "network.channels=2",
        "network.cells=3",
        "network.nodes=2",
        "search.epochs=2",
        "search.batch=8",
        "train.channels=2",
        "train.cells=3",
        "train.epochs=2",
    ] {
        layers.set(setting).unwrap();
    }
    layers.resolve().unwrap()
}

/// Every file of a run with its bytes.
fn files(path: &Path) -> Vec<Vec<u8>> {
    [CHECKPOINT, EVENTS].map(|name| std::fs::read(path.join(name)).unwrap()).to_vec()
}

#[test]
fn a_folder_holds_the_number_of_epochs_that_was_decided() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run");
    let mut config = embedded();
    config.search.epochs = 0;
    let job = Job::<Search>::start(&Place::Folder(path.clone()), &config, None, &mut ()).unwrap();
    let epochs = job.of().epochs();
    drop(job);
    assert!(epochs > 0);
    assert_eq!(RunFolder::open(&path).unwrap().1.search.epochs, epochs);
}

#[test]
fn nothing_is_read_or_rewritten_while_another_process_works_in_the_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run");
    let mut folder = RunFolder::create(&path, &embedded()).unwrap();
    let stop = AtomicBool::new(false);
    // One step into the second epoch.
    let place = Place::Folder(scratch.path().join("first"));
    let job = Job::<Search>::start(&place, &embedded(), None, &mut ()).unwrap();
    let steps = job.of().steps_per_epoch() + 1;
    drop(job);
    let splits = jobs::load(&embedded(), &mut ()).unwrap();
    let mut first = Search::new(embedded(), splits.clone()).unwrap();
    first.run(&mut folder, &mut StopAfter(steps, &stop), &stop).unwrap();

    // The process at work is an epoch further than its last checkpoint.
    let lock = folder.lock().unwrap();
    let records: Vec<EpochRecord> = folder.events().unwrap();
    assert_eq!(records.len(), 1);
    let mut second = records[0].clone();
    second.epoch = 1;
    folder.append_event(&second).unwrap();
    let before = files(&path);
    let resumed = Job::<Search>::resume(&path, None, &mut ()).err().unwrap();
    let started = jobs::search(&path, &embedded(), None, &mut (), &NEVER).unwrap_err();
    let mut other = Search::new(embedded(), splits).unwrap();
    let by_hand = other.resume(&mut folder, &mut (), &NEVER).unwrap_err();
    for error in [resumed, started, by_hand] {
        assert!(error.to_string().contains("another asap process"), "{error}");
    }
    assert_eq!(files(&path), before, "the epoch of the process at work is still there");

    drop(lock);
    let Ok(Resumed::Job(job)) = Job::<Search>::resume(&path, Some(1), &mut ()) else {
        panic!("the search was not finished")
    };
    assert!(folder.lock().is_err(), "a job keeps others out");
    assert_eq!(job.folder().events::<EpochRecord>().unwrap(), records);
    let found = finished(job.run(&mut (), &NEVER).unwrap());
    let Ok(Resumed::Finished(_, again)) = Job::<Search>::resume(&path, None, &mut ()) else {
        panic!("the search is finished")
    };
    assert_eq!(*again, found);
}

#[test]
fn runs_that_start_together_get_folders_of_their_own() {
    let scratch = tempfile::tempdir().unwrap();
    let place = Place::Next { parent: scratch.path().join("runs"), name: "train".to_owned() };
    let start = || {
        let cell = PublishedCell::find("ASAP").unwrap().genotype().into();
        let job = Job::<Training>::start(&place, &embedded(), &cell, None, &mut ()).unwrap();
        job.folder().path().file_name().unwrap().to_owned()
    };
    let names: BTreeSet<_> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
        started.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let expected = ["train-1", "train-2", "train-3", "train-4"];
    assert!(names.iter().map(|name| name.to_str().unwrap()).eq(expected), "{names:?}");
}

/// The number of threads that a run works with.
struct Threads(usize);

impl Observer for Threads {
    fn on_event(&mut self, _: Event<'_>) {
        self.0 = rayon::current_num_threads();
    }
}

#[test]
fn a_run_works_with_the_threads_of_its_configuration() {
    let mut threads = Threads(0);
    let config = Config { threads: 3, ..tiny() };
    let mut search = Search::new(config, stripes(192)).unwrap();
    search.run(&mut Memory::new(), &mut threads, &NEVER).unwrap();
    assert_eq!(threads.0, 3);
}
