//! Torture of `asap`: kills it at random moments, or takes away its right to write files, which then fails as on a full disk.
//! After each such blow the run is resumed; in the end its folder must equal that of an unbroken run, byte for byte, except for
//! times.
//!
//!     cargo build --release
//!     cargo run --release -p asap-nas-cli --example torture -- [ASAP-BINARY] [--kills 100] [--failures 30] [--seed 0]
//!
//! It tortures a small search, then a training, then an `asap run`, for about ten minutes. Exits with 0 if all went well; otherwise
//! keeps and names the folders of the runs that did not. The seed decides the blows and their moments, but not how far the
//! program gets until then. Needs Linux, `sh` and `prlimit` (util-linux).

use std::collections::BTreeSet;
use std::error::Error;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

const USAGE: &str = "usage: torture [ASAP-BINARY] [--kills N] [--failures N] [--seed N]";

/// A run of a few seconds.
struct Job {
    command: &'static str,
    arguments: &'static str,
    settings: &'static str,
    /// True if time decides when a checkpoint is due, and thereby what is in the last but one.
    timed_checkpoints: bool,
}

/// The jobs. Those that write a checkpoint at each step have the most moments at which a blow can hit a file; the other one
/// repeats some steps when it is resumed.
const JOBS: [Job; 3] = [
    Job {
        command: "search",
        arguments: "--seed 1",
        settings: "data.limit=400 search.relaxation=mixture search.epochs=10 search.batch=25 \
                   network.cells=2 network.channels=2 network.nodes=2 \
                   search.checkpoint_minutes=1e-9",
        timed_checkpoints: false,
    },
    Job {
        command: "train",
        arguments: "--seed 1 --cell ASAP",
        settings: "data.limit=400 train.epochs=12 train.batch=20 train.cells=3 train.channels=4 \
                   train.average=0.9 train.drop_path=0.2 train.checkpoint_minutes=0.002",
        timed_checkpoints: true,
    },
    Job {
        command: "run",
        arguments: "--seed 1",
        settings: "data.limit=500 search.epochs=4 search.batch=25 network.cells=2 \
                   network.channels=4 train.epochs=3 train.batch=20 train.cells=3 \
                   train.channels=4 search.checkpoint_minutes=1e-9 train.checkpoint_minutes=1e-9",
        timed_checkpoints: false,
    },
];

/// Numbers of JSON files, and of the JSON in checkpoints, that differ between equal runs: durations, and memory, which depends
/// on what else the process did before.
const TIMED_KEYS: [&str; 4] = ["seconds", "epoch_seconds", "peak_rss_mb", "rss_mb"];
/// The checksum in the header of a checkpoint, which covers the durations too.
const CHECKSUM_KEY: &str = "checksum";
/// The same numbers as TensorBoard's scalars.
const TIMED_SCALARS: [&str; 2] = ["epoch/seconds", "epoch/memory_in_MiB"];
/// The same numbers as figures of a report.
const TIMED_FIGURES: [&str; 2] = ["epoch: seconds", "epoch: memory in MiB"];

const CHECKPOINT: &str = "checkpoint/latest.safetensors";
const PREVIOUS: &str = "checkpoint/previous.safetensors";
/// A write failure leaves room for files of less than this many bytes, or for none.
const ROOM: u64 = 30_000;
/// How long a kill waits for a temporary file.
const LONGEST_WATCH: Duration = Duration::from_millis(500);
/// The end of a process after a blow must come within this time.
const PATIENCE: Duration = Duration::from_secs(120);
/// A job with this many bad runs is given up.
const MOST_BAD_RUNS: usize = 20;

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("torture: {error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let good = torture(&options).unwrap_or_else(|error| {
        eprintln!("torture: {error}");
        false
    });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tortures each job; true if all went well.
