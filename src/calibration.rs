//! How far a model's probabilities can be believed: calibration error, entropy, Brier score.

/// Sums over the kept rows; those of parts merge into those of the whole.
///
/// Rows fall into equal-width bins by their confidence, the largest probability before clipping; a bin is open below and
/// closed above, and confidences of 0 belong to the first (Guo et al. 2017, *On Calibration of Modern Neural Networks*).
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Calibration {
    /// Σ of the rows' entropies −Σ p·log p, in nats.
    pub entropy: f64,
    /// Σ of the rows' squared distances between probabilities and the label's one-hot vector.
    pub brier: f64,
    /// The bins, ascending.
    pub bins: Vec<Bin>,
}

/// The rows of one range of confidences.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Bin {
    /// Rows.
    pub rows: u64,
    /// Rows whose label is the first of the maxima.
    pub correct: u64,
    /// Σ of their confidences; NaN once a row's is.
    pub confidence: f64,
}

impl Bin {
    /// |accuracy − mean confidence| times the rows.
    fn error(&self) -> f64 {
        (self.correct as f64 - self.confidence).abs()
    }
}

impl Calibration {
    pub(crate) fn new(bins: u32) -> Self {
        Self { entropy: 0.0, brier: 0.0, bins: vec![Bin::default(); bins as usize] }
    }

    /// Adds the sums of other rows; false where their bins differ.
    pub(crate) fn merge(&mut self, other: &Self) -> bool {
        self.entropy += other.entropy;
        self.brier += other.brier;
        for (bin, other) in self.bins.iter_mut().zip(&other.bins) {
            bin.rows += other.rows;
            bin.correct += other.correct;
            bin.confidence += other.confidence;
        }
        self.bins.len() == other.bins.len()
    }

    /// The expected calibration error: |accuracy − confidence| of the bins, weighted by their shares of `kept` rows.
    pub(crate) fn expected_error(&self, kept: u64) -> f64 {
        if kept == 0 { 0.0 } else { self.bins.iter().map(Bin::error).sum::<f64>() / kept as f64 }
    }

    /// The largest |accuracy − confidence| of a bin that has rows.
    pub(crate) fn maximum_error(&self) -> f64 {
        let errors = self.bins.iter().filter(|bin| bin.rows > 0).map(|bin| bin.error() / bin.rows as f64);
        errors.fold(0.0, |most, error| if error.is_nan() || most.is_nan() { f64::NAN } else { most.max(error) })
    }
}

/// Bins that are being filled. Their confidences add up as whole numbers, so in any order to the same bits.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bins(Vec<Filling>);

#[derive(Debug, Clone, Copy, Default)]
struct Filling {
    rows: u64,
    correct: u64,
    /// In units of 2^-[`PLACES`].
    confidence: i128,
    /// A confidence was none, or beyond counting.
    undefined: bool,
}

/// Binary places of a confidence: far more than a float32 near 1 has.
const PLACES: i32 = 40;
/// Confidences from here on, 2^22, are none: those of a distribution end at 1.
const BEYOND: f64 = 4_194_304.0;

impl Bins {
    pub(crate) fn new(count: usize) -> Self {
        Self(vec![Filling::default(); count])
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Takes in a row.
    #[inline(always)]
    pub(crate) fn push(&mut self, confidence: f32, correct: bool) {
        let confidence = f64::from(confidence);
        let place = (confidence * self.0.len() as f64).ceil();
        // A NaN falls into the first bin, and makes its error NaN.
        let place = (place.max(1.0) as usize).min(self.0.len());
        if let Some(bin) = self.0.get_mut(place.wrapping_sub(1)) {
            bin.rows += 1;
            bin.correct += u64::from(correct);
            if confidence.abs() < BEYOND {
                bin.confidence += i128::from((confidence * (1_u64 << PLACES) as f64) as i64);
            } else {
                bin.undefined = true;
            }
        }
    }

    /// Adds the rows of other bins, which are as many.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (bin, other) in self.0.iter_mut().zip(&other.0) {
            bin.rows += other.rows;
            bin.correct += other.correct;
            bin.confidence += other.confidence;
            bin.undefined |= other.undefined;
        }
    }

    pub(crate) fn finish(&self) -> Vec<Bin> {
        let confidence =
            |bin: &Filling| if bin.undefined { f64::NAN } else { bin.confidence as f64 / (1_u64 << PLACES) as f64 };
        self.0.iter().map(|bin| Bin { rows: bin.rows, correct: bin.correct, confidence: confidence(bin) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_closed_above() {
        let mut bins = Bins::new(4);
        for confidence in [0.0, 0.25, 0.250_000_1, 1.0] {
            bins.push(confidence, true);
        }
        assert_eq!(bins.finish().iter().map(|bin| bin.rows).collect::<Vec<_>>(), [2, 1, 0, 1]);
    }

    #[test]
    fn errors_are_weighted_by_share() {
        let mut bins = Bins::new(2);
        bins.push(0.9, true);
        bins.push(0.7, false);
        let mut more = Bins::new(2);
        more.push(0.5, true);
        bins.merge(&more);
        let calibration = Calibration { bins: bins.finish(), ..Calibration::new(2) };
        assert!((calibration.expected_error(3) - (0.6 + 0.5) / 3.0).abs() < 1e-6);
        assert!((calibration.maximum_error() - 0.5).abs() < 1e-6);
        bins.push(f32::NAN, false);
        let calibration = Calibration { bins: bins.finish(), ..calibration };
        assert!(calibration.expected_error(4).is_nan() && calibration.maximum_error().is_nan());
    }
}
