//! The streaming metric: a mean loss over many batches, wherever they were evaluated.

use crate::totals::{Reduction, Totals};

/// The weighted mean of the losses of all batches since the last reset, as Keras' `metrics.CategoricalCrossentropy` has
/// it, with the accuracies beside it. Counters are u64 and sums float64, so the mean stays right past 2^24 rows.
///
/// ```
/// use xent::{Batch, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Metric, Outputs, Targets};
/// # fn main() -> xent::Result<()> {
/// let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor::default())?;
/// let loss = CategoricalCrossEntropy::default().into();
/// let mut metric = Metric::default();
/// for (predictions, labels) in [([[0.9, 0.1], [0.2, 0.8]], [0, 1]), ([[0.6, 0.4], [0.5, 0.5]], [0, 1])] {
///     let (predictions, labels) = (ndarray::arr2(&predictions), ndarray::arr1(&labels));
///     let batch = Batch::new(predictions.view(), Targets::classes(labels.view()))?;
///     metric.update_state(&evaluator.evaluate_blocking(&loss, &batch, &Outputs::default())?.totals);
/// }
/// assert!((metric.result() - 0.383_119).abs() < 1e-6);
/// # Ok(()) }
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Metric {
    totals: Totals,
}

impl Metric {
    /// Adds a batch.
    pub fn update_state(&mut self, totals: &Totals) {
        self.totals.merge(totals);
    }

    /// Σ s·l / Σ s·v over all batches; 0 while there are none.
    pub fn result(&self) -> f64 {
        self.totals.reduced(Reduction::WeightedMean)
    }

    /// Everything that was added up.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Forgets every batch.
    pub fn reset_state(&mut self) {
        self.totals = Totals::default();
    }

    /// Adds the batches of another metric.
    pub fn merge(&mut self, other: &Self) {
        self.totals.merge(&other.totals);
    }
}
