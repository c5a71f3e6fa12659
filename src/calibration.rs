//! How far a model's probabilities can be believed: calibration error, entropy, Brier score.

use crate::cpu::isa::LANES;

/// Sums over the kept rows; those of parts merge into those of the whole.
///
/// Rows fall into equal-width bins by their confidence, the largest probability before clipping; a bin is open below and
/// closed above, and confidences of 0 belong to the first (Guo et al. 2017, *On Calibration of Modern Neural Networks*). A confidence
/// that is above an edge by no more than 2^-22 of itself, as far as it may be off, lies on the edge.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Calibration {
    /// Σ of the rows' entropies −Σ p·log p, in nats.
    #[cfg_attr(feature = "serde", serde(with = "crate::wire::number"))]
    pub entropy: f64,
    /// Σ of the rows' squared distances between probabilities and the label's one-hot vector.
    #[cfg_attr(feature = "serde", serde(with = "crate::wire::number"))]
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
    #[cfg_attr(feature = "serde", serde(with = "crate::wire::number"))]
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
pub(crate) struct Bins {
    all: Vec<Filling>,
    /// What the last rows add to them: one addition each for a row's counts and its confidence.
    last: Vec<Last>,
    /// How many those are, no more than [`MOST`].
    rows: usize,
}

#[derive(Debug, Clone, Copy, Default)]
struct Filling {
    rows: u64,
    correct: u64,
    /// In units of 2^-[`PLACES`].
    confidence: i128,
    /// A confidence was none, or beyond counting.
    undefined: bool,
}

#[derive(Debug, Clone, Copy, Default)]
struct Last {
    /// Rows, and from bit 32 on those that are correct.
    counts: u64,
    /// In units of 2^-[`PLACES`].
    confidence: i64,
}

/// Binary places of a confidence: far more than a float32 near 1 has.
const PLACES: i32 = 40;
/// Confidences from here on are none: those of a distribution end at 1.
const BEYOND: f64 = 4_194_304.0;
/// Below this [`MOST`] confidences add up to an `i64`.
const NEAR: f64 = 2.0;
/// A confidence that is above an edge by no more than it may be off, 2^-22 of itself, lies on it: so does the third of
/// three equal logits, which a float32 is a little above, and which comes out a little above that.
const ON_EDGE: f64 = 1.0 - 1.0 / 4_194_304.0;
/// Rows that may be waiting to join all.
const MOST: usize = 1 << 21;
/// 1.5 · 2^52: a float64 with this added to it is a whole number, and its lower bits are that number's.
const WHOLE: f64 = 6_755_399_441_055_744.0;

/// The whole number next to one below 2^51. What comes of others means nothing.
#[inline(always)]
fn whole(x: f64) -> i64 {
    (x + WHOLE).to_bits().wrapping_sub(WHOLE.to_bits()).cast_signed()
}

impl Filling {
    fn with(self, last: Last) -> Self {
        Self {
            rows: self.rows + (last.counts & 0xffff_ffff),
            correct: self.correct + (last.counts >> 32),
            confidence: self.confidence + i128::from(last.confidence),
            ..self
        }
    }
}

impl Bins {
    pub(crate) fn new(count: usize) -> Self {
        Self { all: vec![Filling::default(); count], last: vec![Last::default(); count], rows: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes in the first `count` of sixteen rows: their confidences, and whether their labels come first.
    #[inline(always)]
    pub(crate) fn push(&mut self, confidences: &[f32; LANES], correct: &[bool; LANES], count: usize) {
        let bins = self.last.len() as f64;
        let scale = bins * ON_EDGE;
        let (mut places, mut units, mut are_near) = ([0; LANES], [0; LANES], true);
        for l in 0..LANES {
            let confidence = f64::from(confidences[l]);
            let place = (confidence * scale).ceil();
            // A NaN falls into the first bin, and makes its error NaN.
            let place = if place > 1.0 { place } else { 1.0 };
            places[l] = whole(if place < bins { place } else { bins });
            units[l] = whole(confidence * (1_u64 << PLACES) as f64);
            are_near &= confidence.abs() < NEAR;
        }
        if !are_near {
            self.push_far(confidences, &places, &mut units, count);
        }
        for l in 0..count {
            if let Some(bin) = self.last.get_mut((places[l] as usize).wrapping_sub(1)) {
                bin.counts += 1 | u64::from(correct[l]) << 32;
                bin.confidence += units[l];
            }
        }
        self.rows += count;
        if self.rows + LANES > MOST {
            self.settle();
        }
    }

    /// Takes in those of the confidences that the last rows have no room for, and takes them out of the `units`.
    #[cold]
    fn push_far(&mut self, confidences: &[f32; LANES], places: &[i64; LANES], units: &mut [i64; LANES], count: usize) {
        for l in 0..count {
            let confidence = f64::from(confidences[l]);
            if confidence.abs() < NEAR {
                continue;
            }
            units[l] = 0;
            if let Some(bin) = self.all.get_mut((places[l] as usize).wrapping_sub(1)) {
                if confidence.abs() < BEYOND {
                    bin.confidence += i128::from((confidence * (1_u64 << PLACES) as f64) as i64);
                } else {
                    bin.undefined = true;
                }
            }
        }
    }

    /// Adds what the last rows left to all.
    fn settle(&mut self) {
        for (bin, last) in self.all.iter_mut().zip(&mut self.last) {
            *bin = bin.with(std::mem::take(last));
        }
        self.rows = 0;
    }

    /// The bins with the last rows.
    fn settled(&self) -> impl Iterator<Item = Filling> {
        self.all.iter().zip(&self.last).map(|(bin, &last)| bin.with(last))
    }

    /// Adds the rows of other bins, which are as many.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (bin, other) in self.all.iter_mut().zip(other.settled()) {
            bin.rows += other.rows;
            bin.correct += other.correct;
            bin.confidence += other.confidence;
            bin.undefined |= other.undefined;
        }
    }

