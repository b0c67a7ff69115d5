//! `asap train`: trains the network of a cell, or a plain one.

use std::path::Path;
use std::time::Instant;

use asap::jobs::dry_run::{self, TrainCosts};
use asap::jobs::fit::{self, Share, Size};
use asap::jobs::planned::Plan as _;
use asap::jobs::transfer::{NamedCell, Plan, Transfer};
use asap::jobs::{Job, Resumed, load};
use asap::run::record::TrainOutline;
use asap::{RunFolder, TrainResult, Training};

use asap_core::{Design, Family};

use crate::args::{Common, Part, TrainArgs};
use crate::output::{self, counted, duration, megabytes, percent};
use crate::progress::Progress;

pub(crate) fn run(args: &TrainArgs, common: &Common) -> anyhow::Result<()> {
    let started = Instant::now();
    if let Some(path) = &args.resume {
        return resume(path, args.part, common);
    }
    let (name, design) = match &args.network {
        Some(network) => (network.to_string(), Design::Plain(*network)),
        None => {
            let cell = args.cell.as_deref().unwrap_or_default();
            let genotype = super::cells::read_of(cell, args.settings.space)?;
            (super::transfer::cell_name(cell), Design::Cells(genotype))
        }
    };
    let mut layers = super::layers(&args.settings, common)?;
    super::limit(&mut layers, args.limits);
    if let Some(family) = design.family().filter(|&family| family != Family::default()) {
        layers.put("space", family.name());
    }
    super::no_decided_settings(args.limit.flag(), &layers, &super::DECIDED_LENGTH)?;
    let mut config = layers.resolve()?;
    config.check_without_search()?;
    let place = super::place(common, "train");
    let mut progress = Progress::new();
    let images = match args.limit.time {
        Some(seconds) => {
            let images = load(&config, &mut progress)?;
            // Several trainings read them once more.
            let readings = if args.repeat == 1 { 1.0 } else { 2.0 };
            let left = seconds * (1.0 - fit::REST) - readings * started.elapsed().as_secs_f64();
            let size = match super::given(&layers, &super::DECIDED_SIZE) {
                Some(_) => Size::Given,
                None => Size::Decided,
            };
            let share = Share { seconds: left / f64::from(args.repeat.max(1)), must: false };
            let fit = fit::training(&config, &design, &images, share, size)?;
            eprintln!("plan for {}: {}", duration(seconds), fit.plan);
            config = fit.config;
            Some(images)
        }
        None => None,
    };
    if args.repeat != 1 {
        drop(images);
        let plan = Plan {
            cells: vec![NamedCell { name, design }],
            data: vec![super::anywhere(&config.data.source)],
            seeds: config.seeds(args.repeat),
        };
        let shard = super::shard(args.part, common, false, plan.runs())?;
        if args.limit.time.is_some() && !shard.is_whole() {
            let fault = "--time: is divided among the trainings of one process; leave it out, or give --shard 1/1";
            return Err(crate::failure::Usage(fault.to_owned()).into());
        }
        let transfer = Transfer::create(&place, &config, plan, shard, &mut progress)?;
        return super::transfer::to_the_end(&transfer, "train", common);
    }
    refuse_part(args.part)?;
    if args.dry_run {
        let costs = dry_run::train(&config, &design, &mut progress)?;
        eprintln!("{}", summary(&costs.outline));
        let text = super::dry_text(&costs.config, &self::costs(&costs))?;
        return output::print(common.json, &costs, &text);
    }
    let job = Job::<Training>::start(&place, &config, &design, images, &mut progress)?;
    let outline = job.of().outline();
    if outline.data.train_images < config.train.batch {
        eprintln!(
            "note: there are {} images, fewer than train.batch; each step uses all of them",
            outline.data.train_images
        );
    }
    super::warn_of_memory(outline.memory_estimate_mb, "train.batch");
    eprintln!("{}\nrun folder: {}", summary(&outline), job.folder().path().display());
    to_the_end(job, common)
}

