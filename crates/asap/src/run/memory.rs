//! Estimated memory of a step, and the memory of the process where the system reports it (Linux).

use std::path::Path;

use asap_core::Cost;

use crate::error::Error;

/// Fraction of all outputs that a step keeps or works on: depthwise ones are recomputed. Measured.
const KEPT_ACTIVATIONS: f64 = 0.65;
/// Value, momentum, gradient and temporary values of a step.
const WEIGHT_COPIES: f64 = 6.0;
/// What may be exceeded without a limit, since it is estimated.
const SLACK: f64 = 1.25;
/// The program itself, in MiB.
const RESIDENT_MB: f64 = 100.0;

/// Estimated memory of the training of a network, in MiB, with `batch` images per step.
pub fn activations_mb(cost: &Cost, batch: usize) -> f64 {
    let floats = KEPT_ACTIVATIONS * batch as f64 * cost.activations as f64
        + WEIGHT_COPIES * cost.params as f64;
    4.0 * floats / (1024.0 * 1024.0) + RESIDENT_MB
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
    of_machine.into_iter().chain(left_in_groups_mb(Path::new("/sys/fs/cgroup"))).reduce(f64::min)
}

/// What the limits of this process's control group and of those around it leave, in MiB (cgroup v2).
fn left_in_groups_mb(root: &Path) -> Option<f64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    left_mb(root, Path::new(own))
}

fn left_mb(root: &Path, own: &Path) -> Option<f64> {
    let left = |group: &Path| {
        let bytes = |file| -> Option<f64> {
            std::fs::read_to_string(root.join(group).join(file)).ok()?.trim().parse().ok()
        };
        // Without a limit its text is "max".
        Some((bytes("memory.max")? - bytes("memory.current")?).max(0.0) / (1024.0 * 1024.0))
    };
    own.ancestors().filter_map(left).reduce(f64::min)
}

/// Refuses a search or training that needs more than `limit` MiB or, without a limit, much more than there is; `needed` estimates that
/// of a batch, whose size is the setting `key`.
pub(crate) fn check(
    limit: u64,
    key: &str,
    batch: usize,
    needed: impl Fn(usize) -> f64,
) -> Result<(), Error> {
    let (most, what) = match limit {
        0 => (available_mb().map_or(f64::INFINITY, |free| SLACK * free), "free memory, in MiB"),
        limit => (limit as f64, "limits.memory_mb"),
    };
    if needed(batch) <= most {
        return Ok(());
    }
    let remedy = match (1..batch).rev().find(|&batch| needed(batch) <= most) {
        Some(fitting) => format!("--set {key}={fitting} would fit"),
        None => "no batch would fit; use fewer channels or cells".to_owned(),
    };
    let found = if limit == 0 { most / SLACK } else { most };
    Err(Error::Config(format!(
        "{what}: expected at least {:.0}, the estimate with {key}={batch}, found {found:.0}; {remedy}",
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
        assert_eq!(left_mb(root.path(), own), None);
        write("outer/inner", "memory.max", "max\n")?;
        write("outer/inner", "memory.current", &mib(300))?;
        assert_eq!(left_mb(root.path(), own), None);
        write("outer", "memory.max", &mib(1000))?;
        write("outer", "memory.current", &mib(400))?;
        assert_eq!(left_mb(root.path(), own), Some(600.0));
        write("outer/inner", "memory.max", &mib(310))?;
        assert_eq!(left_mb(root.path(), own), Some(10.0));
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused_with_the_batch_that_does() {
        let needed = |batch: usize| 100.0 + 2.5 * batch as f64;
        assert!(check(0, "train.batch", 96, needed).is_ok());
        let text = check(0, "train.batch", 96, |_| 1e12).unwrap_err().to_string();
        assert!(text.contains("free memory, in MiB: expected at least 1000000000000"), "{text}");
        assert!(check(340, "train.batch", 96, needed).is_ok());
        let refused = |limit| check(limit, "train.batch", 96, needed).unwrap_err().to_string();
        assert!(refused(339).contains("at least 340") && refused(339).contains("=95 would fit"));
        assert!(refused(80).contains("no batch would fit"), "{}", refused(80));
    }
}
