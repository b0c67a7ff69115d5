//! Whole trainings on small data: to the end, broken off, repeated, reloaded.

use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use asap::jobs::fit::{self, Fit, Share, Size};
use asap::jobs::searched_weights;
use asap::run::folder::{BEST, CHECKPOINT, CONFIG, REPORT, RESULT, WEIGHTS};
use asap::run::record::TrainRecord;
use asap::settings::Auto;
use asap::settings::config::{Config, StemFilters};
use asap::{
    DeviceName, Error, Layers, Memory, Outcome, Precision, Preset, RunFolder, Search, TrainResult,
    TrainedNetwork, Training,
};
use asap_core::{Design, Family, Genotype, NetworkShape, PublishedCell, SearchSpace, Stem};
use asap_data::{DataError, Dataset, ImageSource, Normalization, Splits, stratified_halves};
use asap_kernels::Level;
use asap_net::trained::NetworkCard;
use burn::tensor::Device;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::small::{StopAfter, stripes, tiny};

fn cell() -> Genotype {
    PublishedCell::find("ASAP").unwrap().genotype()
}

/// Everything that depends on a seed is on.
fn settings() -> Config {
    let mut config = tiny();
    config.train.auxiliary_weight = 0.4;
    config.train.drop_path = 0.3;
    config.train.average = 0.9;
    config.train.stem_filters = StemFilters::Patches;
    config.train.bias_rate = 8.0;
    config.train.validation = 0.1;
    config
}

fn data() -> Splits {
    Splits { test: Some(stripes(60).train), ..stripes(192) }
}

fn train(config: &Config, path: &Path) -> (TrainResult, Vec<TrainRecord>) {
    let mut folder = RunFolder::create(path, config).unwrap();
    let mut training = Training::new(config.clone(), cell(), data()).unwrap();
    let outcome = training.run(&mut folder, &mut (), &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(result) = outcome else { panic!("not asked to stop") };
    (*result, folder.events().unwrap())
}

/// What must not depend on how a training went: everything but times and memory.
fn trace(result: &TrainResult, records: &[TrainRecord]) -> String {
    let mut result = result.clone();
    (result.seconds, result.peak_rss_mb) = (0.0, None);
    let mut records = records.to_vec();
    for record in &mut records {
        (record.epoch_seconds, record.peak_rss_mb) = (0.0, None);
    }
    serde_json::to_string(&(result, records)).unwrap()
}

#[test]
fn a_training_learns_and_its_network_is_the_same_to_the_digit_when_reloaded() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run");
    let (result, records) = train(&settings(), &path);
    assert_eq!((records.len(), result.epochs), (4, 4));
    assert_eq!((result.data.train_images, result.data.valid_images), (173, 19));
    let test = result.test.unwrap();
    assert!(test.error < 0.3, "chance is 0.67: {}", test.error);
    assert!(test.interval[0] <= test.error && test.error <= test.interval[1]);
    assert_eq!(result.valid_accuracy, records[3].valid_accuracy);
    let best = records.iter().filter_map(|r| r.valid_accuracy).fold(0.0, f64::max);
    assert_eq!(result.best.unwrap().1, best);
    for name in [WEIGHTS, BEST, CHECKPOINT, REPORT, RESULT] {
        assert!(path.join(name).is_file(), "{name}");
    }

    for place in [path.clone(), path.join(WEIGHTS), scratch.path().to_owned()] {
        let network = asap::run::folder::open_trained(&place, DeviceName::Cpu).unwrap();
        assert_eq!(network.evaluate(data().test.unwrap()).unwrap(), test, "{}", place.display());
    }
    let network = asap::run::folder::open_trained(&path.join(BEST), DeviceName::Cpu).unwrap();
    let (_, held_out) = stratified_halves(data().train.labels(), 3, 0.9, settings().seed);
    let held_out = data().train.subset(&held_out).unwrap();
    assert_eq!(1.0 - network.evaluate(held_out).unwrap().error, best);
}

