//! One row, step by step: the numbers that the CPU backend's own hooks find on the way to its loss.

use crate::batch::{Batch, Gathered};
use crate::cpu;
use crate::error::{Error, Result};
use crate::layout::Element;
use crate::loss::Loss;

/// How a row came to its loss.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Explanation {
    /// The row's loss; 0 where it is ignored.
    pub loss: f32,
    /// The row has the ignored class index.
    pub ignored: bool,
    /// The label: the class index, or the first maximum of a dense target. Ignored rows have none, nor have the binary loss and
    /// the KL divergence, to which no class is the right one.
    pub label: Option<usize>,
    /// What probabilities were divided by; of logits log Σ e^x; nothing where classes stand by themselves.
    pub normaliser: Option<f64>,
    /// What the row costs whatever its target: the z-loss.
    pub extra: f64,
    /// What the sum of the terms is multiplied with: 1 / classes for the binary loss, else 1.
    pub share: f32,
    /// The classes, in order.
    pub steps: Vec<ClassStep>,
}

/// What a class went through, as its loss has it: the formulas are those of [`CategoricalCrossEntropy`], [`BinaryCrossEntropy`]
/// and [`KlDivergence`].
///
/// [`CategoricalCrossEntropy`]: crate::CategoricalCrossEntropy
/// [`BinaryCrossEntropy`]: crate::BinaryCrossEntropy
/// [`KlDivergence`]: crate::KlDivergence
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct ClassStep {
    /// The class.
    pub class: usize,
    /// The prediction as given.
    pub given: f32,
    /// Of a logit: after temperature and softcap. Else as given.
    pub moved: f32,
    /// The probability p before clipping. Of the categorical loss the prediction divided by its row's sum, the softmax of a
    /// logit, or e^x of a log-probability; NaN where the row has none. Of the binary loss the prediction itself, or
    /// 1 / (1 + e^−x) of a logit, which is NaN for NaN and +∞. Of the KL divergence the prediction itself.
    pub probability: f32,
    /// The probability that the loss takes: p after clipping, or p where the loss does not clip. NaN where it takes none:
    /// where the row has none, and of the binary loss and the KL divergence where the prediction is not finite.
    pub clipped: f32,
    /// Whether clipping changed it.
    pub is_clipped: bool,
    /// log p of the probability that the loss takes. Log-probabilities are taken as given.
    pub log: f32,
    /// log(1 − p) of the same probability, where the loss takes it as well: of the binary loss alone.
    pub log_rest: Option<f32>,
    /// The target t as given.
    pub target: f32,
    /// The target y that the KL divergence takes: t clipped to [ε, 1], or NaN where t is not finite. Other losses clip no targets:
    /// t as given.
    pub clipped_target: f32,
    /// Class weight times smoothed target t′. The KL divergence has neither: t as given, whose place y takes in its term.
    pub coefficient: f32,
    /// What the class adds to the sum of the terms: coefficient · −log p, and what the focal and the poly loss make of it; of the
    /// binary loss −t′·log p − (1 − t′)·log(1 − p); of the KL divergence y·(log y − log p).
    pub term: f32,
}

/// Explains one row of a batch. Rows are counted in row-major order of all axes but the class axis.
///
/// # Errors
/// As [`Evaluator::evaluate`](crate::Evaluator::evaluate); [`Error::Shape`] for a row that the batch does not have.
pub fn explain(loss: &Loss, batch: &Batch<'_>, row: usize) -> Result<Explanation> {
    let prepared = loss.prepare(batch.classes(), batch.is_dense())?;
    let checked = batch.check(&prepared, 0)?;
    if row >= batch.rows() || batch.classes() == 0 {
        let wanted = format!("a row {row} with at least one class");
        let mut found = batch.row_shape().to_vec();
        found.push(batch.classes());
        return Err(Error::Shape { what: "a batch", found, wanted });
    }
    let mut gathered = Gathered::default();
    let window = checked.window(row..row + 1, Element::F32, &mut gathered)?;
    Ok(cpu::explain(&prepared, &window))
}

#[cfg(test)]
mod tests {
    use ndarray::{arr1, arr2};

    use super::*;
    use crate::{CategoricalCrossEntropy, Input, Targets};

    #[test]
    fn a_row_that_does_not_sum_to_one() {
        let (predictions, labels) = (arr2(&[[0.05_f32, 0.95, 0.0], [0.5, 0.89, 0.6]]), arr1(&[1, 1]));
        let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
        let why = explain(&CategoricalCrossEntropy::default().into(), &batch, 1).expect("it explains");
        assert!((why.loss - 0.804_668_5).abs() < 1e-6);
        assert!((why.normaliser.expect("a sum") - 1.99).abs() < 1e-6);
        assert!((why.steps[1].probability - 0.89 / 1.99).abs() < 1e-6);
        assert_eq!(why.steps.iter().map(|step| step.term).collect::<Vec<_>>(), [0.0, why.loss, 0.0]);
        let why = explain(&CategoricalCrossEntropy::default().into(), &batch, 0).expect("it explains");
        assert!(why.steps[2].is_clipped && why.steps[2].clipped == 1e-7);
        assert!(explain(&CategoricalCrossEntropy::default().into(), &batch, 2).is_err());
    }

    #[test]
    fn terms_add_up_to_the_loss() {
        let (predictions, labels) = (arr2(&[[2.0_f32, -1.0, 0.5, f32::NEG_INFINITY]]), arr1(&[2]));
        let batch = Batch::new(predictions.view(), Targets::classes(labels.view())).expect("shapes fit");
        let loss = CategoricalCrossEntropy { input: Input::Logits, z_loss: 0.01, ..Default::default() };
        let why = explain(&loss.into(), &batch, 0).expect("it explains");
        let sum: f64 = why.steps.iter().map(|step| f64::from(step.term)).sum();
        assert!((sum * f64::from(why.share) + why.extra - f64::from(why.loss)).abs() < 1e-6);
        assert_eq!(why.steps[3].probability, 0.0);
    }
}
