//! Files that are replaced as a whole.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use crate::error::Error;

/// The beginning and end of the names of temporary files.
const TEMPORARY: [&str; 2] = [".asap-", ".tmp"];

/// True for the name of a file that [`replace`] writes first. One that is left is of a process that was killed.
pub fn is_temporary(name: &OsStr) -> bool {
    let [start, end] = TEMPORARY.map(str::as_bytes);
    let name = name.as_encoded_bytes();
    name.starts_with(start) && name.ends_with(end)
}

/// Replaces a file as a whole: a crash or a full disk leaves the old one, or none, and no temporary file that a later
/// reader could mistake for it.
///
/// # Errors
/// [`Error::Io`] if it cannot be written.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let write = || -> io::Result<()> {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        {
            // The permissions that the umask gives; temporary files are private otherwise.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let mut file = builder.prefix(TEMPORARY[0]).suffix(TEMPORARY[1]).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        // The new name is on disk only once the folder is; systems that cannot open a folder do without.
        File::open(folder).and_then(|folder| folder.sync_all()).or(Ok(()))
    };
    write().map_err(Error::io("write", path))
}