/// Refuses a part of one training.
fn refuse_part(part: Part) -> anyhow::Result<()> {
    let Some(shard) = part.shard.filter(|shard| !shard.is_whole()) else { return Ok(()) };
    let fault = format!(
        "--shard {shard}: there is one training, which cannot be divided; expected --repeat N"
    );
    Err(crate::failure::Usage(fault).into())
}

fn resume(path: &Path, part: Part, common: &Common) -> anyhow::Result<()> {
    super::no_settings(common)?;
    if let Ok(repeats) = Transfer::open(path) {
        let shard = super::shard(part, common, true, repeats.plan().runs())?;
        let repeats = repeats.with_threads(common.threads).with_shard(shard)?;
        return super::transfer::to_the_end(&repeats, "train", common);
    }
    refuse_part(part)?;
    match Job::<Training>::resume(path, common.threads, &mut Progress::new())? {
        Resumed::Finished(folder, result) => {
            eprintln!("{}: this run has finished", path.display());
            report(&result, &folder, common)
        }
        Resumed::Job(job) => {
            eprintln!("{}\nresumed: {}", summary(&job.of().outline()), path.display());
            to_the_end(*job, common)
        }
    }
}

fn to_the_end(job: Job<Training>, common: &Common) -> anyhow::Result<()> {
    let folder = job.folder().clone();
    let result = super::to_the_end("train", &folder, |progress, stop| job.run(progress, stop))?;
    report(&result, &folder, common)
}

/// A summary of a training.
fn summary(outline: &TrainOutline) -> String {
    let data = &outline.data;
    let [height, width, channels] = data.image;
    let left_out = match outline.images_left_out {
        0 => String::new(),
        count => format!(" (each epoch leaves out {count} images, which fill no batch)"),
    };
    format!(
        "{}: {} images of {height}x{width}x{channels} (plus {} held out, {} for testing), {} classes; \
         network of {} weights, {:.1} M multiply-adds, about {:.0} MiB; {} of {} steps{left_out}",
        data.name,
        data.train_images,
        data.valid_images,
        data.test_images,
        data.classes.len(),
        outline.params,
        outline.multiply_adds as f64 / 1e6,
        outline.memory_estimate_mb,
        counted(outline.epochs, "epoch"),
        outline.steps_per_epoch,
    )
}

fn report(result: &TrainResult, folder: &RunFolder, common: &Common) -> anyhow::Result<()> {
    for warning in &result.warnings {
        eprintln!("warning: {warning}");
    }
    output::print(common.json, result, &text(result, folder))
}

/// The result of a training as text.
fn text(result: &TrainResult, folder: &RunFolder) -> String {
    let path = super::shell_path(folder);
    let test = result.test.as_ref().map_or("no test images".to_owned(), |test| {
        format!(
            "{} after the last epoch ({}; {} of {} images)",
            percent(test.error),
            output::interval(test),
            test.errors,
            test.images
        )
    });
    let valid = result.valid_accuracy.zip(result.best).map_or(
        "no validation images".to_owned(),
        |(last, (epoch, best))| {
            format!(
                "{} after the last epoch; {} after epoch {}",
                percent(last),
                percent(best),
                epoch + 1
            )
        },
    );
    format!(
        "test error           {test}\n\
         validation accuracy  {valid}\n\
         network              {}\n\
         time                 {} for {}\n\
         report               {path}/report.html\n\
         to use it            asap predict {path} IMAGE...",
        result.network(),
        duration(result.seconds),
        counted(result.epochs, "epoch"),
    )
}

/// The costs of a training as text.
pub(crate) fn costs(costs: &TrainCosts) -> String {
    let outline = &costs.outline;
    format!(
        "network              {} weights, {:.1} M multiply-adds\n\
         steps                {} per epoch, {} epochs\n\
         time                 about {}\n\
         memory               about {:.0} MiB; {} measured here\n\
         Training, checkpoint, test and report work.",
        outline.params,
        outline.multiply_adds as f64 / 1e6,
        outline.steps_per_epoch,
        outline.epochs,
        duration(costs.seconds),
        outline.memory_estimate_mb,
        megabytes(costs.peak_rss_mb),
    )
}
