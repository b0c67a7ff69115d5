//! Estimated memory of a step, and the memory of the process where the system reports it (Linux).

use std::path::Path;

use asap_core::{Cost, Design, Family};
use asap_kernels::Precision;
use asap_net::device::DeviceName;

use crate::error::Error;

/// The program itself, in MiB.
const RESIDENT_MB: f64 = 85.0;

/// The memory of a step as multiples of the numbers in a network's [`Cost`]; measured (`docs/results/memory.md`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Footprint {
    /// Values kept or worked on per output of a convolution or pooling. Depthwise convolutions are computed again; a full one
    /// keeps its normalized input, too, and layers that are no kernels of ours keep theirs.
    kept: f64,
    /// Values per weight: itself, momentum, gradient, average, packed for the kernels, and copies for checkpoints.
    copies: f64,
}

impl Footprint {
    /// Of the training of a network.
    pub fn of_training(design: &Design, precision: Precision) -> Self {
        let kept = match design {
            Design::Cells(cell) if cell.family() == Family::Darts => 1.2,
            Design::Cells(_) => 2.1,
            Design::Plain(network) => match network.to_string().split('-').next() {
                Some("mobilenet") => 1.1,
                _ if network.to_string() == "resnet-9" => 3.5,
                _ => 2.1,
            },
        };
        let kept = if precision == Precision::Bf16 { 0.8 * kept } else { kept };
        Self { kept, copies: 18.0 }
    }

    /// Of a search by single paths or by a mixture, whose edges are computed again in the backward pass.
    pub fn of_search(family: Family, single_paths: bool, precision: Precision) -> Self {
        let kept = match (family, single_paths) {
            (Family::Darts, true) => 0.95,
            (Family::Darts, false) => 0.65,
            (Family::NasBench201, true) => 2.1,
            (Family::NasBench201, false) => 1.25,
        };
        let kept = if precision == Precision::Bf16 { 0.6 * kept } else { kept };
        Self { kept, copies: 6.0 }
    }

    /// Estimated memory in MiB with `batch` images per step.
    pub fn mb(self, cost: &Cost, batch: usize) -> f64 {
        let outputs = batch as f64 * cost.activations as f64;
        let floats = self.kept * outputs + self.copies * cost.params as f64;
        4.0 * floats / (1024.0 * 1024.0) + RESIDENT_MB
    }
}

/// Largest resident memory of this process so far, in MiB.
pub fn peak_rss_mb() -> Option<f64> {
    field_mb("/proc/self/status", "VmHWM:")
}

/// Restarts the measurement of the largest resident memory, where the system supports it (Linux).
pub fn reset_peak() {
    // 5 resets VmHWM, see proc(5). If it cannot, the peak is that of the whole process.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Resident memory of this process, in MiB.
pub fn rss_mb() -> Option<f64> {
    field_mb("/proc/self/status", "VmRSS:")
}

/// Memory available to a new program without swapping, in MiB: that of the machine, or what the limits of its control groups leave.
pub fn available_mb() -> Option<f64> {
    let of_machine = field_mb("/proc/meminfo", "MemAvailable:");
    of_machine.into_iter().chain(of_groups(left_mb)).reduce(f64::min)
}

/// Bytes that images may take: so many MiB, or half of the available memory if that is 0 (no limit if it is unknown).
pub fn memory_for_images(limit_mb: u64) -> Option<u64> {
    let mb = match limit_mb {
        0 => available_mb()? / 2.0,
        limit => limit as f64,
    };
    Some((mb * 1024.0 * 1024.0) as u64)
}

/// All memory that there is, in MiB: that of the machine, or the smallest limit of its control groups.
fn total_mb() -> Option<f64> {
    let of_machine = field_mb("/proc/meminfo", "MemTotal:");
    of_machine.into_iter().chain(of_groups(limit_mb)).reduce(f64::min)
}

/// The smallest number of this process's control group and those around it (cgroup v2, or the memory controller of v1).
fn of_groups(number: fn(&Path, &Names) -> Option<f64>) -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = |names: &Names| {
        groups.lines().find_map(|line| line.split_once(names.line)?.1.strip_prefix('/'))
    };
    let of = |names: &Names| smallest(Path::new(names.root), Path::new(own(names)?), names, number);
    [V2, V1].iter().filter_map(of).reduce(f64::min)
}