/// Images that are found and cannot be read, such as files that are cut off.
#[derive(Debug)]
struct Broken;

impl ImageSource for Broken {
    fn count(&self) -> usize {
        3
    }

    fn shape(&self) -> [usize; 3] {
        [8, 8, 1]
    }

    fn read(&self, _: usize) -> Result<Cow<'_, [u8]>, DataError> {
        Err(DataError::Io { path: "broken.png".into(), source: std::io::Error::other("cut off") })
    }
}

#[test]
fn test_images_that_cannot_be_read_are_told_before_the_first_step() {
    let train = data().train;
    let broken = Dataset::from_source(Arc::new(Broken), vec![0, 1, 2], train.classes().to_vec());
    let splits = Splits { test: Some(broken.unwrap()), ..data() };
    let mut config = settings();
    config.train.validation = 0.0;
    let mut training = Training::new(config, cell(), splits).unwrap();
    let stop = AtomicBool::new(false);
    let mut steps = StopAfter(1000, &stop);
    let error = training.run(&mut Memory::new(), &mut steps, &stop).unwrap_err().to_string();
    assert!(error.contains("broken.png") && steps.0 == 1000, "{error}");
}

#[test]
fn fewer_images_in_equal_shares() {
    let summary = |images, splits| {
        let mut config = settings();
        config.train.images = images;
        let training = Training::new(config, cell(), splits).unwrap();
        let data = training.data();
        (data.train_images, data.valid_images, data.mean.clone())
    };
    let all = summary(0, data());
    assert_eq!(summary(173, data()), all);
    assert_eq!(summary(1000, data()), all);
    let few = summary(31, data());
    assert_eq!((few.0, few.1), (31, 19));
    assert_ne!(few.2, all.2, "the mean is that of the images that are trained on");
    // Of the images that are used, a third has each label: the mean of images that are the label is 1.
    let train = data().train;
    let images = train.labels().iter().flat_map(|&label| [label as u8; 64]).collect();
    let labels = Splits {
        train: Dataset::new(images, train.labels().to_vec(), [8, 8, 1], train.classes().to_vec())
            .unwrap(),
        ..data()
    };
    let (_, _, mean) = summary(30, labels);
    assert!((mean[0] * 255.0 - 1.0).abs() < 1e-4, "{mean:?}");
}

#[test]
fn a_training_that_is_broken_off_goes_on_to_the_same_end() {
    let scratch = tempfile::tempdir().unwrap();
    let (result, records) = train(&settings(), &scratch.path().join("whole"));
    let whole = trace(&result, &records);
    // In the first epoch, at an epoch's end, and in the last epoch.
    for steps in [3, 10, 37] {
        let path = scratch.path().join(steps.to_string());
        let mut folder = RunFolder::create(&path, &settings()).unwrap();
        let stop = AtomicBool::new(false);
        let mut training = Training::new(settings(), cell(), data()).unwrap();
        let outcome = training.run(&mut folder, &mut StopAfter(steps, &stop), &stop).unwrap();
        assert_eq!(outcome, Outcome::Stopped, "after {steps} steps");

        let (mut folder, config) = RunFolder::open(&path).unwrap();
        let mut resumed = Training::new(config, cell(), data()).unwrap();
        let outcome = resumed.resume(&mut folder, &mut (), &AtomicBool::new(false)).unwrap();
        let Outcome::Finished(result) = outcome else { panic!("not asked to stop") };
        assert_eq!(trace(&result, &folder.events().unwrap()), whole, "after {steps} steps");
    }
}

#[test]
fn seed_and_nothing_else_decides_a_training() {
    let scratch = tempfile::tempdir().unwrap();
    let run = |name: &str, seed, threads| {
        let config = Config { seed, threads, ..settings() };
        let (result, records) = train(&config, &scratch.path().join(name));
        trace(&result, &records)
    };
    let one = run("one", 1, 1);
    assert_eq!(one, run("five", 1, 5));
    assert_ne!(one, run("other", 2, 1));
}

