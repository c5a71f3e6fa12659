//! Output that appears under its name only when it is complete.

use std::fmt::Display;
use std::fs;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::FileError;
use super::unfinished::Unfinished;

/// A file to be: a temporary one beside its destination, which [`keep`](Self::keep) renames. Dropped before that, or ended by a
/// signal, it leaves nothing behind, and a file that was there before stays as it was.
#[derive(Debug)]
pub(crate) struct WholeFile {
    /// As the user wrote it, for messages.
    name: String,
    /// Where the file goes; links are followed.
    destination: PathBuf,
    file: NamedTempFile,
    unfinished: Unfinished,
}

impl WholeFile {
    /// Everything that can be known to fail fails here, before any work is done.
    ///
    /// # Errors
    /// A destination that is not a regular file or is read-only, a folder that is missing or not writable.
    pub(crate) fn create(path: &Path) -> Result<Self, FileError> {
        let name = path.display().to_string();
        let cannot_write = |why: &dyn Display| cannot_write(&name, why);
        match fs::metadata(path) {
            // To rename over a device or a pipe would replace it.
            Ok(there) if !there.is_file() => return Err(cannot_write(&"there is something that is not a regular file")),
            Ok(there) if there.permissions().readonly() => return Err(cannot_write(&"the file that is there is read-only")),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot_write(&error)),
        }
        if path.file_name().is_none() {
            return Err(cannot_write(&"not the name of a file"));
        }
        // A link stays, and the file that it names is replaced.
        let destination = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let folder = match destination.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".xent-").suffix(".part");
        // The usual permissions of a new file, which the process' mask cuts, instead of a temporary file's private ones.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let (file, unfinished) = Unfinished::create(|| builder.tempfile_in(folder), NamedTempFile::path)
            // The error of `tempfile` names its own file, which nobody asked for.
            .map_err(|error| cannot_write(&format_args!("no file can be made in its folder: {}", error.kind())))?;
        Ok(Self { name, destination, file, unfinished })
    }

    /// What it is to be called, as the user wrote it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Fills the file with this and nothing else.
    ///
    /// # Errors
    /// A file system that is full or fails.
    pub(crate) fn fill(&mut self, contents: &[u8]) -> Result<(), FileError> {
        self.file.write_all(contents).map_err(|error| cannot_write(&self.name, &error))
    }

    /// Gives the file its name, replacing one that was there.
    ///
    /// # Errors
    /// A file system that fails. The destination is then left as it was.
    pub(crate) fn keep(self) -> Result<(), FileError> {
        let Self { name, destination, file, unfinished } = self;
        file.persist(&destination).map_err(|error| cannot_write(&name, &error.error))?;
        // Not before it has its name.
        drop(unfinished);
        Ok(())
    }
}

/// Why this file cannot be written.
pub(super) fn cannot_write(name: &str, why: &dyn Display) -> FileError {
    FileError::new(name, format_args!("cannot write: {why}"))
}

impl Write for WholeFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for WholeFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
