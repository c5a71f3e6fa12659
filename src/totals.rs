//! What a batch adds up to.

use crate::calibration::Calibration;
use crate::layout::{RANK_FIRST, RANK_NAN};

/// How the losses of many rows become one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
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
    pub loss: f64,
    /// Σ s·v: sample weights times the class weights of the labels.
    pub weight: f64,
    /// Whether predictions were ranked: without it there is no accuracy.
    pub ranked: bool,
    /// Kept rows whose label is the first of the row's maxima.
    pub correct: u64,
    /// For each k asked for, ascending: kept rows in which fewer than k classes score above the label.
    pub top_k: Vec<(u32, u64)>,
    /// Σ of the kept rows' plain cross-entropies: without smoothing, weights, or anything else that was added.
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

    /// Σ s·l / Σ s·v; 0 when the weights add up to 0.
    pub fn weighted_mean(&self) -> f64 {
        if self.weight == 0.0 { 0.0 } else { self.loss / self.weight }
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

    /// e to the mean plain cross-entropy of the kept rows: without smoothing, z-loss, focal or poly terms, and weights.
    pub fn perplexity(&self) -> Option<f64> {
        self.plain.map(|plain| self.average(plain).exp())
    }

    /// The mean entropy of the kept rows' probabilities, in nats.
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

/// Rows that are summed before their sum joins the totals.
const BLOCK: u64 = 1024;
/// Partial sums of a block.
const PARTIALS: usize = 8;

/// Folds the results of rows into totals, in an order that only the rows' places decide: row i of the whole joins partial
/// sum i mod 8 of its block of 1,024 rows. So windows and batches may end anywhere, and the bits stay the same.
#[derive(Debug, Clone)]
pub(crate) struct Fold {
    totals: Totals,
    loss: [f64; PARTIALS],
    weight: [f64; PARTIALS],
}

/// What is known of a row that is not ignored.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub loss: f32,
    pub sample_weight: f64,
    pub class_weight: f32,
    pub rank: u32,
    /// Plain cross-entropy, entropy, Brier score, confidence.
    pub calibration: [f32; 4],
}

impl Fold {
    pub(crate) fn new(totals: Totals) -> Self {
        Self { totals, loss: [0.0; PARTIALS], weight: [0.0; PARTIALS] }
    }

    /// Rows seen so far.
    pub(crate) fn rows(&self) -> u64 {
        self.totals.rows
    }

    /// Takes in the next row; `None` is an ignored one.
    pub(crate) fn push(&mut self, row: Option<Row>) {
        let place = (self.totals.rows % PARTIALS as u64) as usize;
        self.totals.rows += 1;
        if let Some(row) = row {
            self.totals.kept += 1;
            self.totals.non_finite += u64::from(!row.loss.is_finite());
            self.loss[place] += f64::from(row.loss) * row.sample_weight;
            self.weight[place] += f64::from(row.class_weight) * row.sample_weight;
            if self.totals.ranked && row.rank != RANK_NAN {
                self.totals.correct += u64::from(row.rank & RANK_FIRST != 0);
                let above = row.rank & !RANK_FIRST;
                for (k, count) in &mut self.totals.top_k {
                    *count += u64::from(above < *k);
                }
            }
        }
        if let Some(row) = row {
            let [plain, entropy, brier, confidence] = row.calibration;
            if let Some(sum) = &mut self.totals.plain {
                *sum += f64::from(plain);
            }
            if let Some(calibration) = &mut self.totals.calibration {
                let correct = row.rank != RANK_NAN && row.rank & RANK_FIRST != 0;
                calibration.push(entropy, brier, confidence, correct);
            }
        }
        if self.totals.rows.is_multiple_of(BLOCK) {
            self.close_block();
        }
    }

    fn close_block(&mut self) {
        self.totals.loss += pairwise(std::mem::take(&mut self.loss));
        self.totals.weight += pairwise(std::mem::take(&mut self.weight));
    }

    /// The totals of all rows so far.
    pub(crate) fn finish(mut self) -> Totals {
        self.close_block();
        self.totals
    }
}

fn pairwise(v: [f64; PARTIALS]) -> f64 {
    ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(loss: f32, rank: u32) -> Row {
        Row { loss, sample_weight: 1.0, class_weight: 1.0, rank, calibration: [0.0; 4] }
    }

    #[test]
    fn nothing_kept_is_zero() {
        let mut fold = Fold::new(Totals::new(true, &[1]));
        fold.push(None);
        let totals = fold.finish();
        assert_eq!((totals.rows, totals.kept), (1, 0));
        assert_eq!((totals.mean(), totals.weighted_mean(), totals.accuracy()), (0.0, 0.0, Some(0.0)));
    }

    #[test]
    fn counters_pass_2_to_the_24() {
        let mut fold = Fold::new(Totals::new(false, &[]));
        let rows = (1 << 24) + 1000;
        for _ in 0..rows {
            fold.push(Some(row(1.0, 0)));
        }
        assert_eq!(fold.finish().loss, f64::from(rows));
    }

    #[test]
    fn ranks_count_ties_at_the_boundary() {
        let mut fold = Fold::new(Totals::new(true, &[3, 1, 3]));
        for rank in [RANK_FIRST, 0, 2, 3, RANK_NAN] {
            fold.push(Some(row(0.5, rank)));
        }
        let totals = fold.finish();
        assert_eq!(totals.top_k, [(1, 2), (3, 3)]);
        assert_eq!(totals.correct, 1);
        assert_eq!(totals.top_k_accuracy(2), None);
    }

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
}
