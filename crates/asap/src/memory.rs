//! How much memory the process uses, where the system tells (Linux).

/// Largest resident memory of this process so far, in MiB.
pub fn peak_rss_mb() -> Option<f64> {
    field_mb("/proc/self/status", "VmHWM:")
}

/// Resident memory of this process, in MiB.
pub fn rss_mb() -> Option<f64> {
    field_mb("/proc/self/status", "VmRSS:")
}

/// Memory that a new program can have without swapping, in MiB.
pub fn available_mb() -> Option<f64> {
    field_mb("/proc/meminfo", "MemAvailable:")
}

fn field_mb(file: &str, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}
