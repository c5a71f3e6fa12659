//! The rows of an evaluation that are in memory at a time.

use std::ops::Range;

use ndarray::{ArrayView, ShapeError};
use xent::{Batch, Targets};

use super::Files;
use crate::failure::Failure;
use crate::files::{FileError, FloatRows, Labels};

/// Some rows of all files, with room kept from one read to the next.
pub(super) struct Window {
    predictions: FloatRows,
    targets: TargetRows,
    /// As many as rows, or one for all.
    sample_weights: Vec<f64>,
}

enum TargetRows {
    Classes(Labels),
    /// float32: no backend takes others without widening them.
    Dense(Vec<f32>),
}

impl Window {
    /// One without rows yet.
    pub(super) fn of(files: &Files) -> Self {
        let inputs = &files.inputs;
        Self {
            predictions: FloatRows::of(&inputs.predictions),
            targets: if inputs.dense {
                TargetRows::Dense(Vec::new())
            } else {
                TargetRows::Classes(Labels::of(&inputs.targets))
            },
            sample_weights: Vec::new(),
        }
    }

    /// Bytes that a row takes.
    pub(super) fn row_bytes(&self, files: &Files) -> usize {
        let of_classes = |bytes: usize| files.inputs.classes.saturating_mul(bytes);
        let targets = match &self.targets {
            TargetRows::Classes(labels) => labels.element_bytes(),
            TargetRows::Dense(_) => of_classes(size_of::<f32>()),
        };
        let weights = if files.has_weight_per_row() { size_of::<f64>() } else { 0 };
        of_classes(self.predictions.element_bytes()).saturating_add(targets).saturating_add(weights)
    }

    /// Reads rows in place of those before.
    ///
    /// # Errors
    /// A file that cannot be read or has become shorter.
    pub(super) fn read(&mut self, files: &Files, rows: Range<usize>) -> Result<(), FileError> {
        let inputs = &files.inputs;
        self.predictions.read(&inputs.predictions, inputs.axis, rows.clone())?;
        match &mut self.targets {
            TargetRows::Classes(labels) => labels.read(&inputs.targets, rows.clone())?,
            TargetRows::Dense(targets) => inputs.targets.read_rows_f32(inputs.axis, rows.clone(), targets)?,
        }
        match &files.sample_weights {
            Some(source) => source.read_f64(if files.has_weight_per_row() { rows } else { 0..1 }, &mut self.sample_weights),
            None => Ok(()),
        }
    }

    /// The rows as the library takes them.
    ///
    /// # Errors
    /// None that could be met with: what was read has the shape that was asked for.
    pub(super) fn batch(&self, files: &Files, rows: usize) -> Result<Batch<'_>, Failure> {
        let shape_of = |error: ShapeError| Failure::Data(format!("{}: {error}", files.inputs.predictions.name()));
        let classes = files.inputs.classes;
        let targets = match &self.targets {
            TargetRows::Classes(labels) => Targets::classes(labels.view()),
            TargetRows::Dense(targets) => Targets::dense(ArrayView::from_shape((rows, classes), targets).map_err(shape_of)?),
        };
        let batch = Batch::new(self.predictions.view(rows, classes).map_err(shape_of)?, targets)?;
        Ok(match &files.sample_weights {
            None => batch,
            Some(_) if files.has_weight_per_row() => batch.sample_weights(ArrayView::from(&self.sample_weights))?,
            Some(_) => batch.sample_weights(ArrayView::from_shape((), &self.sample_weights).map_err(shape_of)?)?,
        })
    }
}
