//! Rows of floats in the type that the library takes them in: the file's own, but for float64.

use super::dtype::{Dtype, Number};
use super::{FileError, Source};
use half::{bf16, f16};
use ndarray::{ArrayView, ShapeError};
use std::error::Error;
use std::ops::Range;

/// Rows of a file from one on, for those who read them when their turn comes.
pub(crate) struct FloatReader<'a> {
    source: &'a Source,
    axis: usize,
    first: usize,
}

impl<'a> FloatReader<'a> {
    /// All rows along `axis`.
    pub(crate) fn new(source: &'a Source, axis: usize) -> Self {
        Self { source, axis, first: 0 }
    }

    /// Has rows counted from the file's row `first` on.
    pub(crate) fn begin_at(&mut self, first: usize) {
        self.first = first;
    }

    /// As the library takes predictions: in the types of [`FloatRows`].
    pub(crate) fn reader(&self) -> xent::Reader<'_> {
        match self.source.array().header.dtype {
            Dtype::F16 => xent::Reader::F16(self),
            Dtype::Bf16 => xent::Reader::Bf16(self),
            _ => xent::Reader::F32(self),
        }
    }
}

impl<T: Number> xent::ReadRows<T> for FloatReader<'_> {
    fn read_rows(&self, rows: Range<usize>, out: &mut [T]) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.source.fill_rows(self.axis, self.first + rows.start..self.first + rows.end, out)?)
    }
}

/// Rows of floats. The 16-bit types stay as they are stored; float64 is rounded to float32, which the library would do too.
#[derive(Debug)]
pub(crate) enum FloatRows {
    F16(Vec<f16>),
    Bf16(Vec<bf16>),
    F32(Vec<f32>),
}

impl FloatRows {
    /// None yet, of the type for this file.
    pub(crate) fn of(source: &Source) -> Self {
        match source.array().header.dtype {
            Dtype::F16 => Self::F16(Vec::new()),
            Dtype::Bf16 => Self::Bf16(Vec::new()),
            _ => Self::F32(Vec::new()),
        }
    }

    /// Bytes of one float in memory.
    pub(crate) fn element_bytes(&self) -> usize {
        match self {
            Self::F16(_) | Self::Bf16(_) => size_of::<f16>(),
            Self::F32(_) => size_of::<f32>(),
        }
    }

    /// Reads rows of the file that they were made for, in place of those before; see [`Source::read_rows_f32`].
    ///
    /// # Errors
    /// A file that cannot be read or has become shorter; an axis or rows that the array does not have.
    pub(crate) fn read(&mut self, source: &Source, axis: usize, rows: Range<usize>) -> Result<(), FileError> {
        match self {
            Self::F16(floats) => source.read_rows(axis, rows, floats),
            Self::Bf16(floats) => source.read_rows(axis, rows, floats),
            Self::F32(floats) => source.read_rows(axis, rows, floats),
        }
    }

    /// The rows as the library takes them.
    ///
    /// # Errors
    /// Another number of rows or classes than was read.
    pub(crate) fn view(&self, rows: usize, classes: usize) -> Result<xent::Floats<'_>, ShapeError> {
        let shape = (rows, classes);
        Ok(match self {
            Self::F16(floats) => ArrayView::from_shape(shape, floats)?.into(),
            Self::Bf16(floats) => ArrayView::from_shape(shape, floats)?.into(),
            Self::F32(floats) => ArrayView::from_shape(shape, floats)?.into(),
        })
    }
}