#[test]
fn workers_decide_a_training_and_threads_and_breaks_do_not() {
    let scratch = tempfile::tempdir().unwrap();
    let run = |workers, threads| {
        let config = Config { workers, threads, ..settings() };
        let (result, records) =
            train(&config, &scratch.path().join(format!("{workers}-{threads}")));
        assert!(result.test.as_ref().unwrap().error < 0.4, "{workers} workers");
        trace(&result, &records)
    };
    let four = run(4, 1);
    assert_eq!(four, run(4, 2));
    assert_ne!(four, run(1, 2));

    let (config, path) = (Config { workers: 4, ..settings() }, scratch.path().join("broken"));
    let mut folder = RunFolder::create(&path, &config).unwrap();
    let stop = AtomicBool::new(false);
    let mut training = Training::new(config, cell(), data()).unwrap();
    training.run(&mut folder, &mut StopAfter(13, &stop), &stop).unwrap();
    let (mut folder, config) = RunFolder::open(&path).unwrap();
    let mut resumed = Training::new(config, cell(), data()).unwrap();
    let outcome = resumed.resume(&mut folder, &mut (), &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(result) = outcome else { panic!("not asked to stop") };
    assert_eq!(trace(&result, &folder.events().unwrap()), four);
}

#[test]
fn workers_that_cannot_share_a_batch_are_refused() {
    let refusal = |workers, batch| {
        let mut config = Config { workers, ..settings() };
        config.train.batch = batch;
        match Training::new(config, cell(), data()) {
            Ok(_) => panic!("{workers} workers and a batch of {batch}"),
            Err(error) => error.to_string(),
        }
    };
    // There are 173 images.
    let text = refusal(4, 256);
    assert!(text.contains("divides the 173 images of a step, which are all there are"), "{text}");
}

#[test]
fn without_pools_the_derived_network_inherits_the_accuracy_of_the_search() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("search");
    let mut config = tiny();
    config.network.candidates.retain(|operation| !operation.is_pool());
    (config.train.channels, config.train.cells) = (config.network.channels, config.network.cells);
    let mut folder = RunFolder::create(&path, &config).unwrap();
    let mut search = Search::new(config.clone(), stripes(192)).unwrap();
    let outcome = search.run(&mut folder, &mut (), &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(found) = outcome else { panic!("not asked to stop") };
    assert!(found.decided_by_annealing);

    let weights = searched_weights(&folder, &config, &found.genotype).unwrap();
    let mut training = Training::new(config.clone(), found.genotype.clone(), data()).unwrap();
    assert_eq!(training.inherit(&weights).unwrap(), weights.len());

    let (height, width) = (8, 8);
    let shape = NetworkShape {
        channels: config.train.channels,
        cells: config.train.cells,
        height,
        width,
        in_channels: 1,
        classes: 3,
        stem: Stem::Small,
    };
    let card = NetworkCard {
        version: String::new(),
        design: found.genotype.clone().into(),
        shape,
        classes: found.data.classes.clone(),
        normalization: Normalization { mean: found.data.mean.clone(), std: found.data.std.clone() },
        data: String::new(),
        test: None,
    };
    let mut values = training.weights();
    values.retain(|name, _| !name.starts_with("auxiliary."));
    let network = TrainedNetwork::new(card, values, &Device::flex()).unwrap();
    let (_, valid) = stratified_halves(data().train.labels(), 3, 0.5, config.seed);
    let error = network.evaluate(data().train.subset(&valid).unwrap()).unwrap().error;
    assert_eq!(Some(1.0 - error), found.derived_valid_accuracy);

    config.train.channels += 1;
    let message = searched_weights(&folder, &config, &found.genotype).unwrap_err().to_string();
    assert!(
        message.contains("train.channels") && message.contains("network.channels"),
        "{message}"
    );
}

#[test]
fn two_processes_do_not_work_in_one_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let mut folder = RunFolder::create(&scratch.path().join("run"), &settings()).unwrap();
    let lock = folder.lock().unwrap();
    let mut training = Training::new(settings(), cell(), data()).unwrap();
    let error = training.run(&mut folder, &mut (), &AtomicBool::new(false)).unwrap_err();
    assert!(error.to_string().contains("another asap process"), "{error}");
    drop(lock);
    let _again = folder.lock().unwrap();
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("run");
    let (_, _) = train(&settings(), &path);
    let network = asap::run::folder::open_trained(&path, DeviceName::Cpu).unwrap();

    let message = network.evaluate(wide()).unwrap_err().to_string();
    assert!(message.contains("[8, 8, 1]") && message.contains("[8, 4, 1]"), "{message}");
    let message = network.evaluate(four_classes()).unwrap_err().to_string();
    assert!(message.contains("3 classes of the network") && message.contains("dots"), "{message}");
    assert!(network.predict(&[0; 65]).unwrap_err().to_string().contains("65 bytes"));
    assert_eq!(network.predict(&[]).unwrap(), Vec::<Vec<f32>>::new());

    // Missing, unexpected and of another shape: each is named.
    let card = network.card().clone();
    let training = Training::new(settings(), cell(), data()).unwrap();
    let mut values = training.weights();
    values.remove("head.bias");
    values.insert("extra".to_owned(), (vec![1], vec![0.0]));
    values.insert("stem.bn.gamma".to_owned(), (vec![2], vec![0.0; 2]));
    let error = TrainedNetwork::new(card, values, &Device::flex()).err().unwrap();
    let message = error.to_string();
    for part in
        ["missing: head.bias", "unexpected: extra", "stem.bn.gamma (expected [12], found [2])"]
    {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }

    let error =
        asap::run::folder::open_trained(&path.join(CHECKPOINT), DeviceName::Cpu).err().unwrap();
    assert!(error.to_string().contains("found those of a training"), "{error}");
    // A configuration with a key that nobody knows.
    let text = std::fs::read_to_string(path.join(CONFIG)).unwrap();
    let newer = scratch.path().join("newer");
    std::fs::create_dir(&newer).unwrap();
    std::fs::write(newer.join(CONFIG), text.replace("[train]", "[train]\nwarp = 9")).unwrap();
    let error = RunFolder::open(&newer).unwrap_err();
    assert!(error.to_string().contains("train.warp"), "{error}");
    // One without a part.
    let part = text.split("[train]").next().unwrap();
    std::fs::write(newer.join(CONFIG), part).unwrap();
    let error = RunFolder::open(&newer).unwrap_err();
    assert!(error.to_string().contains("missing field `train`"), "{error}");

    let empty = tempfile::tempdir().unwrap();
    let error = asap::run::folder::open_trained(empty.path(), DeviceName::Cpu).err().unwrap();
    assert!(error.to_string().contains("finished training"), "{error}");
    let mut search = Search::new(settings(), stripes(192)).unwrap();
    let mut folder = RunFolder::open(&path).unwrap().0;
    let never = AtomicBool::new(false);
    let error = search.resume(&mut folder, &mut (), &never).unwrap_err();
    assert!(
        error.to_string().contains("tensors of a search, found those of a training"),
        "{error}"
    );
    let mut other =
        Training::new(settings(), PublishedCell::find("DARTS_V2").unwrap().genotype(), data())
            .unwrap();
    let error = other.resume(&mut folder, &mut (), &never).unwrap_err();
    assert!(error.to_string().contains("another network"), "{error}");
}

