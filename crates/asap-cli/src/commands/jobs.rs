//! `asap jobs`: the runs of a command as many commands, or as a script for a cluster.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use asap::jobs::compare::Compare;
use asap::jobs::planned::Plan;
use asap::jobs::search_and_train::Run;
use asap::jobs::shard::SHARDS;
use asap::jobs::transfer::Transfer;
use asap::paper::TABLE_2;
use clap::Parser;
use serde::Serialize;

use crate::args::{Arguments, Command, Common, Divided, JobsArgs, JobsCommand, Part, Scheduler};
use crate::failure::Usage;
use crate::output::{self, shell_word};

pub(crate) fn run(args: &JobsArgs, common: &Common) -> anyhow::Result<()> {
    match &args.command {
        JobsCommand::List { divided } => list(&Job::of(divided)?, common),
        JobsCommand::Script { scheduler, cpus, image, claim, divided } => {
            let job = Job::of(divided)?;
            if job.has_threads {
                return Err(usage(
                    "the command after --: expected no --threads, which the script adds from --cpus",
                ));
            }
            let script = match scheduler {
                Scheduler::Slurm => slurm(&job, *cpus)?,
                Scheduler::Kubernetes => {
                    let (image, claim) = image.as_deref().zip(claim.as_deref()).expect("required");
                    kubernetes(&job, *cpus, image, claim)
                }
            };
            output::print(common.json, &Script { script: &script }, script.trim_end())
        }
    }
}

#[derive(Serialize)]
struct Script<'a> {
    script: &'a str,
}

/// A command that is divided.
struct Job {
    /// Its name, and everything behind it.
    name: String,
    /// The folder that its parts share.
    folder: PathBuf,
    arguments: Vec<String>,
    shards: usize,
    /// True if they say how many threads there are.
    has_threads: bool,
}

impl Job {
    /// Reads the command as the program would, but does not run it.
    fn of(divided: &Divided) -> anyhow::Result<Self> {
        let mut arguments = divided.command.clone();
        if arguments[0] == "asap" {
            arguments.remove(0);
        }
        let words = std::iter::once("asap").chain(arguments.iter().map(String::as_str));
        let parsed = Arguments::try_parse_from(words).map_err(|error| {
            let text = error.render().to_string();
            let text = text.trim_start_matches("error: ");
            Usage(format!("the command after --: {}", text.lines().next().unwrap_or_default()))
        })?;
        let part = |part: Part| match part.shard {
            Some(shard) => Err(usage(&format!(
                "the command after --: expected no --shard, which asap jobs adds, found {shard}"
            ))),
            None => Ok(()),
        };
        let several = |runs: u32, flag: &str| match runs {
            0 | 1 => Err(usage(&format!("the command after --: expected {flag} 2 or more"))),
            runs => Ok(runs as usize),
        };
        let time = |time: Option<f64>| match time {
            Some(_) => Err(usage(
                "the command after --: --time is divided among the runs of one process; leave it out",
            )),
            None => Ok(()),
        };
        let (resume, runs) = match &parsed.command {
            Command::Compare(args) => {
                if args.evaluations.is_some() {
                    return Err(usage(
                        "the command after --: searches with --evaluations take one process; run it as it is",
                    ));
                }
                part(args.part)?;
                time(args.limit.time)?;
                let resumed = args.resume.as_deref();
                let runs = match resumed {
                    Some(path) => Compare::open(path)?.plan().runs(),
                    None => args.methods.len() * args.seeds as usize,
                };
                (resumed, runs)
            }
            Command::Reproduce(args) => {
                part(args.part)?;
                time(args.limit.time)?;
                let resumed = args.resume.as_deref();
                let runs = match (resumed, args.what.methods().len()) {
                    (Some(path), 0) => Transfer::open(path)?.plan().runs(),
                    (Some(path), _) => Compare::open(path)?.plan().runs(),
                    (None, 0) => TABLE_2.len() * args.data.len() * args.seeds as usize,
                    (None, methods) => methods * args.seeds as usize,
                };
                (resumed, runs)
            }
            Command::Transfer(args) => {
                part(args.part)?;
                let resumed = args.resume.as_deref();
                let runs = match resumed {
                    Some(path) => Transfer::open(path)?.plan().runs(),
                    None => args.cells.len() * args.data.len() * args.repeat as usize,
                };
                (resumed, runs)
            }
            Command::Train(args) => {
                part(args.part)?;
                time(args.limit.time)?;
                let resumed = args.resume.as_deref();
                let runs = match resumed {
                    Some(path) => Transfer::open(path)?.plan().runs(),
                    None => several(args.repeat, "--repeat")?,
                };
                (resumed, runs)
            }
            Command::Run(args) => {
                part(args.part)?;
                time(args.limit.time)?;
                let resumed = args.resume.as_deref();
                let runs = match resumed {
                    Some(path) => Run::open(path)?.plan().runs(),
                    None if !args.no_final => {
                        return Err(usage(
                            "the command after --: the final compares what all searches found; expected --no-final",
                        ));
                    }
                    None => several(args.repeat_search, "--repeat-search")?,
                };
                (resumed, runs)
            }
            _ => {
                return Err(usage(&format!(
                    "the command after --: expected compare, reproduce, transfer, train or run, found {}",
                    arguments[0]
                )));
            }
        };
        let Some(folder) = resume.or(parsed.common.out.as_deref()).map(Path::to_owned) else {
            return Err(usage(
                "the command after --: expected --out PATH, in which all parts join, found none",
            ));
        };
        let shards = divided.shards.unwrap_or(runs);
        if shards == 0 || shards > runs {
            return Err(usage(&format!(
                "--shards: expected 1 to {runs}, the number of runs, found {shards}"
            )));
        }
        let has_threads = parsed.common.threads.is_some();
        Ok(Self { name: arguments[0].clone(), folder, arguments, shards, has_threads })
    }

