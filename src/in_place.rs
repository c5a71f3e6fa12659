//! The gradient in the place of the predictions, for arrays of which there is no room for two.

use ndarray::{ArrayViewMut, ArrayViewMutD, Axis, Dimension, Slice};

use crate::batch::{Batch, Targets};
use crate::error::{Error, Result};
use crate::evaluator::{Evaluation, Evaluator};
use crate::loss::Loss;
use crate::outputs::{Gradient, Outputs};
use crate::views::Floats;

/// Predictions of a part that is evaluated at a time: its gradient is the only array of that size besides.
const PART: usize = if cfg!(test) { 16 } else { 1 << 22 };

/// What is evaluated in place: as a [`Batch`], but for the predictions, which are overwritten.
#[derive(Debug)]
pub struct BatchMut<'a> {
    predictions: ArrayViewMutD<'a, f32>,
    targets: Targets<'a>,
    sample_weights: Option<Floats<'a>>,
    axis: isize,
}

impl<'a> BatchMut<'a> {
    /// A batch whose class axis is the last, of at least two.
    ///
    /// # Errors
    /// As [`BatchMut::with_axis`].
    pub fn new<D: Dimension>(predictions: ArrayViewMut<'a, f32, D>, targets: Targets<'a>) -> Result<Self> {
        Self::with_axis(predictions, targets, -1)
    }

    /// A batch whose class axis is `axis`; negative ones count from the end. The first axis must be another: parts of the
    /// batch are taken along it.
    ///
    /// # Errors
    /// As [`Batch::with_axis`], and [`Error::Combination`] where the class axis is the first.
    pub fn with_axis<D: Dimension>(predictions: ArrayViewMut<'a, f32, D>, targets: Targets<'a>, axis: isize) -> Result<Self> {
        let new = Self { predictions: predictions.into_dyn(), targets, sample_weights: None, axis };
        new.part(Slice::from(..))?;
        let first = axis == 0 || axis + new.predictions.ndim() as isize == 0;
        if first {
            return Err(Error::Combination("in place, parts are taken along the first axis: it cannot be the class axis"));
        }
        Ok(new)
    }

    /// Gives each row a weight, or all rows the one number of an array without dimensions.
    ///
    /// # Errors
    /// As [`Batch::sample_weights`].
    pub fn sample_weights(mut self, weights: impl Into<Floats<'a>>) -> Result<Self> {
        self.sample_weights = Some(weights.into());
        self.part(Slice::from(..))?;
        Ok(self)
    }

    /// Indices of the first axis as a batch.
    fn part(&self, slice: Slice) -> Result<Batch<'_>> {
        let predictions =
            if self.predictions.ndim() == 0 { self.predictions.view() } else { self.predictions.slice_axis(Axis(0), slice) };
        let batch = Batch::with_axis(predictions, self.targets.part(slice), self.axis)?;
        match &self.sample_weights {
            Some(weights) => batch.sample_weights(weights.part(slice)),
            None => Ok(batch),
        }
    }
}