#[test]
fn limits_are_kept_by_as_many_channels_as_they_allow() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut designs: Vec<Design> = vec![
        cell().into(),
        Design::Plain("resnet-8".parse().unwrap()),
        Design::Plain("mobilenet-14".parse().unwrap()),
    ];
    for family in Family::ALL {
        let space = SearchSpace::of(family);
        designs.push(Genotype::random(&space, &mut random).into());
    }
    for number in 0..20 {
        let design = &designs[number % designs.len()];
        let mut config = settings();
        config.train.channels = 24;
        config.limits.weights = random.random_range(20_000..200_000);
        config.limits.multiply_adds = random.random_range(100_000..2_000_000);
        let training = Training::new(config.clone(), design.clone(), data()).unwrap();
        let keeps = |cost: asap_core::Cost| {
            cost.params <= config.limits.weights
                && cost.multiply_adds <= config.limits.multiply_adds
        };
        assert!(keeps(training.cost()), "{design}");
        let channels = training.channels();
        let image = data().train.image_shape();
        let more = config.train.shape(image, 3).cost_with(design, channels + 1).unwrap();
        assert!(channels == 24 || !keeps(more), "{design}: {channels} channels are not the most");
    }
    let refused = |change: fn(&mut Config)| {
        let mut config = settings();
        change(&mut config);
        let plain = Design::Plain("resnet-8".parse().unwrap());
        Training::new(config, plain, data()).err().unwrap().to_string()
    };
    let least = refused(|c| c.limits.weights = 20);
    assert!(
        least.contains("limits.weights (--max-weights): expected at least 360")
            && least.contains("resnet-8"),
        "{least}"
    );
    let least = refused(|c| c.limits.latency_ms = 1e-7);
    assert!(least.contains("limits.latency_ms (--max-latency): expected at least"), "{least}");
}

