//! Opening: which file, which array in it, and whether all of it is there.

use super::npy::{self, Header};
use super::{FileError, npz, safetensors, shape_text};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// One array inside a file: opened, its header checked, read window by window.
///
/// Reads take `&self` and are positioned, so threads may share a source. A deflated member of a `.npz` is checked against
/// its checksum when it is opened; everything else is trusted to the file system.
#[derive(Debug)]
pub(crate) struct Source {
    spec: String,
    array: Array,
    /// Working memory of reads before, kept for the next ones; see [`Source::borrow_scratch`].
    scratch: Mutex<Vec<Vec<u64>>>,
}

/// What a container's reader finds: where the elements are and what they are.
#[derive(Debug)]
pub(super) struct Array {
    pub(super) file: File,
    /// The file's byte at which the first element starts.
    pub(super) start: u64,
    pub(super) header: Header,
}

/// A part of a file that holds a `.npy` or bare elements.
#[derive(Debug)]
pub(super) struct FileSection {
    pub(super) file: File,
    pub(super) start: u64,
    pub(super) length: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Npy,
    Npz,
    Safetensors,
}

impl Source {
    /// Opens `path.npy`, `path.npz:NAME` or `path.safetensors:NAME`; `:NAME` may be left out where the file holds exactly
    /// one array. A path may itself hold colons. Names of unknown kind are opened if they hold `.npy` data.
    ///
    /// # Errors
    /// A file or member that is missing, damaged, cut short, or of a type that cannot be read.
    pub(crate) fn open(spec: &str) -> Result<Self, FileError> {
        let (path, member) = split(spec);
        let cannot_open = |error: io::Error| FileError::new(path, format_args!("cannot open: {error}"));
        // Before opening: to open a pipe would wait for a writer.
        if !fs::metadata(path).map_err(cannot_open)?.is_file() {
            return Err(FileError::new(path, "not a regular file, so it cannot be read in windows"));
        }
        let file = File::open(path).map_err(cannot_open)?;
        let length = file.metadata().map_err(cannot_open)?.len();

        let mut start = [0; 6];
        let known = length.min(6) as usize;
        let sniffed = read_exact_at(&file, &mut start[..known], 0);
        sniffed.map_err(|error| FileError::new(path, format_args!("cannot read: {error}")))?;
        let array = match kind_of(path) {
            Some(Kind::Npz) if !(start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06")) => {
                let start = &start[..known.min(4)];
                return Err(FileError::new(path, format_args!("not a .npz file: starts with the bytes {start:02x?}")));
            }
            Some(Kind::Npz) => npz::open(spec, file, member)?,
            Some(Kind::Safetensors) => safetensors::open(spec, file, member)?,
            None if start != *npy::MAGIC => {
                return Err(FileError::new(path, "neither .npy, .npz nor .safetensors"));
            }
            Some(Kind::Npy) | None => Array::from_npy(spec, FileSection { file, start: 0, length })?,
        };
        Ok(Self { spec: spec.to_owned(), array, scratch: Mutex::default() })
    }

    /// The lengths of the axes; empty for a single number.
    pub(crate) fn shape(&self) -> &[usize] {
        &self.array.header.shape
    }

    /// The source as the user named it, for messages.
    pub(crate) fn name(&self) -> &str {
        &self.spec
    }

    /// Whether the source is read from the file at `path`.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let same = |a: io::Result<_>, b: io::Result<_>| matches!((a, b), (Ok(a), Ok(b)) if a == b);
        same(fs::canonicalize(split(&self.spec).0), fs::canonicalize(path))
    }

    /// Whether the elements are floats; integers and bool are not.
    pub(crate) fn is_float(&self) -> bool {
        self.array.header.dtype.is_float()
    }

    /// The element type as numpy names it, such as `float32`.
    pub(crate) fn dtype_name(&self) -> &str {
        self.array.header.dtype.name()
    }

    /// Bytes of all elements as stored, uncompressed.
    pub(crate) fn stored_bytes(&self) -> u64 {
        self.elements() as u64 * self.array.header.dtype.size() as u64
    }

    /// How many elements there are. The product was checked when the array was opened.
    pub(super) fn elements(&self) -> usize {
        self.shape().iter().product()
    }

    pub(super) fn array(&self) -> &Array {
        &self.array
    }

    /// Runs `read` with the memory that a read before has left. Each of several threads has memory of its own.
    pub(super) fn borrow_scratch<R>(&self, read: impl FnOnce(&mut Vec<u64>) -> R) -> R {
        let all = || self.scratch.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = all().pop().unwrap_or_default();
        let result = read(&mut scratch);
        all().push(scratch);
        result
    }
}

