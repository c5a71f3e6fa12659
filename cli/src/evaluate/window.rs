//! The rows of an evaluation that are worked on at a time, and what of them is read ahead into memory.

use std::ops::Range;

use ndarray::{ArrayView, ShapeError};
use xent::{Batch, Targets};

use super::Files;
use crate::failure::Failure;
use crate::files::{FileError, FloatReader, FloatRows, Labels};

/// Some rows of all files, with room kept from one read to the next.
pub(super) struct Window {
    /// None: they are read by those who work on them, and so are dense targets.
    predictions: Option<FloatRows>,
    targets: TargetRows,
    /// As many as rows, or one for all.
    sample_weights: Vec<f64>,
}

enum TargetRows {
    Classes(Labels),
    /// float32: no backend takes others without widening them.
    Dense(Vec<f32>),
}

/// What reads the rows of a window that are not in it.
pub(super) struct Readers<'f> {
    predictions: FloatReader<'f>,
    targets: FloatReader<'f>,
}

impl<'f> Readers<'f> {
    /// Those of the rows from `first` on.
    pub(super) fn new(files: &'f Files, first: usize) -> Self {
        let inputs = &files.inputs;
        Self {
            predictions: FloatReader::new(&inputs.predictions, inputs.axis, first),
            targets: FloatReader::new(&inputs.targets, inputs.axis, first),
        }
    }
}

impl Window {
    /// One without rows yet. Unless it is `whole`, what has a number for each class stays in the files.
    pub(super) fn of(files: &Files, whole: bool) -> Self {
        let inputs = &files.inputs;
        Self {
            predictions: whole.then(|| FloatRows::of(&inputs.predictions)),
            targets: if inputs.dense {
                TargetRows::Dense(Vec::new())
            } else {
                TargetRows::Classes(Labels::of(&inputs.targets))
            },
            sample_weights: Vec::new(),
        }
    }

    /// Bytes that a row takes in the window.
    pub(super) fn row_bytes(&self, files: &Files) -> usize {
        let of_classes = |bytes: usize| files.inputs.classes.saturating_mul(bytes);
        let predictions = self.predictions.as_ref().map_or(0, |predictions| of_classes(predictions.element_bytes()));
        let targets = match &self.targets {
            TargetRows::Classes(labels) => labels.element_bytes(),
            TargetRows::Dense(_) if self.predictions.is_none() => 0,
            TargetRows::Dense(_) => of_classes(size_of::<f32>()),
        };
        let weights = if files.has_weight_per_row() { size_of::<f64>() } else { 0 };
        predictions.saturating_add(targets).saturating_add(weights)
    }

    /// Reads rows in place of those before.
    ///
    /// # Errors
    /// A file that cannot be read or has become shorter.
    pub(super) fn read(&mut self, files: &Files, rows: Range<usize>) -> Result<(), FileError> {
        let inputs = &files.inputs;
        let whole = self.predictions.is_some();
        if let Some(predictions) = &mut self.predictions {
            predictions.read(&inputs.predictions, inputs.axis, rows.clone())?;
        }
        match &mut self.targets {
            TargetRows::Classes(labels) => labels.read(&inputs.targets, rows.clone())?,
            TargetRows::Dense(_) if !whole => {}
            TargetRows::Dense(targets) => inputs.targets.read_rows_f32(inputs.axis, rows.clone(), targets)?,
        }
        match &files.sample_weights {
            Some(source) => source.read_f64(if files.has_weight_per_row() { rows } else { 0..1 }, &mut self.sample_weights),
            None => Ok(()),
        }
    }

    /// The rows as the library takes them; `readers` are theirs.
    ///
    /// # Errors
    /// None that could be met with: what was read has the shape that was asked for.
    pub(super) fn batch<'w>(&'w self, files: &Files, rows: usize, readers: &'w Readers<'_>) -> Result<Batch<'w>, Failure> {
        let shape_of = |error: ShapeError| Failure::Data(format!("{}: {error}", files.inputs.predictions.name()));
        let classes = files.inputs.classes;
        let batch = match (&self.predictions, &self.targets) {
            (None, TargetRows::Classes(labels)) => {
                Batch::reading(rows, classes, readers.predictions.reader(), Targets::classes(labels.view()))?
            }
            (None, TargetRows::Dense(_)) => {
                Batch::reading_dense(rows, classes, readers.predictions.reader(), readers.targets.reader())
            }
            (Some(predictions), TargetRows::Classes(labels)) => {
                Batch::new(predictions.view(rows, classes).map_err(shape_of)?, Targets::classes(labels.view()))?
            }
            (Some(predictions), TargetRows::Dense(targets)) => {
                let targets = ArrayView::from_shape((rows, classes), targets).map_err(shape_of)?;
                Batch::new(predictions.view(rows, classes).map_err(shape_of)?, Targets::dense(targets))?
            }
        };
        Ok(match &files.sample_weights {
            None => batch,
            Some(_) if files.has_weight_per_row() => batch.sample_weights(ArrayView::from(&self.sample_weights))?,
            Some(_) => batch.sample_weights(ArrayView::from_shape((), &self.sample_weights).map_err(shape_of)?)?,
        })
    }
}