    pub(crate) fn finish(&self) -> Vec<Bin> {
        let confidence =
            |bin: &Filling| if bin.undefined { f64::NAN } else { bin.confidence as f64 / (1_u64 << PLACES) as f64 };
        self.settled().map(|bin| Bin { rows: bin.rows, correct: bin.correct, confidence: confidence(&bin) }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push<const COUNT: usize>(bins: &mut Bins, rows: [(f32, bool); COUNT]) {
        let (mut confidences, mut correct) = ([0.0; LANES], [false; LANES]);
        for (n, row) in rows.into_iter().enumerate() {
            (confidences[n], correct[n]) = row;
        }
        bins.push(&confidences, &correct, COUNT);
    }

    #[test]
    fn bins_are_closed_above() {
        let mut bins = Bins::new(4);
        push(&mut bins, [0.0, 0.25, 0.250_000_1, 1.0].map(|confidence| (confidence, true)));
        assert_eq!(bins.finish().iter().map(|bin| bin.rows).collect::<Vec<_>>(), [2, 1, 0, 1]);
        // No edge but 0 and 1 is a float32 here.
        let mut bins = Bins::new(15);
        let edges: Vec<f32> = (1..=15).map(|edge| (f64::from(edge) / 15.0) as f32).collect();
        for edge in edges {
            push(&mut bins, [(edge, true)]);
        }
        assert!(bins.finish().iter().all(|bin| bin.rows == 1), "{:?}", bins.finish());
    }

    #[test]
    fn bins_are_sums_of_whole_numbers() {
        // Behind those that count is something else, and far ones stand among near ones.
        let values =
            [0.3, 1.0, 1.999, -0.4, 2.0, -6145.0, 0.1, 2000.5, 5e6, f32::NAN, f32::INFINITY, 1e-7, -2.0, 0.0, 0.7, 0.999];
        for (values, rounds) in [(&values[..8], MOST / 6), (&values[..], 50), (&values[..1], 3)] {
            let (mut bins, mut half) = (Bins::new(7), Bins::new(7));
            let mut expected = [Filling::default(); 7];
            for round in 0..rounds {
                let (mut confidences, mut correct) = ([0.9; LANES], [true; LANES]);
                for (l, &value) in values.iter().enumerate() {
                    (confidences[l], correct[l]) = (value, l % 3 == 0);
                    let value = f64::from(value);
                    let bin = &mut expected[((value * 7.0 * ON_EDGE).ceil().max(1.0) as usize).min(7) - 1];
                    bin.rows += 1;
                    bin.correct += u64::from(l % 3 == 0);
                    if value.abs() < BEYOND {
                        bin.confidence += (value * (1_u64 << PLACES) as f64).round_ties_even() as i128;
                    } else {
                        bin.undefined = true;
                    }
                }
                let to = if round % 50 == 0 { &mut half } else { &mut bins };
                to.push(&confidences, &correct, values.len());
            }
            bins.merge(&half);
            for (bin, expected) in bins.settled().zip(expected) {
                assert_eq!(
                    (bin.rows, bin.correct, bin.confidence, bin.undefined),
                    (expected.rows, expected.correct, expected.confidence, expected.undefined)
                );
            }
        }
    }

    #[test]
    fn errors_are_weighted_by_share() {
        let mut bins = Bins::new(2);
        push(&mut bins, [(0.9, true), (0.7, false)]);
        let mut more = Bins::new(2);
        push(&mut more, [(0.5, true)]);
        bins.merge(&more);
        let calibration = Calibration { bins: bins.finish(), ..Calibration::new(2) };
        assert!((calibration.expected_error(3) - (0.6 + 0.5) / 3.0).abs() < 1e-6);
        assert!((calibration.maximum_error() - 0.5).abs() < 1e-6);
        push(&mut bins, [(f32::NAN, false)]);
        let calibration = Calibration { bins: bins.finish(), ..calibration };
        assert!(calibration.expected_error(4).is_nan() && calibration.maximum_error().is_nan());
    }
}
