//! How far probabilities can be believed: perplexity, entropy, Brier score and calibration errors.

use super::costs::Costs;
use super::exact::Exact;
use super::{Input, Problem, Truth, quotient_or_zero, total};

/// What a row's probabilities say.
#[derive(Clone, Copy, Debug)]
pub struct Belief {
    /// The cross-entropy of the targets as given, without weights or anything else that was added.
    pub plain: f64,
    /// −Σ p·log p.
    pub entropy: f64,
    /// The squared distance to the one-hot vector of the label, which is the first maximum of dense targets.
    pub brier: f64,
    /// The largest probability, before clipping.
    pub confidence: f64,
}

impl Belief {
    pub(super) const NONE: Self = Self { plain: f64::NAN, entropy: f64::NAN, brier: f64::NAN, confidence: f64::NAN };
}

impl Problem {
    pub(super) fn belief(&self, x: &[f64], target: &[f64], label: Option<usize>) -> Belief {
        let x = self.moved(x);
        let Some(costs) = Costs::of(self.input, &x, self.epsilon) else { return Belief::NONE };
        let counted = target.iter().zip(&x).filter(|(t, _)| **t != 0.0);
        let plain = total(counted.map(|(t, x)| t * costs.cost(*x)).collect::<Vec<_>>().into_iter());
        if self.input == Input::LogProbabilities {
            return Belief { plain, ..Belief::NONE };
        }
        let shares: Vec<f64> = x.iter().map(|x| costs.raw_probability(*x)).collect();
        let surprises = shares.iter().map(|p| if *p == 0.0 { 0.0 } else { -p * p.ln() });
        let distance = |class: usize| {
            if Some(class) == label { costs.raw_complement(x[class]) } else { shares[class] }
        };
        Belief {
            plain,
            entropy: total(surprises),
            brier: total((0..x.len()).map(|class| distance(class).powi(2))),
            confidence: shares.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl Truth {
    fn average(&self, of: fn(&Belief) -> f64) -> f64 {
        quotient_or_zero(total(self.beliefs.iter().map(|(belief, _)| of(belief))), self.kept as f64)
    }

    /// e to the mean plain cross-entropy.
    pub fn perplexity(&self) -> f64 {
        self.average(|belief| belief.plain).exp()
    }

    /// The mean entropy.
    pub fn entropy(&self) -> f64 {
        self.average(|belief| belief.entropy)
    }

    /// The mean Brier score.
    pub fn brier(&self) -> f64 {
        self.average(|belief| belief.brier)
    }

    /// The expected and the maximum calibration error over so many bins of equal width, open below and closed above.
    pub fn calibration_errors(&self, bins: u32) -> (f64, f64) {
        if self.beliefs.iter().any(|(belief, _)| belief.confidence.is_nan()) {
            return (f64::NAN, f64::NAN);
        }
        let (mut expected, mut maximum) = (0.0, 0.0_f64);
        for bin in 0..bins {
            let [low, high] = [bin, bin + 1].map(|edge| f64::from(edge) / f64::from(bins));
            let inside = |confidence: f64| (confidence > low || bin == 0) && (confidence <= high || bin + 1 == bins);
            let rows: Vec<_> = self.beliefs.iter().filter(|(belief, _)| inside(belief.confidence)).collect();
            if rows.is_empty() {
                continue;
            }
            let correct = rows.iter().filter(|(_, correct)| *correct).count() as f64;
            let confidence = Exact::of(rows.iter().map(|(belief, _)| belief.confidence)).value();
            let error = (correct - confidence).abs();
            expected += error / self.kept as f64;
            maximum = maximum.max(error / rows.len() as f64);
        }
        (expected, maximum)
    }
}