fn torture(options: &Options) -> Result<bool, Box<dyn Error>> {
    let root = env::temp_dir().join(format!("asap-torture-{}", std::process::id()));
    fs::create_dir_all(&root)?;
    let clock = Clock { started: Instant::now(), blows: options.kills + options.failures };
    let mut tallies: Vec<Tally> = Vec::new();
    for (number, job) in (0..).zip(&JOBS) {
        // The first jobs take what cannot be divided.
        let [kills, failures] = [options.kills, options.failures].map(|all| (all + 2 - number) / 3);
        let random = Random(options.seed.wrapping_mul(1_000_003).wrapping_add(number.into()));
        let done = tallies.iter().map(|tally| tally.kills + tally.failures).sum();
        let bench = Bench { program: &options.program, job, root: &root };
        tallies.push(bench.fill(Quota { kills, failures }, random, &clock, done)?);
    }
    print_table(&tallies);
    let bad: Vec<&PathBuf> = tallies.iter().flat_map(|tally| &tally.bad).collect();
    bad.iter().for_each(|folder| println!("kept: {}", folder.display()));
    if bad.is_empty() {
        fs::remove_dir_all(&root)?;
    }
    Ok(bad.is_empty())
}

/// The command line.
struct Options {
    program: PathBuf,
    kills: u32,
    failures: u32,
    seed: u64,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        if !cfg!(target_os = "linux") {
            return Err("this needs prlimit, which only Linux has".to_owned());
        }
        let (mut kills, mut failures, mut seed, mut program) = (100, 30, 0, None);
        while let Some(argument) = arguments.next() {
            let option = match argument.as_str() {
                "--kills" => &mut kills,
                "--failures" => &mut failures,
                "--seed" => &mut seed,
                path if program.is_none() && !path.starts_with('-') => {
                    program = Some(PathBuf::from(path));
                    continue;
                }
                other => return Err(format!("unexpected argument {other}")),
            };
            let number = arguments.next().and_then(|text| text.parse().ok());
            *option = number.ok_or_else(|| format!("{argument}: expected a whole number"))?;
        }
        let path = program.map_or_else(default_program, Ok).map_err(|error| error.to_string())?;
        let program = fs::canonicalize(&path).map_err(|error| {
            let path = path.display();
            format!(
                "expected the asap program at {path} ({error}); \
                 build it with cargo build --release, or give its path"
            )
        })?;
        let prlimit = Command::new("prlimit").arg("--version").stdout(Stdio::null()).status();
        prlimit.map_err(|error| format!("expected the program prlimit of util-linux ({error})"))?;
        Ok(Self { program, kills, failures, seed: seed.into() })
    }
}

/// The program beside the folder `examples` that this one is in.
fn default_program() -> io::Result<PathBuf> {
    let own = env::current_exe()?;
    Ok(own.ancestors().nth(2).unwrap_or(&own).join("asap"))
}

/// Random numbers (SplitMix64).
struct Random(u64);

impl Random {
    /// A number below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// What happens to a process.
#[derive(Clone, Copy, Debug)]
enum Blow {
    /// SIGKILL.
    Kill,
    /// SIGKILL at the next sight of a temporary file: in the middle of a write, or right after it.
    KillWriting,
    /// SIGTERM.
    Terminate,
    /// From now on, no file can get longer than this many bytes.
    Full(u64),
}

impl Blow {
    fn deal(self, child: &mut Child, folder: &Path) -> io::Result<()> {
        let id = child.id();
        let status = match self {
            Self::Kill => return child.kill(),
            Self::KillWriting => {
                let (started, before) = (Instant::now(), temporary_files(folder)?);
                while temporary_files(folder)?.is_subset(&before)
                    && started.elapsed() < LONGEST_WATCH
                {}
                return child.kill();
            }
            Self::Terminate => {
                Command::new("sh").args(["-c", &format!("kill -TERM {id}")]).status()?
            }
            Self::Full(bytes) => Command::new("prlimit")
                .args([format!("--pid={id}"), format!("--fsize={bytes}:unlimited")])
                .status()?,
        };
        // The process may have ended meanwhile.
        if status.success() || child.try_wait()?.is_some() {
            return Ok(());
        }
        Err(io::Error::other(format!("{self:?} failed")))
    }
}

/// Numbers of blows.
#[derive(Clone, Copy, Default)]
struct Quota {
    kills: u32,
    failures: u32,
}

impl Quota {
    fn all(self) -> u32 {
        self.kills + self.failures
    }