/// The files of a version of control groups.
struct Names {
    /// What stands before a group in `/proc/self/cgroup`.
    line: &'static str,
    root: &'static str,
    limit: &'static str,
    used: &'static str,
    /// The numbers of bytes of cached files in `memory.stat`.
    cached: [&'static str; 2],
}

const V2: Names = Names {
    line: "0::",
    root: "/sys/fs/cgroup",
    limit: "memory.max",
    used: "memory.current",
    cached: ["inactive_file", "active_file"],
};

/// Without a limit, the file holds a number above all memory.
const V1: Names = Names {
    line: ":memory:",
    root: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    cached: ["total_inactive_file", "total_active_file"],
};

fn smallest(
    root: &Path,
    own: &Path,
    names: &Names,
    number: fn(&Path, &Names) -> Option<f64>,
) -> Option<f64> {
    own.ancestors().filter_map(|group| number(&root.join(group), names)).reduce(f64::min)
}

/// The limit of a control group, in MiB; none if its text is "max".
fn limit_mb(group: &Path, names: &Names) -> Option<f64> {
    bytes_mb(&std::fs::read_to_string(group.join(names.limit)).ok()?)
}

/// What the limit leaves. Cached files do not count: the system drops them first.
fn left_mb(group: &Path, names: &Names) -> Option<f64> {
    let read = |file| std::fs::read_to_string(group.join(file));
    let stat = read("memory.stat").unwrap_or_default();
    let cached = stat.lines().filter_map(|line| line.split_once(' '));
    let cached = cached.filter(|(name, _)| names.cached.contains(name));
    let cached: f64 = cached.filter_map(|(_, bytes)| bytes_mb(bytes)).sum();
    let used = bytes_mb(&read(names.used).ok()?)?;
    Some((limit_mb(group, names)? - (used - cached).max(0.0)).max(0.0))
}

fn bytes_mb(text: &str) -> Option<f64> {
    Some(text.trim().parse::<f64>().ok()? / (1024.0 * 1024.0))
}

/// Refuses a search or training that needs more than `limit` MiB, if there is a limit, or on the CPU than there is at all; `needed`
/// estimates that of a batch, whose size is the setting `key`.
pub(crate) fn check(
    device: DeviceName,
    limit: u64,
    key: &str,
    batch: usize,
    needed: impl Fn(usize) -> f64,
) -> Result<(), Error> {
    let total = total_mb().filter(|_| device == DeviceName::Cpu);
    let (total, limit) = (total.unwrap_or(f64::INFINITY), limit as f64);
    let (most, what) = match limit > 0.0 && limit < total {
        true => (limit, "limits.memory_mb"),
        false => (total, "memory of this machine, in MiB"),
    };
    if needed(batch) <= most {
        return Ok(());
    }
    let (mut fitting, mut broken) = (0, batch);
    while broken - fitting > 1 {
        let middle = usize::midpoint(fitting, broken);
        if needed(middle) <= most { fitting = middle } else { broken = middle }
    }
    let remedy = match fitting {
        0 => "no batch would fit; use fewer channels or cells".to_owned(),
        fitting => format!("--set {key}={fitting} would fit"),
    };
    Err(Error::Config(format!(
        "{what}: expected at least {:.0}, the estimate with {key}={batch}, found {most:.0}; {remedy}",
        needed(batch).ceil()
    )))
}

fn field_mb(file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_a_group_and_those_around_it_counts() -> std::io::Result<()> {
        let root = tempfile::tempdir()?;
        let own = Path::new("outer/inner");
        std::fs::create_dir_all(root.path().join(own))?;
        let write = |group: &str, file: &str, text: &str| {
            std::fs::write(root.path().join(group).join(file), text)
        };
        let mib = |mib: u64| format!("{}\n", mib << 20);
        let left = || smallest(root.path(), own, &V2, left_mb);
        assert_eq!(left(), None);
        write("outer/inner", "memory.max", "max\n")?;
        write("outer/inner", "memory.current", &mib(300))?;
        assert_eq!(left(), None);
        write("outer", "memory.max", &mib(1000))?;
        write("outer", "memory.current", &mib(400))?;
        assert_eq!(left(), Some(600.0));
        let stat = format!("anon 5\ninactive_file {}active_file {}", mib(200), mib(50));
        write("outer", "memory.stat", &stat)?;
        assert_eq!(left(), Some(850.0), "cached files are dropped first");
        write("outer/inner", "memory.max", &mib(310))?;
        assert_eq!(left(), Some(10.0));
        assert_eq!(smallest(root.path(), own, &V2, limit_mb), Some(310.0));
        write("outer", V1.limit, &mib(900))?;
        write("outer", V1.used, &mib(100))?;
        assert_eq!(smallest(root.path(), own, &V1, left_mb), Some(800.0));
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_batch_that_does() {
        let needed = |batch: usize| 100.0 + 2.5 * batch as f64;
        let cpu = |limit, needed: &dyn Fn(usize) -> f64| {
            check(DeviceName::Cpu, limit, "train.batch", 96, needed)
        };
        assert!(cpu(0, &needed).is_ok());
        // Where the system tells how much there is.
        if total_mb().is_some() {
            let text = cpu(0, &|_| 1e12).unwrap_err().to_string();
            assert!(
                text.contains("memory of this machine, in MiB: expected at least 1000000000000"),
                "{text}"
            );
        }
        if total_mb().is_some() {
            let text = cpu(1 << 40, &|_| 1e12).unwrap_err().to_string();
            assert!(
                text.contains("memory of this machine"),
                "a limit above it is not at fault: {text}"
            );
        }
        assert!(check(DeviceName::Wgpu, 0, "train.batch", 96, |_| 1e12).is_ok());
        assert!(cpu(340, &needed).is_ok());
        let refused = |limit| cpu(limit, &needed).unwrap_err().to_string();
        assert!(refused(339).contains("at least 340") && refused(339).contains("=95 would fit"));
        assert!(refused(80).contains("no batch would fit"), "{}", refused(80));
    }
}
