//! New files that a command writes.

use std::path::{Path, PathBuf};

use crate::failure::Usage;

/// Writes a new file; an existing one is an error.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<PathBuf> {
    refuse_existing(path)?;
    asap_net::files::replace(path, bytes)?;
    Ok(path.to_owned())
}

/// Refuses a path where something is.
pub(crate) fn refuse_existing(path: &Path) -> anyhow::Result<()> {
    if path.exists() {
        let path = path.display();
        let fault = format!(
            "{path}: expected a new file, found an existing one; nothing was changed; choose another --out"
        );
        return Err(Usage(fault).into());
    }
    Ok(())
}

/// The error of a file that cannot be written.
pub(crate) fn cannot_write(path: &Path, error: &std::io::Error) -> anyhow::Error {
    Usage(format!("cannot write {}: {error}", path.display())).into()
}