    /// One of these blows, if there are any.
    fn draw(self, random: &mut Random) -> Option<Blow> {
        if self.all() == 0 {
            return None;
        }
        let all = u64::from(self.all());
        Some(match (random.below(all) < u64::from(self.kills), random.below(4)) {
            (true, 0) => Blow::Terminate,
            (true, 1) => Blow::KillWriting,
            (true, _) => Blow::Kill,
            (false, 0 | 1) => Blow::Full(0),
            (false, _) => Blow::Full(random.below(ROOM)),
        })
    }
}

/// A row of the table.
#[derive(Default)]
struct Tally {
    command: &'static str,
    /// That of the fastest unbroken run; blows come within it.
    duration: Duration,
    left: Quota,
    kills: u32,
    failures: u32,
    /// Resumes that the program accepted.
    resumes: u32,
    /// Runs that were begun again in their folder, since there was nothing to resume.
    restarts: u32,
    completed: u32,
    differences: usize,
    /// The folders of runs with a difference or another fault.
    bad: Vec<PathBuf>,
}

impl Tally {
    /// Counts a blow that ended a process.
    fn count(&mut self, blow: Option<Blow>) {
        let (left, count) = match blow {
            Some(Blow::Full(_)) => (&mut self.left.failures, &mut self.failures),
            _ => (&mut self.left.kills, &mut self.kills),
        };
        (*left, *count) = (*left - 1, *count + 1);
    }
}

fn print_table(tallies: &[Tally]) {
    println!(
        "job     kills  write failures  resumes  restarts  completed runs  differences  bad runs"
    );
    for tally in tallies {
        let Tally {
            command, kills, failures, resumes, restarts, completed, differences, bad, ..
        } = tally;
        let bad = bad.len();
        println!(
            "{command:<6}{kills:>7}{failures:>16}{resumes:>9}{restarts:>10}{completed:>16}{differences:>13}{bad:>10}"
        );
    }
}

/// The time of the whole torture.
struct Clock {
    started: Instant,
    blows: u32,
}

impl Clock {
    fn progress(&self, done: u32) -> String {
        let per_blow = self.started.elapsed().as_secs_f64() / f64::from(done.max(1));
        let minutes = per_blow * f64::from(self.blows.saturating_sub(done)) / 60.0;
        format!("{done} of {} blows, about {minutes:.0} min left", self.blows)
    }
}

/// A job under torture.
struct Bench<'a> {
    program: &'a Path,
    job: &'a Job,
    root: &'a Path,
}