#[test]
fn a_training_within_a_time_keeps_its_images_where_test_images_judge_it() {
    let judged_on = |images: usize, valid: Option<Dataset>, test: Option<Dataset>| {
        let images = Splits { valid, test, ..stripes(images) };
        let mut config = settings();
        config.train.validation = 0.25;
        let share = Share { seconds: 3600.0, must: false };
        let resnet = Design::Plain("resnet-8".parse().unwrap());
        let fit = fit::training(&config, &resnet, &images, share, Size::Given).unwrap();
        Training::new(fit.config, resnet, images).unwrap().data().valid_images
    };
    let test = || Some(stripes(30).train);
    assert_eq!(judged_on(6000, None, test()), 1000);
    assert_eq!(judged_on(600, None, test()), 150, "they are few anyway");
    assert_eq!(judged_on(6000, None, None), 1500, "nothing else says how good it is");
    let valid = || Some(stripes(2000).train);
    assert_eq!(judged_on(600, valid(), test()), 1000);
    assert_eq!(judged_on(600, valid(), None), 2000);
}

#[test]
fn cutout_is_for_long_trainings_unless_it_is_given() {
    let resnet = Design::Plain("resnet-8".parse().unwrap());
    let cutout = |given, epochs| {
        let mut config = settings();
        (config.train.epochs, config.train.augment.cutout) = (epochs, given);
        let training = Training::new(config, resnet.clone(), data()).unwrap();
        training.config().train.augment.cutout
    };
    assert_eq!(cutout(Auto::Auto, 24), Auto::Value(0.0));
    assert_eq!(cutout(Auto::Auto, 25), Auto::Value(0.25));
    assert_eq!(cutout(Auto::Value(0.5), 3), Auto::Value(0.5));
    let planned = |given, seconds| {
        let mut config = settings();
        config.train.augment.cutout = given;
        let share = Share { seconds, must: true };
        fit::training(&config, &resnet, &data(), share, Size::Given).unwrap()
    };
    assert!(planned(Auto::Auto, 0.01).plan.contains("without cutout"));
    let long = planned(Auto::Auto, 3600.0);
    assert_eq!(
        (long.config.train.augment.cutout, long.plan.contains("cutout")),
        (Auto::Auto, false)
    );
    let given = planned(Auto::Value(0.5), 0.01);
    assert_eq!(
        (given.config.train.augment.cutout, given.plan.contains("cutout")),
        (Auto::Value(0.5), false)
    );
}