impl Array {
    /// An array of which header and size are known; its elements start where the section does.
    pub(super) fn new(spec: &str, section: FileSection, header: Header) -> Result<Self, FileError> {
        header.check_size(spec, section.length)?;
        Ok(Self { file: section.file, start: section.start, header })
    }

    /// An array in `.npy` form.
    pub(super) fn from_npy(spec: &str, section: FileSection) -> Result<Self, FileError> {
        let header = npy::read_header(&mut section.reader()).map_err(|problem| FileError::new(spec, problem))?;
        let FileSection { file, start, length } = section;
        Self::new(
            spec,
            FileSection { file, start: start + header.length, length: length.saturating_sub(header.length) },
            header,
        )
    }

    /// Whether the elements' byte order is not this machine's.
    pub(super) fn is_swapped(&self) -> bool {
        self.header.big_endian != cfg!(target_endian = "big")
    }

    /// Fills `bytes` from the data's byte `at` on.
    pub(super) fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<()> {
        read_exact_at(&self.file, bytes, self.start + at)
    }
}

impl FileSection {
    /// Reads the section from its start.
    pub(super) fn reader(&self) -> Cursor<'_> {
        Cursor { section: self, at: 0 }
    }
}

impl Header {
    /// The bytes that the shape needs, if `present` holds them.
    pub(super) fn check_size(&self, spec: &str, present: u64) -> Result<u64, FileError> {
        let shape = || format!("the shape {} of {}", shape_text(&self.shape), self.dtype.name());
        // Lengths of 0 are left out: the product of the others must fit too, since callers multiply some axes and not all.
        let lengths = self.shape.iter().filter(|&&length| length != 0);
        let size = self.dtype.size();
        let Some(bytes) = lengths.copied().try_fold(size, usize::checked_mul).filter(|&bytes| isize::try_from(bytes).is_ok())
        else {
            return Err(FileError::new(
                spec,
                format_args!("{present} bytes of data, {} needs more than any file holds", shape()),
            ));
        };
        let needed = if self.shape.contains(&0) { 0 } else { bytes as u64 };
        if needed > present {
            return Err(FileError::new(spec, format_args!("cut short: {present} bytes of data, {} needs {needed}", shape())));
        }
        Ok(needed)
    }
}

/// Splits a spec into a path and the name of a member. A file that exists under the whole spec is meant as it stands;
/// otherwise the last `.npz:` or `.safetensors:` that follows an existing file's name divides, or simply the last.
fn split(spec: &str) -> (&str, Option<&str>) {
    if Path::new(spec).is_file() {
        return (spec, None);
    }
    let mut last = None;
    for (colon, _) in spec.rmatch_indices(':') {
        let (path, member) = (&spec[..colon], &spec[colon + 1..]);
        if matches!(kind_of(path), Some(Kind::Npz | Kind::Safetensors)) {
            if Path::new(path).is_file() {
                return (path, Some(member));
            }
            last = last.or(Some((path, Some(member))));
        }
    }
    last.unwrap_or((spec, None))
}

/// The format that a name stands for.
pub(super) fn kind_of(path: &str) -> Option<Kind> {
    let extension = Path::new(path).extension()?.to_str()?;
    match extension.to_ascii_lowercase().as_str() {
        "npy" => Some(Kind::Npy),
        "npz" => Some(Kind::Npz),
        "safetensors" => Some(Kind::Safetensors),
        _ => None,
    }
}

/// A section read from its start, without moving anybody's file position.
pub(super) struct Cursor<'a> {
    section: &'a FileSection,
    at: u64,
}

impl Read for Cursor<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = (self.section.length - self.at).min(bytes.len() as u64) as usize;
        let count = read_some_at(&self.section.file, &mut bytes[..count], self.section.start + self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// Fills `bytes` from `at` on; a file that ends before is [`ErrorKind::UnexpectedEof`].
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match read_some_at(file, bytes, at) {
            Ok(0) => {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("ends at or before byte {at}")));
            }
            Ok(count) => {
                bytes = &mut bytes[count..];
                at += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(unix)]
fn read_some_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, at)
}

#[cfg(windows)]
fn read_some_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, at)
}