impl Bench<'_> {
    /// Runs the job until the quota is used up; `done` blows were dealt to other jobs.
    fn fill(
        &self,
        quota: Quota,
        mut random: Random,
        clock: &Clock,
        done: u32,
    ) -> Result<Tally, Box<dyn Error>> {
        let command = self.job.command;
        let reference = self.root.join(format!("{command}-reference"));
        let unbroken = self.process(&reference, false, None)?;
        if !unbroken.status.success() {
            return Err(format!("{command} fails without a blow: {}", unbroken.stderr).into());
        }
        eprintln!("{command}: {:.1} s without a blow", unbroken.took.as_secs_f64());
        let mut tally = Tally { command, duration: unbroken.took, left: quota, ..Tally::default() };
        for round in 1.. {
            if tally.left.all() == 0 || tally.bad.len() == MOST_BAD_RUNS {
                break;
            }
            let folder = self.root.join(format!("{command}-{round}"));
            let faults = match self.round(&folder, &mut random, &mut tally)? {
                Some(fault) => vec![fault],
                None => differences(&reference, &folder, self.job.timed_checkpoints)?,
            };
            let verdict = if faults.is_empty() { "equal" } else { "NOT EQUAL" };
            let Tally { kills, failures, .. } = tally;
            let progress = clock.progress(done + kills + failures);
            eprintln!(
                "{command} {round}: {verdict}; {kills} kills, {failures} write failures; {progress}"
            );
            faults.iter().for_each(|fault| eprintln!("    {fault}"));
            tally.differences += faults.len();
            if faults.is_empty() {
                fs::remove_dir_all(&folder)?;
            } else {
                tally.bad.push(folder);
            }
        }
        Ok(tally)
    }

    /// Runs the job in a folder, with blows and resumes, until it is complete; or returns what went wrong.
    fn round(
        &self,
        folder: &Path,
        random: &mut Random,
        tally: &mut Tally,
    ) -> io::Result<Option<String>> {
        let mut begin_again = false;
        loop {
            let resume = folder.exists() && !begin_again;
            let moment = tally.duration.mul_f64(random.below(1_000_000) as f64 / 1e6);
            let blow = tally.left.draw(random).map(|blow| (blow, moment));
            let before = temporary_files(folder)?;
            let ended = self.process(folder, resume, blow)?;
            let is_clean = temporary_files(folder)?.is_subset(&before);
            let fault = match ended.verdict(folder, is_clean) {
                Ok(Verdict::Completed) => {
                    tally.resumes += u32::from(resume);
                    tally.completed += 1;
                    if !resume {
                        tally.duration = tally.duration.min(ended.took);
                    }
                    return Ok(None);
                }
                Ok(Verdict::Hit) => {
                    tally.resumes += u32::from(resume);
                    tally.count(ended.dealt);
                    begin_again = false;
                    continue;
                }
                // Before the first checkpoint there is nothing to resume; but then the run must begin in its folder.
                Ok(Verdict::Refused) if resume && !has_checkpoint(folder)? => {
                    tally.restarts += 1;
                    begin_again = true;
                    continue;
                }
                Ok(Verdict::Refused) if begin_again => "refuses to resume and to begin again",
                Ok(Verdict::Refused) => "refuses to go on",
                Err(fault) => fault,
            };
            let (blow, message) = (ended.dealt, ended.stderr.trim_end());
            return Ok(Some(format!("{fault}; blow: {blow:?}; {message}")));
        }
    }

    /// Starts or resumes the job, deals a blow at its moment, and waits for the end.
    fn process(
        &self,
        folder: &Path,
        resume: bool,
        blow: Option<(Blow, Duration)>,
    ) -> io::Result<Ended> {
        let started = Instant::now();
        let mut child = self.command(folder, resume).spawn()?;
        let mut pipe = child.stderr.take().ok_or_else(|| io::Error::other("expected a pipe"))?;
        let reader = thread::spawn(move || {
            let mut bytes = Vec::new();
            pipe.read_to_end(&mut bytes).map(|_| String::from_utf8_lossy(&bytes).into_owned())
        });
        let mut dealt = None;
        if let Some((blow, moment)) = blow
            && wait(&mut child, moment)?.is_none()
        {
            blow.deal(&mut child, folder)?;
            dealt = Some(blow);
        }
        let status = match wait(&mut child, PATIENCE)? {
            Some(status) => status,
            None => {
                // The end by SIGKILL is not what is expected after any other blow, or none.
                eprintln!("    no end within {PATIENCE:?}");
                child.kill()?;
                child.wait()?
            }
        };
        let stderr = reader.join().map_err(|_| io::Error::other("the reader panicked"))??;
        Ok(Ended { status, stderr, dealt, took: started.elapsed() })
    }

    fn command(&self, folder: &Path, resume: bool) -> Command {
        let mut command = Command::new("sh");
        // A write beyond the limit is an error only for those who ignore the signal.
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(self.program);
        command.args([self.job.command, "--threads", "1"]);
        if resume {
            command.arg("--resume").arg(folder);
        } else {
            command.args(self.job.arguments.split_whitespace()).arg("--out").arg(folder);
            let settings = self.job.settings.split_whitespace();
            command.args(settings.flat_map(|setting| ["--set", setting]));
        }
        // Messages go to a pipe, since the limit on files would hit a file of messages too.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }
}

