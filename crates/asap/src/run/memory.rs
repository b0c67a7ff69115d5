//! Estimated memory of a step, and the memory of the process where the system reports it (Linux).

use asap_core::Cost;

/// Fraction of all outputs that a step keeps or works on: depthwise ones are recomputed. Measured.
const KEPT_ACTIVATIONS: f64 = 0.65;
/// Value, momentum, gradient and temporary values of a step.
const WEIGHT_COPIES: f64 = 6.0;
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

/// Memory available to a new program without swapping, in MiB.
pub fn available_mb() -> Option<f64> {
    field_mb("/proc/meminfo", "MemAvailable:")
}

fn field_mb(file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
