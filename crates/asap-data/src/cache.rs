use std::path::PathBuf;

/// The user's folder of what can be made again, and so be deleted at any time: `$XDG_CACHE_HOME/asap`, or `~/.cache/asap`.
/// Without either variable there is none.
pub fn cache_folder() -> Option<PathBuf> {
    let cache = variable("XDG_CACHE_HOME").or_else(|| Some(variable("HOME")?.join(".cache")));
    Some(cache?.join("asap"))
}

/// The path in an environment variable that is set and not empty.
pub(crate) fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
