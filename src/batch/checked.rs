//! Batches whose labels and weights were found good, and the windows of them that kernels take. Values are checked here and nowhere else.

use std::ops::Range;

use half::{bf16, f16};
use ndarray::ArrayViewD;

use super::{Batch, TargetRows};
use crate::error::{Error, Result};
use crate::layout::{Element, IGNORED, MOST_CLASSES};
use crate::loss::{Prepared, check_weight};
use crate::outputs::{Gradient, float_scale};
use crate::reading::{Buffer, Unread};
use crate::totals::Reduction;
use crate::views::Floats;

/// A batch whose labels and weights were found good.
pub(crate) struct Checked<'b, 'a> {
    batch: &'b Batch<'a>,
    /// Added to rows in messages.
    first_row: u64,
    ignore_index: Option<i64>,
    /// A weight a row; empty where every row has weight 1.
    pub sample_weights: Vec<f64>,
}

/// Memory that windows are gathered or read into where they do not lie ready, kept from one window to the next.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    predictions: Buffer,
    targets: Buffer,
    labels: Vec<u32>,
}

/// Rows one after the other in memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window<'a> {
    pub classes: usize,
    pub element: Element,
    /// float32; empty where `halves` holds the bits of 16-bit floats.
    pub predictions: &'a [f32],
    pub halves: &'a [u16],
    pub targets: TargetSlice<'a>,
    /// Whether what lies behind these is worth asking for: not where they have just been read, and are near.
    pub predictions_lie: bool,
    pub targets_lie: bool,
}

