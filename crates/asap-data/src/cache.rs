//! The user's folder for this program.

use std::path::PathBuf;

/// The user's folder for this program: `$XDG_CACHE_HOME/asap`, or `~/.cache/asap`; `None` without either variable. It keeps unpacked
/// archives and tables of latencies, which can be made again, and known data sets that were put there.
pub fn cache_folder() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    Some(cache?.join("asap"))
}

/// The path in an environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