/// Waits for the end of a process, but not longer than this.
fn wait(child: &mut Child, longest: Duration) -> io::Result<Option<ExitStatus>> {
    let started = Instant::now();
    loop {
        let left = longest.saturating_sub(started.elapsed());
        let status = child.try_wait()?;
        if status.is_some() || left.is_zero() {
            return Ok(status);
        }
        thread::sleep(left.min(Duration::from_millis(2)));
    }
}

/// A process that has ended.
struct Ended {
    status: ExitStatus,
    stderr: String,
    dealt: Option<Blow>,
    took: Duration,
}

/// An end that the program is allowed.
enum Verdict {
    /// The run is complete, whether a blow came or not.
    Completed,
    /// The blow ended the process.
    Hit,
    /// The program does not start or resume the run, and says why.
    Refused,
}

impl Ended {
    /// The verdict on the end, or what is wrong with it; `is_clean` is false if it left temporary files.
    fn verdict(&self, folder: &Path, is_clean: bool) -> Result<Verdict, &'static str> {
        const SIGKILL: i32 = 9;
        const SIGTERM: i32 = 15;
        let says = |text: &str| self.stderr.contains(text);
        if says("panicked") {
            return Err("panics");
        }
        let fails = matches!(self.status.code(), Some(1 | 2)) && says("asap: ");
        match (self.dealt, signal(self.status)) {
            _ if self.status.success() => Ok(Verdict::Completed),
            (Some(Blow::Kill | Blow::KillWriting), Some(SIGKILL)) => Ok(Verdict::Hit),
            // The signal ends the program before it listens.
            (Some(Blow::Terminate), Some(SIGTERM)) => Ok(Verdict::Hit),
            (Some(Blow::Terminate), None) if says("a checkpoint is saved") => Ok(Verdict::Hit),
            (Some(Blow::Full(_)), None) if fails && says("File too large") => {
                match says(&format!("{}/", folder.display())) {
                    true if is_clean => Ok(Verdict::Hit),
                    true => Err("leaves a temporary file"),
                    false => Err("does not name the file that it cannot write"),
                }
            }
            (_, None) if fails => Ok(Verdict::Refused),
            _ => Err("ends in an unexpected way"),
        }
    }
}

/// The signal that ended a process.
#[cfg(unix)]
fn signal(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[cfg(not(unix))]
fn signal(_: ExitStatus) -> Option<i32> {
    None
}

/// The files under a folder, relative to it; none if it does not exist.
fn files(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let (mut found, mut open) = (BTreeSet::new(), vec![folder.to_owned()]);
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path)?.map(|entry| Ok(entry?.path()));
            open.extend(entries.collect::<io::Result<Vec<_>>>()?);
        } else if let Ok(inside) = path.strip_prefix(folder)
            && path != folder
        {
            found.insert(inside.to_owned());
        }
    }
    Ok(found)
}

fn temporary_files(folder: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = files(folder)?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "tmp"));
    Ok(found)
}

fn has_checkpoint(folder: &Path) -> io::Result<bool> {
    Ok(files(folder)?.iter().any(|path| path.ends_with(CHECKPOINT)))
}

/// The differences between two folders, apart from times.
fn differences(
    reference: &Path,
    folder: &Path,
    timed_checkpoints: bool,
) -> io::Result<Vec<String>> {
    let (expected, found) = (files(reference)?, files(folder)?);
    let named = |what: &str, path: &PathBuf| format!("{what}: {}", path.display());
    let missing = expected.difference(&found).map(|path| named("missing", path));
    let extra = found.difference(&expected).map(|path| named("not in the reference", path));
    let mut all: Vec<String> = missing.chain(extra).collect();
    for path in expected.intersection(&found) {
        let timed = timed_checkpoints && path.ends_with(PREVIOUS);
        let contents = |of: &Path| fs::read(of.join(path)).map(|bytes| without_times(path, bytes));
        if !timed && contents(reference)? != contents(folder)? {
            all.push(named("differs", path));
        }
    }
    Ok(all)
}

