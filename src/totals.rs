//! What a batch adds up to.

use crate::calibration::Calibration;

/// How the losses of many rows become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Reduction {
    /// Σ s·l / kept rows: Keras' `sum_over_batch_size`. Kept rows are those that are not ignored.
    #[default]
    Mean,
    /// Σ s·l.
    Sum,
    /// Σ s·l / Σ s·v, with v the class weight of a row's label (1 where targets are dense): Keras'
    /// `mean_with_sample_weight` and PyTorch's `mean`.
    WeightedMean,
}

/// What the rows of one or many batches add up to: counts are whole numbers, sums are float64. Totals of parts merge into
/// the totals of the whole.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Totals {
    /// Rows seen.
    pub rows: u64,
    /// Rows that are not ignored.
    pub kept: u64,
    /// Rows whose loss is NaN or infinite.
    pub non_finite: u64,
    /// Σ s·l: losses times sample weights.
    #[cfg_attr(feature = "serde", serde(with = "crate::wire::number"))]
    pub loss: f64,
    /// Σ s·v: sample weights times the class weights of the labels.
    #[cfg_attr(feature = "serde", serde(with = "crate::wire::number"))]
    pub weight: f64,
    /// Whether predictions were ranked: without it there is no accuracy.
    pub ranked: bool,
    /// Kept rows whose label is the first of the row's maxima.
    pub correct: u64,
    /// For each k asked for, ascending: kept rows in which fewer than k classes score above the label.
    pub top_k: Vec<(u32, u64)>,
    /// Σ of the kept rows' plain cross-entropies: without smoothing, weights, or anything else that was added.
    #[cfg_attr(feature = "serde", serde(default, with = "crate::wire::optional"))]
    pub plain: Option<f64>,
    /// What calibration errors come from, where they were asked for.
    pub calibration: Option<Calibration>,
}

impl Totals {
    /// Empty totals that count `top_k` (in any order, repeats allowed) when rows are ranked.
    pub(crate) fn new(ranked: bool, top_k: &[u32]) -> Self {
        let mut ks = top_k.to_vec();
        ks.sort_unstable();
        ks.dedup();
        Self { ranked, top_k: ks.into_iter().map(|k| (k, 0)).collect(), ..Self::default() }
    }

    /// Σ s·l.
    pub fn sum(&self) -> f64 {
        self.loss
    }

    /// Σ s·l / kept rows; 0 when no row was kept.
    pub fn mean(&self) -> f64 {
        if self.kept == 0 { 0.0 } else { self.loss / self.kept as f64 }
    }

    /// Σ s·l / Σ s·v; 0 when the weights add up to 0, NaN when to more than float64 holds.
    pub fn weighted_mean(&self) -> f64 {
        if self.weight == 0.0 {
            0.0
        } else if self.weight.is_finite() {
            self.loss / self.weight
        } else {
            f64::NAN
        }
    }

    /// The one number that `reduction` names.
    pub fn reduced(&self, reduction: Reduction) -> f64 {
        match reduction {
            Reduction::Mean => self.mean(),
            Reduction::Sum => self.sum(),
            Reduction::WeightedMean => self.weighted_mean(),
        }
    }

    /// The share of kept rows whose label is the first of the maxima; 0 when no row was kept, `None` when rows were not
    /// ranked. A row with a NaN is wrong.
    pub fn accuracy(&self) -> Option<f64> {
        self.ranked.then(|| self.share(self.correct))
    }

    /// The share of kept rows in which fewer than k classes score above the label: a tie at the boundary counts. `None`
    /// when k was not asked for.
    pub fn top_k_accuracy(&self, k: u32) -> Option<f64> {
        self.top_k.iter().find(|(known, _)| *known == k && self.ranked).map(|(_, correct)| self.share(*correct))
    }

    /// e to the mean plain cross-entropy of the kept rows: without smoothing, z-loss, focal or poly terms, and weights. 1 when no row was
    /// kept; `None` without [`Outputs::calibration_bins`](crate::Outputs::calibration_bins).
    pub fn perplexity(&self) -> Option<f64> {
        self.plain.map(|plain| self.average(plain).exp())
    }

    /// The mean entropy of the kept rows' probabilities, in nats; 0 when no row was kept. This and what follows is `None` without
    /// [`Outputs::calibration_bins`](crate::Outputs::calibration_bins), and for log-probabilities, which need not be those of a distribution.
    pub fn entropy(&self) -> Option<f64> {
        self.calibration.as_ref().map(|calibration| self.average(calibration.entropy))
    }

    /// The mean squared distance between the kept rows' probabilities and their labels' one-hot vectors.
    pub fn brier(&self) -> Option<f64> {
        self.calibration.as_ref().map(|calibration| self.average(calibration.brier))
    }

    /// The expected calibration error: bins' |accuracy − mean confidence|, weighted by their shares of the kept rows.
    pub fn expected_calibration_error(&self) -> Option<f64> {
        self.calibration.as_ref().map(|calibration| calibration.expected_error(self.kept))
    }

    /// The maximum calibration error: that of the worst bin.
    pub fn maximum_calibration_error(&self) -> Option<f64> {
        self.calibration.as_ref().map(Calibration::maximum_error)
    }

    fn average(&self, sum: f64) -> f64 {
        if self.kept == 0 { 0.0 } else { sum / self.kept as f64 }
    }

    fn share(&self, count: u64) -> f64 {
        if self.kept == 0 { 0.0 } else { count as f64 / self.kept as f64 }
    }

    /// Adds the totals of other rows. Accuracies stay only as far as both sides have them.
    pub fn merge(&mut self, other: &Self) {
        if other.rows == 0 {
            return;
        }
        if self.rows == 0 {
            *self = other.clone();
            return;
        }
        self.rows += other.rows;
        self.kept += other.kept;
        self.non_finite += other.non_finite;
        self.loss += other.loss;
        self.weight += other.weight;
        self.ranked &= other.ranked;
        self.correct += other.correct;
        self.top_k.retain_mut(|(k, count)| {
            let theirs = other.top_k.iter().find(|(other_k, _)| other_k == k);
            *count += theirs.map_or(0, |(_, count)| *count);
            theirs.is_some()
        });
        self.plain = self.plain.zip(other.plain).map(|(ours, theirs)| ours + theirs);
        self.calibration = match (self.calibration.take(), &other.calibration) {
            (Some(mut ours), Some(theirs)) => ours.merge(theirs).then_some(ours),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_keeps_what_both_have() {
        let mut a = Totals::new(true, &[1, 2]);
        a.rows = 1;
        a.top_k = vec![(1, 1), (2, 1)];
        let mut b = Totals::new(true, &[2]);
        b.rows = 2;
        b.top_k = vec![(2, 2)];
        a.merge(&b);
        assert_eq!((a.rows, a.top_k.as_slice()), (3, [(2, 3)].as_slice()));
        let mut empty = Totals::default();
        empty.merge(&a);
        assert_eq!(empty, a);
    }

    #[test]
    fn rows_that_were_not_ranked_leave_no_accuracy() {
        let of = |ranked| Totals { rows: 2, kept: 2, correct: u64::from(ranked), ..Totals::new(ranked, &[]) };
        assert_eq!(of(true).accuracy(), Some(0.5));
        for (mut first, second) in [(of(true), of(false)), (of(false), of(true))] {
            first.merge(&second);
            assert_eq!((first.rows, first.accuracy()), (4, None));
        }
    }
}