impl Evaluator {
    /// Evaluates a batch and puts the gradient that [`Outputs::gradient`] names in the place of its predictions.
    ///
    /// ```
    /// use xent::{BatchMut, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Gradient, Input, Outputs, Reduction, Targets};
    ///
    /// # fn main() -> xent::Result<()> {
    /// # let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor { backend: xent::BackendChoice::Cpu, ..Default::default() })?;
    /// let mut logits = ndarray::arr2(&[[0.0_f32, 0.0], [0.0, 0.0]]);
    /// let labels = ndarray::arr1(&[0_u8, 1]);
    /// let loss = CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }.into();
    /// let outputs = Outputs { gradient: Some(Gradient::Of(Reduction::Mean)), ..Default::default() };
    /// let mut batch = BatchMut::new(logits.view_mut(), Targets::classes(&labels))?;
    /// let mean = evaluator.evaluate_in_place_blocking(&loss, &mut batch, &outputs)?.totals.mean();
    /// assert_eq!(logits, ndarray::arr2(&[[-0.25, 0.25], [0.25, -0.25]]));
    /// # assert!((mean - 2f64.ln()).abs() < 1e-6);
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`Evaluator::evaluate`]; [`Error::Combination`] where no gradient is asked for, or losses or logsumexp of rows, for which
    /// there is no place. Where a GPU that was demanded
    /// fails in the middle, some of the predictions are already gone.
    pub async fn evaluate_in_place(&self, loss: &Loss, batch: &mut BatchMut<'_>, outputs: &Outputs) -> Result<Evaluation> {
        if outputs.losses || outputs.logsumexp {
            return Err(Error::Combination(
                "in place there is room for the gradient alone: neither losses nor logsumexp of rows",
            ));
        }
        let length = batch.predictions.shape()[0];
        let scale = {
            let whole = batch.part(Slice::from(..))?;
            let prepared = loss.prepare(whole.classes(), whole.is_dense())?;
            outputs.wanted(&prepared)?;
            let checked = whole.check(&prepared, 0)?;
            let Some(gradient) = outputs.gradient else {
                return Err(Error::Combination("in place of the predictions comes the gradient: name one"));
            };
            // Of all rows, before the first of them are overwritten.
            checked.scale(&prepared, gradient)?
        };
        let outputs = Outputs { gradient: Some(Gradient::Scaled(scale)), ..outputs.clone() };
        let mut stream = self.stream(loss, &outputs);
        let step = (PART / (batch.predictions.len() / length.max(1)).max(1)).max(1);
        let mut first = 0;
        // An array without rows is a part as well: its options are checked with it.
        loop {
            let range = first..length.min(first + step);
            let gradient = {
                let part = batch.part(Slice::from(range.clone()))?;
                let rows = stream.push(&part).await?;
                part.unfold(rows.gradient.to_vec())
            };
            if let Some(gradient) = gradient {
                batch.predictions.slice_axis_mut(Axis(0), Slice::from(range.clone())).assign(&gradient);
            }
            first = range.end;
            if first >= length {
                return Ok(stream.finish());
            }
        }
    }

    /// As [`Evaluator::evaluate_in_place`], waiting for the result.
    ///
    /// # Errors
    /// As [`Evaluator::evaluate_in_place`].
    #[cfg(not(target_family = "wasm"))]
    pub fn evaluate_in_place_blocking(&self, loss: &Loss, batch: &mut BatchMut<'_>, outputs: &Outputs) -> Result<Evaluation> {
        pollster::block_on(self.evaluate_in_place(loss, batch, outputs))
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array3, arr2};

    use super::*;
    use crate::{BackendChoice, CategoricalCrossEntropy, EvaluatorDescriptor, Input, Reduction};

    /// Two parts, of two thirds and of one.
    #[test]
    fn the_gradient_takes_the_place_of_the_predictions() {
        let loss = CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }.into();
        let whole = Array3::from_shape_fn((3, 4, 2), |(n, c, i)| (n * 7 + c * 3 + i) as f32 % 5.0);
        let (labels, weights) = (arr2(&[[0, 1], [2, 3], [1, 1]]), arr2(&[[1.0_f32, 2.0], [0.5, 1.0], [0.0, 3.0]]));
        let outputs = Outputs { gradient: Some(Gradient::Of(Reduction::WeightedMean)), ..Default::default() };
        for backend in [BackendChoice::Cpu, BackendChoice::Gpu] {
            let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor { backend, ..Default::default() })
                .expect("these tests need an adapter");
            let apart = {
                let batch = Batch::with_axis(whole.view(), Targets::classes(labels.view()), 1).expect("shapes fit");
                let batch = batch.sample_weights(weights.view()).expect("shapes fit");
                evaluator.evaluate_blocking(&loss, &batch, &outputs).expect("it evaluates")
            };
            let mut predictions = whole.clone();
            let targets = Targets::classes(labels.view());
            let mut batch = BatchMut::with_axis(predictions.view_mut(), targets, 1)
                .and_then(|batch| batch.sample_weights(&weights))
                .expect("shapes fit");
            let result = evaluator.evaluate_in_place_blocking(&loss, &mut batch, &outputs).expect("it evaluates");
            assert_eq!(result.totals, apart.totals);
            assert_eq!(predictions.into_dyn(), apart.gradient.expect("a gradient was asked for"));
        }
    }

    #[test]
    fn in_place_there_is_room_for_a_gradient_alone() {
        let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor { backend: BackendChoice::Cpu, ..Default::default() })
            .expect("the CPU is always there");
        let (loss, labels) = (CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }.into(), [0_u8]);
        let gradient = Some(Gradient::Of(Reduction::Sum));
        for outputs in [
            Outputs::default(),
            Outputs { losses: true, gradient, ..Default::default() },
            Outputs { logsumexp: true, gradient, ..Default::default() },
        ] {
            let mut predictions = arr2(&[[1.0_f32, 2.0]]);
            let labels = ndarray::aview1(&labels);
            let mut batch = BatchMut::new(predictions.view_mut(), Targets::classes(labels)).expect("shapes fit");
            let refused = evaluator.evaluate_in_place_blocking(&loss, &mut batch, &outputs);
            assert!(matches!(refused, Err(Error::Combination(_))), "{outputs:?}: {refused:?}");
            assert_eq!(predictions, arr2(&[[1.0_f32, 2.0]]));
        }
    }

    #[test]
    fn what_cannot_be_in_place_is_refused() {
        let (mut predictions, labels) = (arr2(&[[1.0_f32, 2.0]]), ndarray::arr1(&[0_u8, 0]));
        assert!(BatchMut::with_axis(predictions.view_mut(), Targets::classes(&labels), 0).is_err());
        assert!(BatchMut::with_axis(predictions.view_mut(), Targets::classes(&labels), 1).is_err());
        let mut number = ndarray::arr0(1.0_f32);
        assert!(BatchMut::new(number.view_mut(), Targets::classes(&labels)).is_err());
    }
}
