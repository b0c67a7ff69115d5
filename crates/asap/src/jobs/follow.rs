//! What the ranks of a job do whose number is not 0: the same runs as rank 0, in memory.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use asap_data::Splits;
use asap_net::team::{Ranks, gather};
use asap_net::tensor_file;

use crate::error::Error;
use crate::jobs;
use crate::run::driver;
use crate::run::epochs::Epochs;
use crate::run::ranks::{Job, Kind, Word, agree, level};
use crate::run::sink::{Memory, Tensors};
use crate::search::Search;
use crate::settings::config::Config;
use crate::train::Training;

/// Works for rank 0 until it sends this one home, with so many threads.
///
/// # Errors
/// If a run fails on this rank.
pub fn follow(ranks: &Arc<dyn Ranks>, threads: usize) -> Result<(), Error> {
    loop {
        let sent = gather(&**ranks, Vec::new(), true).swap_remove(0);
        if sent.is_empty() {
            return Ok(());
        }
        // Rank 0 reports what all ranks know.
        match follow_one(ranks, threads, &sent) {
            Err(Error::Rank(_) | Error::NonFinite { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
}

fn follow_one(ranks: &Arc<dyn Ranks>, threads: usize, sent: &[u8]) -> Result<(), Error> {
    let end = sent.iter().position(|&byte| byte == b'\n').unwrap_or(sent.len());
    let read = || -> Result<(Job, Config, Splits), Error> {
        let job: Job = serde_json::from_slice(&sent[..end])
            .map_err(|error| Error::Run(format!("it sent no job of this version: {error}")))?;
        let (own, own_level) = (env!("CARGO_PKG_VERSION"), level());
        if (job.version.as_str(), &job.level) != (own, &own_level) {
            return Err(Error::Run(format!(
                "expected asap {} with {}, as rank 0, found asap {own} with {own_level}; last digits would differ",
                job.version, job.level
            )));
        }
        let config: Config = toml::from_str(&job.config)
            .map_err(|error| Error::Run(format!("configuration: {}", error.message())))?;
        let config = Config { threads, ..config };
        let mut images = jobs::load(&config, &mut ())?;
        images.test = images.test.filter(|_| job.test);
        Ok((job, config, images))
    };
    let state = &sent[(end + 1).min(sent.len())..];
    match read() {
        Ok((Job { kind: Kind::Search, .. }, config, images)) => {
            run(ranks, Search::new(config, images), state)
        }
        Ok((Job { kind: Kind::Training, design, .. }, config, images)) => {
            let design = design.expect("a training has one");
            run(ranks, Training::new(config, design, images), state)
        }
        Err(error) => run::<Search>(ranks, Err(error), state),
    }
}

/// Runs what rank 0 runs, from its state.
fn run<E: Epochs<Result: Send> + Send>(
    ranks: &Arc<dyn Ranks>,
    made: Result<E, Error>,
    state: &[u8],
) -> Result<(), Error> {
    let ready = made.and_then(|mut epochs| {
        let file = tempfile::NamedTempFile::new().map_err(|error| Error::Run(error.to_string()))?;
        std::fs::write(file.path(), state).map_err(Error::io("write", file.path()))?;
        let (header, values) = tensor_file::load(file.path())?;
        epochs.restore(Tensors { header, values }, &|problem| Error::Run(problem.to_owned()))?;
        Ok(epochs)
    });
    let fault = ready.as_ref().err().map(ToString::to_string);
    agree(&**ranks, Word { fault, ..Word::default() })?;
    let mut epochs = ready.expect("a fault is an error of all");
    epochs.set_team(epochs.config().team(Arc::clone(ranks)));
    let stop = AtomicBool::new(false);
    driver::run_together(&mut epochs, &mut Memory::new(), &mut (), &stop).map(drop)
}