    /// A name of at most 63 lower-case letters, digits and dashes, by which studies at the same time are told apart.
    fn kubernetes_name(&self) -> String {
        const LONGEST: usize = 40;
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        let folder: String = self.folder.to_string_lossy().chars().map(plain).collect();
        let end = &folder[folder.len().saturating_sub(LONGEST)..];
        format!("asap-{}-{end}", self.name).trim_matches('-').to_owned()
    }

    fn words(&self) -> String {
        self.arguments.iter().map(|word| shell_word(word)).collect::<Vec<_>>().join(" ")
    }
}

fn usage(text: &str) -> anyhow::Error {
    Usage(text.to_owned()).into()
}

/// The program as other machines with the same files find it: by its name if that leads to this one.
fn program() -> anyhow::Result<String> {
    let this = std::env::current_exe().context("cannot find this program")?;
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let named =
        std::env::split_paths(&paths).map(|folder| folder.join("asap")).find(|path| path.is_file());
    let real = |path: &Path| std::fs::canonicalize(path).ok();
    match named.filter(|named| real(named).is_some() && real(named) == real(&this)) {
        Some(_) => Ok("asap".to_owned()),
        None => Ok(shell_word(&this.to_string_lossy())),
    }
}

fn here() -> anyhow::Result<PathBuf> {
    std::env::current_dir().context("cannot find the current folder")
}

fn list(job: &Job, common: &Common) -> anyhow::Result<()> {
    let (folder, program) = (here()?, program()?);
    let folder = shell_word(&folder.to_string_lossy());
    let line = |part: usize| {
        format!("cd {folder} && {program} {} --shard {part}/{}", job.words(), job.shards)
    };
    let lines: Vec<String> = (1..=job.shards).map(line).collect();
    output::print(common.json, &lines, &lines.join("\n"))
}

fn slurm(job: &Job, cpus: u32) -> anyhow::Result<String> {
    let (folder, program) = (here()?, program()?);
    let folder = folder.to_string_lossy();
    let Job { name, shards, .. } = job;
    let mut text = String::new();
    writeln!(text, "#!/bin/sh")?;
    writeln!(text, "#SBATCH --job-name=asap-{name}")?;
    writeln!(text, "#SBATCH --array=1-{shards}")?;
    writeln!(text, "#SBATCH --cpus-per-task={cpus}")?;
    writeln!(text, "#SBATCH --chdir={}", folder.replace(' ', "\\ "))?;
    writeln!(text, "#SBATCH --output=asap-{name}-%A_%a.log")?;
    writeln!(text, "#SBATCH --open-mode=append --requeue")?;
    writeln!(
        text,
        "# A minute before its time is over the task saves its state and ends; submitted again, it goes on."
    )?;
    writeln!(text, "#SBATCH --signal=B:TERM@60")?;
    writeln!(text)?;
    writeln!(
        text,
        "exec {program} {} --threads {cpus} --shard \"$SLURM_ARRAY_TASK_ID/{shards}\"",
        job.words()
    )?;
    Ok(text)
}

fn kubernetes(job: &Job, cpus: u32, image: &str, claim: &str) -> String {
    let Job { shards, arguments, .. } = job;
    // A string of JSON is one of YAML.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut words = vec!["asap".to_owned()];
    words.extend(arguments.iter().cloned());
    words.extend(["--threads".to_owned(), cpus.to_string()]);
    let command: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!(
        "apiVersion: batch/v1\n\
         kind: Job\n\
         metadata:\n\
         \x20 name: {}\n\
         spec:\n\
         \x20 completionMode: Indexed\n\
         \x20 completions: {shards}\n\
         \x20 parallelism: {shards}\n\
         \x20 backoffLimit: {}\n\
         \x20 template:\n\
         \x20   spec:\n\
         \x20     restartPolicy: OnFailure\n\
         \x20     containers:\n\
         \x20     - name: asap\n\
         \x20       image: {}\n\
         \x20       command: [{}]\n\
         \x20       workingDir: /work\n\
         \x20       env:\n\
         \x20       - {{name: {SHARDS}, value: \"{shards}\"}}\n\
         \x20       resources:\n\
         \x20         requests: {{cpu: \"{cpus}\"}}\n\
         \x20         limits: {{cpu: \"{cpus}\"}}\n\
         \x20       volumeMounts:\n\
         \x20       - {{name: work, mountPath: /work}}\n\
         \x20     volumes:\n\
         \x20     - name: work\n\
         \x20       persistentVolumeClaim: {{claimName: {}}}\n",
        job.kubernetes_name(),
        3 * shards,
        quoted(image),
        command.join(", "),
        quoted(claim)
    )
}
