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

    pub(crate) fn push(&mut self, entropy: f32, brier: f32, confidence: f32, correct: bool) {
        self.entropy += f64::from(entropy);
        self.brier += f64::from(brier);
        let place = (f64::from(confidence) * self.bins.len() as f64).ceil();
        // A NaN falls into the first bin, and makes its error NaN.
        let place = (place.max(1.0) as usize).min(self.bins.len());
        if let Some(bin) = self.bins.get_mut(place.wrapping_sub(1)) {
            bin.rows += 1;
            bin.correct += u64::from(correct);
            bin.confidence += f64::from(confidence);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_closed_above() {
        let mut calibration = Calibration::new(4);
        for confidence in [0.0, 0.25, 0.250_000_1, 1.0] {
            calibration.push(0.0, 0.0, confidence, true);
        }
        assert_eq!(calibration.bins.iter().map(|bin| bin.rows).collect::<Vec<_>>(), [2, 1, 0, 1]);
    }

    #[test]
    fn errors_are_weighted_by_share() {
        let mut calibration = Calibration::new(2);
        calibration.push(0.0, 0.0, 0.9, true);
        calibration.push(0.0, 0.0, 0.7, false);
        calibration.push(0.0, 0.0, 0.5, true);
        assert!((calibration.expected_error(3) - (0.6 + 0.5) / 3.0).abs() < 1e-6);
        assert!((calibration.maximum_error() - 0.5).abs() < 1e-6);
        calibration.push(0.0, 0.0, f32::NAN, false);
        assert!(calibration.expected_error(4).is_nan() && calibration.maximum_error().is_nan());
    }
}
