//! The windows that the program asks for: rows of floats, class indices, weights.

use super::dtype::{Dtype, Number};
use super::gather::{gather, in_order};
use super::source::Source;
use super::{FileError, shape_text};
use std::fmt;
use std::io::ErrorKind;
use std::ops::Range;

/// Float class indices converted at a time.
const BLOCK: usize = 64 << 10;

impl Source {
    /// The values of `rows` along `axis`, as `[rows, shape[axis]]` in row-major order, in place of what `out` held. A row
    /// is one position on every other axis, numbered in the row-major order of those axes. float64 and integers are
    /// rounded to the nearest float32.
    ///
    /// With `axis` the fastest in a file of native float32, this is one read straight into `out`; otherwise it needs a few
    /// MiB of working memory, whatever the shape, and is fastest for windows of some thousand rows.
    ///
    /// # Errors
    /// A file that cannot be read or has become shorter; an axis or rows that the array does not have.
    pub(crate) fn read_rows_f32(&self, axis: usize, rows: Range<usize>, out: &mut Vec<f32>) -> Result<(), FileError> {
        self.read_rows(axis, rows, out)
    }

    /// Whether rows along `axis` lie in the file as they do in a window, so that a window of any length is one read.
    pub(crate) fn has_rows_in_order(&self, axis: usize) -> bool {
        in_order(&self.array().header, Some(axis))
    }

    /// As [`read_rows_f32`](Self::read_rows_f32), in a type that the file's may be read as.
    pub(super) fn read_rows<T: Number>(&self, axis: usize, rows: Range<usize>, out: &mut Vec<T>) -> Result<(), FileError> {
        let classes = self.check_rows(axis, &rows)?;
        // No more than the array's elements, which fit in the file.
        set_length(out, rows.len() * classes);
        self.fill(Some(axis), rows, out)
    }

    /// The same into memory of just that size.
    ///
    /// # Errors
    /// As [`read_rows_f32`](Self::read_rows_f32).
    ///
    /// # Panics
    /// Where `out` is too short.
    pub(super) fn fill_rows<T: Number>(&self, axis: usize, rows: Range<usize>, out: &mut [T]) -> Result<(), FileError> {
        self.check_rows(axis, &rows)?;
        self.fill(Some(axis), rows, out)
    }

    /// The length of `axis`, if it is there and so are the rows.
    fn check_rows(&self, axis: usize, rows: &Range<usize>) -> Result<usize, FileError> {
        let shape = self.shape();
        let Some(&classes) = shape.get(axis) else {
            return Err(self.error(format_args!("the shape {} has no axis {axis}", shape_text(shape))));
        };
        let total = shape.iter().enumerate().filter(|&(index, _)| index != axis).map(|(_, &length)| length).product();
        self.check_range(rows, total)?;
        Ok(classes)
    }

    /// The elements of `range` in row-major order as whole numbers, in place of what `out` held. bool reads as 0 and 1.
    ///
    /// # Errors
    /// A float that is not a whole number, or a value outside i64's range, with its place and the number of classes; a file that
    /// cannot be read or has become shorter; elements that the array does not have.
    pub(crate) fn read_labels(&self, range: Range<usize>, classes: usize, out: &mut Vec<i64>) -> Result<(), FileError> {
        if self.is_float() {
            return self.read_whole_floats(range, classes, out);
        }
        let first = range.start;
        self.read_elements(range, out)?;
        if self.array().header.dtype == Dtype::U64 {
            // The upper half of u64 comes out negative.
            if let Some(at) = out.iter().position(|&value| value < 0) {
                return Err(self.no_class(first + at, out[at] as u64, classes));
            }
        }
        Ok(())
    }

    /// The elements of `range` in row-major order, in place of what `out` held. Integers beyond 2^53 are rounded.
    ///
    /// # Errors
    /// A file that cannot be read or has become shorter; elements that the array does not have.
    pub(crate) fn read_f64(&self, range: Range<usize>, out: &mut Vec<f64>) -> Result<(), FileError> {
        self.read_elements(range, out)
    }

    /// The elements of `range` in row-major order, in a type that the file's may be read as.
    pub(super) fn read_elements<T: Number>(&self, range: Range<usize>, out: &mut Vec<T>) -> Result<(), FileError> {
        self.check_range(&range, self.elements())?;
        set_length(out, range.len());
        self.fill(None, range, out)
    }

    fn read_whole_floats(&self, range: Range<usize>, classes: usize, out: &mut Vec<i64>) -> Result<(), FileError> {
        // 2^63 and its negative are floats of every width that reaches them.
        const LIMIT: f64 = 9_223_372_036_854_775_808.0;
        self.check_range(&range, self.elements())?;
        out.clear();
        out.reserve(range.len());
        let mut floats = Vec::new();
        for start in range.clone().step_by(BLOCK) {
            self.read_f64(start..range.end.min(start + BLOCK), &mut floats)?;
            for (at, &value) in floats.iter().enumerate() {
                // NaN and the infinities differ from their whole part, or have none.
                if !value.is_finite() || value.trunc() != value {
                    let problem = format_args!("{value:?} is not a whole number, so none of the {classes} classes");
                    return Err(FileError::at_row(self.name(), start + at, problem));
                }
                if !(-LIMIT..LIMIT).contains(&value) {
                    return Err(self.no_class(start + at, value, classes));
                }
                out.push(value as i64);
            }
        }
        Ok(())
    }

    fn fill<T: Number>(&self, axis: Option<usize>, rows: Range<usize>, out: &mut [T]) -> Result<(), FileError> {
        let result = self.borrow_scratch(|scratch| gather(self.array(), axis, rows, out, scratch));
        result.map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => self.error(format_args!("became shorter while it was read: {error}")),
            _ => self.error(format_args!("cannot read: {error}")),
        })
    }

    fn check_range(&self, range: &Range<usize>, total: usize) -> Result<(), FileError> {
        if range.start <= range.end && range.end <= total {
            return Ok(());
        }
        let shape = shape_text(self.shape());
        Err(self.error(format_args!("rows {} to {} of {total} are asked for; the shape is {shape}", range.start, range.end)))
    }

    fn error(&self, problem: impl fmt::Display) -> FileError {
        FileError::new(self.name(), problem)
    }
}

/// Gives `out` its length without touching what a former window left, all of which is overwritten.
fn set_length<T: Number>(out: &mut Vec<T>, length: usize) {
    if length > out.capacity() {
        // The old memory goes first, and the new comes from the system as zeros: nothing is filled or copied.
        *out = Vec::new();
        *out = vec![T::zeroed(); length];
    } else {
        out.resize(length, T::zeroed());
    }
}