/// A window's targets.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TargetSlice<'a> {
    /// A class index a row, or [`IGNORED`].
    Classes(&'a [u32]),
    /// A number for each class, laid out as the predictions are.
    Dense(&'a [f32]),
}

impl<'a> Batch<'a> {
    /// Checks every label and weight. `first_row` is added in messages.
    pub(crate) fn check(&self, prepared: &Prepared, first_row: u64) -> Result<Checked<'_, 'a>> {
        if self.classes > MOST_CLASSES && self.rows() > 0 {
            let wanted = "one of at most 2^31 classes".into();
            return Err(Error::Shape { what: "a row", found: vec![self.classes], wanted });
        }
        if let TargetRows::Classes(indices) = &self.targets
            && let Some(bad) = indices.first_bad(self.classes, prepared.ignore_index)
        {
            return Err(Error::Label { row: first_row + bad.row as u64, label: bad.label, classes: self.classes });
        }
        let mut sample_weights = Vec::new();
        if let Some(weights) = &self.sample_weights {
            fn extend<T: Copy>(view: &ArrayViewD<'_, T>, to_f64: impl Fn(T) -> f64, rows: usize, out: &mut Vec<f64>) {
                match view.ndim() {
                    0 => out.extend(view.iter().cycle().take(rows).map(|&w| to_f64(w))),
                    _ => out.extend(view.iter().map(|&w| to_f64(w))),
                }
            }
            let (rows, out) = (self.rows(), &mut sample_weights);
            match weights {
                Floats::F16(view) => extend(view, f16::to_f64, rows, out),
                Floats::Bf16(view) => extend(view, bf16::to_f64, rows, out),
                Floats::F32(view) => extend(view, f64::from, rows, out),
                Floats::F64(view) => extend(view, |w| w, rows, out),
            }
            for (row, &weight) in sample_weights.iter().enumerate() {
                check_weight("row", first_row + row as u64, weight)?;
            }
        }
        Ok(Checked { batch: self, first_row, ignore_index: prepared.ignore_index, sample_weights })
    }
}

/// Labels that are looked at at a time.
const SCAN: usize = 1 << 16;

impl Checked<'_, '_> {
    /// 1 over what the batch's reduced loss is divided by; 0 where that is 0, NaN where it is no number.
    fn scale_of(&self, prepared: &Prepared, reduction: Reduction) -> f64 {
        let all = self.batch.rows();
        let sample_weight = |row: usize| self.sample_weights.get(row).copied().unwrap_or(1.0);
        let TargetRows::Classes(indices) = &self.batch.targets else {
            return inverse(match reduction {
                Reduction::Sum => 1.0,
                Reduction::Mean => all as f64,
                Reduction::WeightedMean => (0..all).map(sample_weight).sum(),
            });
        };
        let (mut kept, mut weight, mut buffer) = (0_u64, 0.0, Vec::new());
        if reduction != Reduction::Sum {
            for first in (0..all).step_by(SCAN) {
                let labels = indices.classes(first..all.min(first + SCAN), self.ignore_index, &mut buffer);
                for (row, &label) in (first..).zip(labels) {
                    if label != IGNORED {
                        kept += 1;
                        weight += sample_weight(row) * f64::from(prepared.class_weight(label as usize));
                    }
                }
            }
        }
        inverse(match reduction {
            Reduction::Sum => 1.0,
            Reduction::Mean => kept as f64,
            Reduction::WeightedMean => weight,
        })
    }

    /// What the gradients are multiplied with besides their rows' weights.
    ///
    /// # Errors
    /// Where a row that counts would be multiplied with what is no float32: its gradient would be NaN without a word.
    /// [`Error::Option`] if that is the caller's scale alone, else [`Error::RowScale`].
    pub(crate) fn scale(&self, prepared: &Prepared, gradient: Gradient) -> Result<f64> {
        let scale = match gradient {
            Gradient::Scaled(scale) => {
                if self.sample_weights.is_empty() {
                    float_scale(scale)?;
                }
                scale
            }
            Gradient::Of(reduction) => self.scale_of(prepared, reduction),
        };
        // Row by row only where one of them is bad.
        let heaviest = self.sample_weights.iter().copied().reduce(f64::max).unwrap_or(1.0);
        if float_scale(scale * heaviest).is_ok() {
            return Ok(scale);
        }
        let factor = |row: usize| scale * self.sample_weights.get(row).copied().unwrap_or(1.0);
        let is_bad = |row: &usize| self.sample_weights.get(*row) != Some(&0.0) && float_scale(factor(*row)).is_err();
        match (0..self.batch.rows()).filter(is_bad).find(|&row| !self.is_ignored(row)) {
            Some(row) => Err(Error::RowScale { row: self.first_row + row as u64, factor: factor(row) }),
            None => Ok(scale),
        }
    }

    fn is_ignored(&self, row: usize) -> bool {
        match &self.batch.targets {
            TargetRows::Classes(indices) => {
                indices.classes(row..row + 1, self.ignore_index, &mut Vec::new()).first() == Some(&IGNORED)
            }
            TargetRows::Dense(_) => false,
        }
    }

    /// What the gradients of some rows are multiplied with, of a [`scale`](Self::scale) that was found good.
    pub(crate) fn row_scales(&self, rows: Range<usize>, scale: f64, out: &mut Vec<f32>) {
        // Rows that do not count may have any weight.
        let float = |factor: f64| if (factor as f32).is_finite() { factor as f32 } else { 0.0 };
        out.clear();
        if self.sample_weights.is_empty() {
            out.resize(rows.len(), float(scale));
        } else {
            out.extend(self.sample_weights[rows].iter().map(|weight| float(scale * weight)));
        }
    }

    /// The sample weights of some rows; none where every row has weight 1.
    pub(crate) fn weights(&self, rows: Range<usize>) -> &[f64] {
        if self.sample_weights.is_empty() { &[] } else { &self.sample_weights[rows] }
    }

    /// Some of the batch's rows, as kernels take them: predictions as `element`, which is float32 or the batch's own.
    ///
    /// # Errors
    /// [`Error::Read`] where rows are read, and cannot be.
    pub(crate) fn window<'b>(&'b self, rows: Range<usize>, element: Element, gathered: &'b mut Gathered) -> Result<Window<'b>> {
        let Gathered { predictions, targets, labels } = gathered;
        let (first, last) = (self.first_row + rows.start as u64, self.first_row + rows.end.saturating_sub(1) as u64);
        let unread = |error: Unread| Error::Read { first, last, reason: error.to_string() };
        let targets = match &self.batch.targets {
            TargetRows::Classes(indices) => TargetSlice::Classes(indices.classes(rows.clone(), self.ignore_index, labels)),
            TargetRows::Dense(supply) => TargetSlice::Dense(supply.rows(rows.clone(), targets).map_err(unread)?),
        };
        let supply = &self.batch.predictions;
        let (predictions, halves): (&[f32], &[u16]) = match element {
            Element::F32 => (supply.rows(rows, predictions).map_err(unread)?, &[]),
            Element::F16 | Element::Bf16 => (&[], supply.halves(rows, predictions).map_err(unread)?),
        };
        Ok(Window {
            classes: self.batch.classes,
            element,
            predictions,
            halves,
            targets,
            predictions_lie: !supply.is_read(),
            targets_lie: !matches!(&self.batch.targets, TargetRows::Dense(supply) if supply.is_read()),
        })
    }

    /// The labels of some of the batch's rows, as kernels take them; of dense targets nothing but that they are dense.
    pub(crate) fn labels<'b>(&'b self, rows: Range<usize>, gathered: &'b mut Gathered) -> TargetSlice<'b> {
        match &self.batch.targets {
            TargetRows::Classes(indices) => {
                TargetSlice::Classes(indices.classes(rows, self.ignore_index, &mut gathered.labels))
            }
            TargetRows::Dense(_) => TargetSlice::Dense(&[]),
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.batch.rows()
    }

    /// How the predictions are stored, as far as kernels take them so.
    pub(crate) fn element(&self) -> Element {
        self.batch.element()
    }

    /// Whether predictions are read when their turn comes.
    pub(crate) fn is_read(&self) -> bool {
        self.batch.predictions.is_read()
    }
}

fn inverse(divisor: f64) -> f64 {
    if divisor == 0.0 {
        0.0
    } else if divisor.is_finite() {
        1.0 / divisor
    } else {
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, Array1, Array2, s};

    use super::*;
    use crate::Targets;
    use crate::loss::{CategoricalCrossEntropy, Loss};

    fn prepared(classes: usize, dense: bool) -> Prepared {
        Loss::from(CategoricalCrossEntropy::default()).prepare(classes, dense).expect("defaults are valid")
    }

    #[test]
    fn any_axis_and_any_strides_give_row_major_rows() {
        let all = Array::from_shape_fn((2, 3, 4), |(a, b, c)| (a * 100 + b * 10 + c) as f64);
        let view = all.slice(s![.., ..;-1, ..;2]);
        let labels = Array2::<u8>::zeros((2, 2));
        let batch = Batch::with_axis(view, Targets::classes(labels.view()), 1).expect("shapes fit");
        assert_eq!((batch.rows(), batch.classes(), batch.row_shape()), (4, 3, [2, 2].as_slice()));
        let prepared = prepared(3, false);
        let checked = batch.check(&prepared, 0).expect("labels are good");
        let mut gathered = Gathered::default();
        let window = checked.window(1..3, Element::F32, &mut gathered).expect("it lies there");
        assert_eq!(window.predictions, [22.0, 12.0, 2.0, 120.0, 110.0, 100.0]);
    }

    #[test]
    fn contiguous_rows_are_borrowed() {
        let all = Array2::<f32>::zeros((4, 3));
        let batch = Batch::new(all.view(), Targets::dense(all.view())).expect("shapes fit");
        let prepared = prepared(3, true);
        let checked = batch.check(&prepared, 0).expect("nothing to refuse");
        let mut gathered = Gathered::default();
        let window = checked.window(1..2, Element::F32, &mut gathered).expect("it lies there");
        assert!(std::ptr::eq(window.predictions.as_ptr(), &raw const all[[1, 0]]));
    }

    /// More rows than are looked at at a time.
    #[test]
    fn a_scale_is_of_all_rows() {
        const ROWS: usize = 2 * SCAN + 3;
        let predictions = Array2::<f32>::zeros((ROWS, 3));
        let labels = Array1::from_shape_fn(ROWS, |row| if row % 3 == 2 { -100 } else { (row % 3) as i64 });
        let weights = Array1::from_shape_fn(ROWS, |row| (row % 7) as f64);
        let loss = CategoricalCrossEntropy {
            ignore_index: Some(-100),
            class_weights: Some(vec![1.0, 4.0, 1.0]),
            ..CategoricalCrossEntropy::default()
        };
        let prepared = Loss::from(loss).prepare(3, false).expect("the options are sound");
        let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
        let batch = batch.sample_weights(weights.view()).expect("shapes fit");
        let checked = batch.check(&prepared, 0).expect("labels are good");
        let of = |rows: fn(usize) -> f64| (0..ROWS).map(rows).sum::<f64>();
        let kept = of(|row| if row % 3 == 2 { 0.0 } else { 1.0 });
        let weight = of(|row| [1.0, 4.0, 0.0][row % 3] * (row % 7) as f64);
        for (reduction, divisor) in [(Reduction::Mean, kept), (Reduction::WeightedMean, weight), (Reduction::Sum, 1.0)] {
            let scale = checked.scale(&prepared, Gradient::Of(reduction)).expect("it is a number");
            assert_eq!(scale, 1.0 / divisor, "{reduction:?}");
        }
    }

    #[test]
    fn bad_values_are_named() {
        let p = Array2::<f32>::zeros((3, 3));
        let labels = Array1::from(vec![0_i64, 2, -1]);
        let batch = Batch::new(p.view(), Targets::classes(labels.view())).expect("shapes fit");
        let error = batch.check(&prepared(3, false), 10).err().expect("a bad label");
        assert_eq!(error, Error::Label { row: 12, label: -1, classes: 3 });
        let labels = Array1::from(vec![u64::MAX; 3]);
        let batch = Batch::new(p.view(), Targets::classes(labels.view())).expect("shapes fit");
        assert!(batch.check(&prepared(3, false), 0).is_err());
        for weight in [f32::NAN, f32::INFINITY, -1.0] {
            let (labels, weights) = (Array1::<u8>::zeros(3), Array1::from(vec![1.0, weight, 1.0]));
            let batch = Batch::new(p.view(), Targets::classes(labels.view())).expect("shapes fit");
            let batch = batch.sample_weights(weights.view()).expect("shapes fit");
            let error = batch.check(&prepared(3, false), 0).err().expect("a bad weight");
            assert!(error.to_string().starts_with("row 1:"), "{error}");
        }
    }
}