#[test]
fn a_training_that_must_be_made_has_fewer_images_where_an_epoch_does_not_fit() {
    let fit = |images: usize, seconds, must| {
        let resnet = Design::Plain("resnet-8".parse().unwrap());
        let share = Share { seconds, must };
        let config = settings();
        let images = Splits { test: Some(stripes(30).train), ..stripes(images) };
        fit::training(&config, &resnet, &images, share, Size::Decided)
    };
    let Fit { config, plan } = fit(6000, 0.01, true).unwrap();
    let batch = config.train.batch;
    assert_eq!((config.train.epochs, config.train.images), (1, 20 * batch));
    assert!(
        plan.contains(&format!("1 epoch of 20 steps of {batch} images ({} of", 20 * batch)),
        "{plan}"
    );
    let late = fit(6000, -5.0, true).unwrap().config;
    assert_eq!((late.train.epochs, late.train.images), (1, 20 * batch), "no time is left");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("late");
    RunFolder::create(&path, &late).unwrap();
    RunFolder::open(&path).expect("it can be opened again");
    let few = fit(60, 0.01, true).unwrap();
    assert_eq!((few.config.train.epochs, few.config.train.images), (1, 0), "they are few anyway");
    assert!(matches!(fit(6000, 0.01, false), Err(Error::TooShort { .. })));
}

#[test]
fn a_training_within_a_time_takes_the_faster_precision_unless_one_is_given() {
    let precision = |given: &str| {
        let mut layers = Layers::preset(Preset::Quick);
        layers.set(&format!("precision={given}")).unwrap();
        let config = layers.resolve().unwrap();
        assert_eq!(config.precision() == Precision::Bf16, given == "bf16", "without a time");
        let share = Share { seconds: 60.0, must: false };
        let resnet = Design::Plain("resnet-8".parse().unwrap());
        let fit = fit::training(&config, &resnet, &data(), share, Size::Decided).unwrap();
        assert_eq!(fit.plan.contains("in bf16"), fit.config.precision() == Precision::Bf16);
        fit.config.precision()
    };
    let mixed = Level::available()[0].multiplies_bf16();
    // Where it could be faster that is measured.
    assert!(mixed || precision("auto") == Precision::F32);
    assert_eq!(precision("f32"), Precision::F32);
    assert_eq!(precision("bf16"), Precision::Bf16);
}

#[test]
fn a_measured_latency_decides_once() {
    let mut config = settings();
    config.limits.latency_ms = 1e6;
    let sink = &mut Memory::new();
    let training = Training::new(config.clone(), cell(), data());
    let result = training.unwrap().run(sink, &mut (), &AtomicBool::new(false)).unwrap();
    let Outcome::Finished(result) = result else { panic!("not stopped") };
    assert_eq!(result.limits.latency_channels, config.train.channels);
    assert!(result.latency_ms.is_some_and(|ms| ms > 0.0));
    assert!(result.network().contains("of 1000000 ms with 1 thread"), "{}", result.network());

    // What was decided stands, whatever would be measured now.
    config.limits.latency_channels = 2;
    assert_eq!(Training::new(config, cell(), data()).unwrap().channels(), 2);
}

fn wide() -> asap_data::Dataset {
    let classes = data().train.classes().to_vec();
    asap_data::Dataset::new(vec![0; 32], vec![0], [8, 4, 1], classes).unwrap()
}

fn four_classes() -> asap_data::Dataset {
    let mut classes = data().train.classes().to_vec();
    classes.push("dots".to_owned());
    asap_data::Dataset::new(vec![0; 64], vec![3], [8, 8, 1], classes).unwrap()
}