/// The contents of a file without the times in them; of most files, all.
fn without_times(path: &Path, bytes: Vec<u8>) -> Vec<u8> {
    let text = || String::from_utf8_lossy(&bytes);
    match path.file_name().and_then(|name| name.to_str()) {
        _ if path.ends_with(CHECKPOINT) || path.ends_with(PREVIOUS) => {
            tensors_without_times(&bytes)
        }
        Some("result.json" | "spent.json" | "events.jsonl") => json_without_times(&text()).into(),
        Some("report.html") => report_without_times(&text()).into(),
        Some("events.out.tfevents.asap") => scalars_without_times(&bytes),
        _ => bytes,
    }
}

/// Removes the values of [`TIMED_KEYS`].
fn json_without_times(text: &str) -> String {
    let number = |c: char| c.is_ascii_digit() || ".+-eE".contains(c);
    TIMED_KEYS.iter().fold(text.to_owned(), |text, key| without_values(&text, key, number))
}

/// Removes what consists of such characters after a key, whose quotes may be escaped any number of times.
fn without_values(text: &str, key: &str, value: impl Fn(char) -> bool) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(&format!("\"{key}")) {
        let (before, after) = rest.split_at(at + 1 + key.len());
        kept += before;
        rest = after;
        if let Some(after) = after.trim_start_matches('\\').strip_prefix("\":") {
            rest = after.trim_start_matches([' ', '\\', '"']).trim_start_matches(&value);
        }
    }
    kept + rest
}

/// A file of safetensors: the length of the header, the header as JSON, filled up with blanks, and the data.
fn tensors_without_times(bytes: &[u8]) -> Vec<u8> {
    let parts = bytes.split_first_chunk::<8>().and_then(|(length, rest)| {
        rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)
    });
    let Some((header, data)) = parts else { return bytes.to_vec() };
    let header = json_without_times(&String::from_utf8_lossy(header));
    let header = without_values(&header, CHECKSUM_KEY, |c| c.is_ascii_hexdigit());
    [header.trim_end().as_bytes(), data].concat()
}

/// Event files of TensorBoard: records of a length, its checksum, the data and its checksum. The data begins with the time, as
/// field 1 of eight bytes; a scalar is its name and field 2 of four bytes.
fn scalars_without_times(mut bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        let end = length.saturating_add(4);
        let (Some(data), Some(next)) = (rest.get(4..end), rest.get(end.saturating_add(4)..)) else {
            break;
        };
        let mut data = data.to_vec();
        if data.len() >= 9 && data[0] == 0x09 {
            data[1..9].fill(0);
        }
        for name in TIMED_SCALARS {
            let field = [name.as_bytes(), &[0x15]].concat();
            let at = data.windows(field.len()).position(|window| window == field);
            if let Some(value) =
                at.and_then(|at| data.get_mut(at + field.len()..at + field.len() + 4))
            {
                value.fill(0);
            }
        }
        kept.extend(data);
        bytes = next;
    }
    [&kept, bytes].concat()
}

/// Removes [`TIMED_FIGURES`], the duration in "10 epochs, 3 s.", and the last cell of each row below "seconds".
fn report_without_times(html: &str) -> String {
    let (mut kept, mut in_seconds) = (String::with_capacity(html.len()), false);
    for part in html.split_inclusive("</tr>").flat_map(|part| part.split_inclusive("</figure>")) {
        if part.ends_with("</th></tr>") {
            in_seconds = part.ends_with("<th>seconds</th></tr>");
        }
        let timed = |title: &str| part.contains(&format!("aria-label=\"{title}\""));
        let cut = match part.ends_with("</figure>") {
            true if TIMED_FIGURES.iter().any(|title| timed(title)) => part.rfind("<figure"),
            false if in_seconds && part.ends_with("</tr>") => part.rfind("<td>"),
            _ => None,
        };
        kept += &part[..cut.unwrap_or(part.len())];
    }
    match kept
        .split_once(" epochs, ")
        .and_then(|(before, after)| Some((before, after.split_once(" s.")?)))
    {
        Some((before, (seconds, after))) if seconds.parse::<f64>().is_ok() => {
            format!("{before} epochs. {after}")
        }
        _ => kept,
    }
}
