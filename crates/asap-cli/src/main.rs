//! The `asap` command: the only crate that prints.

/// Prints a line on standard error. That nobody reads it any more must not end a run, as the macro of the standard library would.
macro_rules! eprintln {
    ($($arguments:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arguments)*);
    }};
}

mod args;
mod commands;
mod failure;
mod files;
#[cfg(feature = "mpi")]
mod mpi;
mod names;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command};

/// Keeps freed memory for the next step; the system allocator would return it and fault it in again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !one_of_several() {
        return failure::exit_code(run(&arguments));
    }
    #[cfg(feature = "mpi")]
    return mpi::main(arguments);
    #[cfg(not(feature = "mpi"))]
    failure::exit_code(Err(failure::Usage(
        "mpirun: expected a program built with --features mpi, found one without, of which each process would do the same; \
         build it so, or divide the runs with --shard"
            .to_owned(),
    )
    .into()))
}

/// True if MPI has started this process with others.
fn one_of_several() -> bool {
    // Of Open MPI, of MPICH and its relatives, and of srun with either.
    let sizes = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "PMIX_SIZE"];
    let size = |name: &str| std::env::var(name).ok()?.parse::<usize>().ok();
    let by_srun = std::env::var_os("PMIX_RANK").and_then(|_| size("SLURM_NTASKS"));
    sizes.into_iter().filter_map(size).chain(by_srun).any(|size| size > 1)
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    commands::no_unread_settings(&arguments.command, &arguments.common)?;
    commands::start_threads(arguments.common.threads.unwrap_or(0))?;
    if let Some(card) = arguments.common.device.and_then(asap::DeviceName::card) {
        let software = ["llvmpipe", "SwiftShader"].iter().any(|name| card.contains(name));
        let slow = if software { ", a software renderer; --device cpu is faster" } else { "" };
        eprintln!("card: {card}{slow}");
    }
    match &arguments.command {
        Command::Search(search) => commands::search::run(search, &arguments.common),
        Command::Train(train) => commands::train::run(train, &arguments.common),
        Command::Run(run) => commands::run::run(run, &arguments.common),
        Command::Evaluate(evaluate) => commands::evaluate::run(evaluate, &arguments.common),
        Command::Predict(predict) => commands::predict::run(predict, &arguments.common),
        Command::Transfer(transfer) => commands::transfer::run(transfer, &arguments.common),
        Command::Compare(compare) => commands::compare::run(compare, &arguments.common),
        Command::Reproduce(what) => commands::reproduce::run(what, &arguments.common),
        Command::Jobs(jobs) => commands::jobs::run(jobs, &arguments.common),
        Command::Export(export) => commands::export::run(export, &arguments.common),
        Command::Cells(cells) => commands::cells::run(cells, &arguments.common),
        Command::Data(data) => commands::data::run(data, &arguments.common),
        Command::Config(config) => commands::config::run(config, &arguments.common),
        Command::Bench(bench) => commands::bench::run(bench, &arguments.common),
        #[cfg(feature = "watch")]
        Command::Watch(watch) => commands::watch::run(watch, &arguments.common),
        Command::Docs(docs) => commands::docs::run(docs, &arguments.common),
        Command::Pac(pac) => commands::pac::run(pac, &arguments.common),
    }
}
