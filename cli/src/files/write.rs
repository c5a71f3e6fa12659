//! Output: a float32 `.npy` that appears under its name only when it is complete.

use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use super::source::{Kind, kind_of};
use super::whole::{WholeFile, cannot_write};
use super::{FileError, shape_text};

/// Bytes collected before they are written.
const BUFFER: usize = 256 << 10;

/// The header's length is a multiple of this, as numpy makes it, so that the data can be mapped into memory.
const ALIGNMENT: usize = 64;

/// Writes a float32 `.npy`, C order, which has its name once it is [finished](Self::finish).
#[derive(Debug)]
pub(crate) struct NpyWriter {
    shape: Vec<usize>,
    /// Values still to come.
    missing: usize,
    /// The element that the file stands at.
    place: usize,
    /// Bytes of the header.
    start: u64,
    file: BufWriter<WholeFile>,
}

impl NpyWriter {
    /// Starts a file of this shape. Everything that can be known to fail fails here, before any work is done.
    ///
    /// # Errors
    /// As [`WholeFile::create`]; a name by which it would be read as another format; a shape with more elements than there are numbers.
    pub(crate) fn create(path: &Path, shape: &[usize]) -> Result<Self, FileError> {
        let name = path.display().to_string();
        if matches!(kind_of(&name), Some(Kind::Npz | Kind::Safetensors)) {
            return Err(cannot_write(&name, &"outputs are .npy files"));
        }
        let file = WholeFile::create(path)?;
        let Some(missing) = shape.iter().try_fold(1, |product: usize, &length| product.checked_mul(length)) else {
            let why = format_args!("the shape {} is larger than any file", shape_text(shape));
            return Err(cannot_write(file.name(), &why));
        };
        let header = header(shape);
        let start = header.len() as u64;
        let file = BufWriter::with_capacity(BUFFER, file);
        let mut writer = Self { shape: shape.to_vec(), missing, place: 0, start, file };
        writer.file.write_all(&header).map_err(|error| writer.cannot_write(&error))?;
        Ok(writer)
    }

    fn cannot_write(&self, error: &io::Error) -> FileError {
        cannot_write(self.file.get_ref().name(), error)
    }

    /// Appends values in row-major order.
    ///
    /// # Errors
    /// More values than the shape holds; a file system that is full or fails.
    pub(crate) fn write(&mut self, values: &[f32]) -> Result<(), FileError> {
        let Some(missing) = self.missing.checked_sub(values.len()) else {
            let problem =
                format_args!("{} values too many for the shape {}", values.len() - self.missing, shape_text(&self.shape));
            return Err(FileError::new(self.file.get_ref().name(), problem));
        };
        let written = if cfg!(target_endian = "little") {
            self.file.write_all(bytemuck::cast_slice(values))
        } else {
            values.iter().try_for_each(|value| self.file.write_all(&value.to_le_bytes()))
        };
        written.map_err(|error| self.cannot_write(&error))?;
        self.missing = missing;
        self.place += values.len();
        Ok(())
    }

    /// Writes rows of an array whose rows lie across axis `axis`: row r is a place on all other axes, numbered in row-major
    /// order, and `values` has each row's values along `axis`, one row after the other. Rows come in order.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(crate) fn write_rows(&mut self, axis: usize, rows: Range<usize>, values: &[f32]) -> Result<(), FileError> {
        let classes = self.shape[axis];
        // In the file, the array is slabs of `classes` × `inner` values: a slab holds `inner` rows, one to a column.
        let inner: usize = self.shape[axis + 1..].iter().product();
        if inner == 1 || classes == 0 {
            return self.write(values);
        }
        let mut column = Vec::new();
        let mut row = rows.start;
        while row < rows.end {
            let (slab, first) = (row / inner, row % inner);
            let count = (inner - first).min(rows.end - row);
            let part = &values[(row - rows.start) * classes..][..count * classes];
            let start = slab * classes * inner;
            if count == inner {
                // A whole slab, transposed, in one piece.
                column.clear();
                column.extend((0..classes).flat_map(|class| (0..inner).map(move |i| part[i * classes + class])));
                self.write_at(start, &column)?;
            } else {
                for class in 0..classes {
                    column.clear();
                    column.extend(part.iter().skip(class).step_by(classes));
                    self.write_at(start + class * inner + first, &column)?;
                }
            }
            row += count;
        }
        Ok(())
    }

    /// Writes values from element `at` on.
    fn write_at(&mut self, at: usize, values: &[f32]) -> Result<(), FileError> {
        if at != self.place {
            let byte = self.start + at as u64 * size_of::<f32>() as u64;
            let moved = self.file.seek(SeekFrom::Start(byte));
            moved.map_err(|error| self.cannot_write(&error))?;
        }
        self.place = at;
        self.write(values)
    }

    /// Writes out what is still held back, so that little can fail once the first of several files has its name.
    ///
    /// # Errors
    /// A file system that is full or fails.
    pub(crate) fn flush(&mut self) -> Result<(), FileError> {
        self.file.flush().map_err(|error| self.cannot_write(&error))
    }

    /// Gives the file its name, replacing one that was there.
    ///
    /// # Errors
    /// Fewer values than the shape holds; a file system that is full or fails. The destination is then left as it was.
    pub(crate) fn finish(self) -> Result<(), FileError> {
        let Self { shape, missing, file, .. } = self;
        let name = file.get_ref().name();
        if missing > 0 {
            let problem = format_args!("{missing} values are missing from the shape {}", shape_text(&shape));
            return Err(FileError::new(name, problem));
        }
        let name = name.to_owned();
        file.into_inner().map_err(|error| cannot_write(&name, error.error()))?.keep()
    }
}

/// Magic, version, and the dictionary padded with spaces; version 2 only where version 1 cannot hold the shape.
fn header(shape: &[usize]) -> Vec<u8> {
    let lengths: Vec<String> = shape.iter().map(ToString::to_string).collect();
    let comma = if shape.len() == 1 { "," } else { "" };
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}{comma}), }}", lengths.join(", "));
    // Magic and version, the length field, the newline at the end.
    let padded = |field: usize| (8 + field + dictionary.len() + 1).next_multiple_of(ALIGNMENT) - 8 - field;
    let mut bytes = b"\x93NUMPY".to_vec();
    let length = if let Ok(length) = u16::try_from(padded(2)) {
        bytes.extend([1, 0]);
        bytes.extend(length.to_le_bytes());
        usize::from(length)
    } else {
        bytes.extend([2, 0]);
        bytes.extend((padded(4) as u32).to_le_bytes());
        padded(4)
    };
    bytes.extend(dictionary.bytes());
    bytes.resize(bytes.len() + length - dictionary.len() - 1, b' ');
    bytes.push(b'\n');
    bytes
}
