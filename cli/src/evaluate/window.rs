//! The rows of an evaluation that are worked on at a time, and what of them is read ahead into memory.

use std::ops::Range;

use ndarray::{ArrayView, ShapeError};
use xent::{Batch, Reader, Targets};

use super::Files;
use crate::failure::Failure;
use crate::files::{FileError, FloatReader, FloatRows, Labels};

/// Some rows of all files, with room kept from one read to the next.
pub(super) struct Window<'f> {
    files: &'f Files,
    rows: Rows<'f>,
    /// As many as rows, or one for all.
    sample_weights: Vec<f64>,
}

/// Predictions and targets: held in memory, or read by those who work on them where they have a number for each class.
enum Rows<'f> {
    Held(FloatRows, Labels),
    /// Dense targets are float32: no backend takes others without widening them.
    HeldDense(FloatRows, Vec<f32>),
    InFiles(FloatReader<'f>, Labels),
    InFilesDense(FloatReader<'f>, FloatReader<'f>),
}

impl<'f> Window<'f> {
    /// One without rows yet, which holds all of its rows, or what is read of them when their turn comes.
    pub(super) fn new(files: &'f Files, holds: bool) -> Self {
        let inputs = &files.inputs;
        let labels = || Labels::of(&inputs.targets);
        let in_file = |source| FloatReader::new(source, inputs.axis);
        let rows = match (holds, inputs.dense) {
            (true, false) => Rows::Held(FloatRows::of(&inputs.predictions), labels()),
            (true, true) => Rows::HeldDense(FloatRows::of(&inputs.predictions), Vec::new()),
            (false, false) => Rows::InFiles(in_file(&inputs.predictions), labels()),
            (false, true) => Rows::InFilesDense(in_file(&inputs.predictions), in_file(&inputs.targets)),
        };
        Self { files, rows, sample_weights: Vec::new() }
    }

    /// Whether it holds all of its rows.
    pub(super) fn holds(&self) -> bool {
        matches!(self.rows, Rows::Held(..) | Rows::HeldDense(..))
    }

    /// Bytes that a row takes in memory.
    pub(super) fn row_bytes(&self) -> usize {
        let of_classes = |bytes: usize| self.files.inputs.classes.saturating_mul(bytes);
        let weights = if self.files.has_weight_per_row() { size_of::<f64>() } else { 0 };
        let rows = match &self.rows {
            Rows::Held(predictions, labels) => of_classes(predictions.element_bytes()).saturating_add(labels.element_bytes()),
            Rows::HeldDense(predictions, _) => of_classes(predictions.element_bytes() + size_of::<f32>()),
            Rows::InFiles(_, labels) => labels.element_bytes(),
            Rows::InFilesDense(..) => 0,
        };
        rows.saturating_add(weights)
    }

    /// Takes other rows in place of those before, and reads what it holds of them.
    ///
    /// # Errors
    /// A file that cannot be read or has become shorter.
    pub(super) fn read(&mut self, rows: Range<usize>) -> Result<(), FileError> {
        let Files { inputs, sample_weights } = self.files;
        match &mut self.rows {
            Rows::Held(predictions, labels) => {
                predictions.read(&inputs.predictions, inputs.axis, rows.clone())?;
                labels.read(&inputs.targets, rows.clone(), inputs.classes)?;
            }
            Rows::HeldDense(predictions, targets) => {
                predictions.read(&inputs.predictions, inputs.axis, rows.clone())?;
                inputs.targets.read_rows_f32(inputs.axis, rows.clone(), targets)?;
            }
            Rows::InFiles(predictions, labels) => {
                predictions.begin_at(rows.start);
                labels.read(&inputs.targets, rows.clone(), inputs.classes)?;
            }
            Rows::InFilesDense(predictions, targets) => {
                predictions.begin_at(rows.start);
                targets.begin_at(rows.start);
            }
        }
        match sample_weights {
            Some(source) => {
                source.read_f64(if self.files.has_weight_per_row() { rows } else { 0..1 }, &mut self.sample_weights)
            }
            None => Ok(()),
        }
    }

    /// The rows as the library takes them.
    ///
    /// # Errors
    /// None that could be met with: what was read has the shape that was asked for.
    pub(super) fn batch(&self, rows: usize) -> Result<Batch<'_>, Failure> {
        let inputs = &self.files.inputs;
        let shape_of = |error: ShapeError| Failure::Data(format!("{}: {error}", inputs.predictions.name()));
        let shape @ (rows, classes) = (rows, inputs.classes);
        let batch = match &self.rows {
            Rows::Held(predictions, labels) => {
                Batch::new(predictions.view(rows, classes).map_err(shape_of)?, Targets::classes(labels.view()))?
            }
            Rows::HeldDense(predictions, targets) => {
                let targets = ArrayView::from_shape(shape, targets).map_err(shape_of)?;
                Batch::new(predictions.view(rows, classes).map_err(shape_of)?, Targets::dense(targets))?
            }
            Rows::InFiles(predictions, labels) => {
                Batch::reading(rows, classes, predictions.reader(), Targets::classes(labels.view()))?
            }
            Rows::InFilesDense(predictions, targets) => {
                Batch::reading_dense(rows, classes, predictions.reader(), Reader::F32(targets))?
            }
        };
        Ok(match &self.files.sample_weights {
            None => batch,
            Some(_) if self.files.has_weight_per_row() => batch.sample_weights(ArrayView::from(&self.sample_weights))?,
            Some(_) => batch.sample_weights(ArrayView::from_shape((), &self.sample_weights).map_err(shape_of)?)?,
        })
    }
}
