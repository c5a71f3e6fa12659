//! What a class costs: −log of its probability, by the kind of input.

use super::exact::Exact;
use super::{Input, first_maximum};

/// What −log p of a class takes besides the class's own prediction.
pub enum Costs {
    /// x / sum, clipped: the costs of the bounds, and the bounds.
    Probabilities { sum: Exact, smallest: f64, largest: f64, low: f64, high: f64 },
    /// A softmax.
    Logits { maximum: f64, log_total: f64 },
    /// As given.
    LogProbabilities,
}

/// float32 bounds of what probabilities are clipped to; the upper one is 0.99999988 for an epsilon of 1e-7.
pub fn bounds(epsilon: f64) -> (f64, f64) {
    (f64::from(epsilon as f32), f64::from((1.0 - epsilon) as f32))
}

impl Costs {
    /// `None` where the row as a whole has no loss: a NaN or +∞ in it, or nothing to normalise by. Log-probabilities are
    /// not normalised, so there only the entries that count can spoil a row.
    pub fn of(input: Input, x: &[f64], epsilon: f64) -> Option<Self> {
        let broken = x.iter().any(|x| x.is_nan() || *x == f64::INFINITY);
        match input {
            Input::LogProbabilities => Some(Self::LogProbabilities),
            _ if broken => None,
            Input::Probabilities => {
                if x.contains(&f64::NEG_INFINITY) {
                    return None;
                }
                let sum = Exact::of(x.iter().copied());
                if sum.value() == 0.0 {
                    return None;
                }
                let (low, high) = bounds(epsilon);
                Some(Self::Probabilities { sum, smallest: -high.ln(), largest: -low.ln(), low, high })
            }
            Input::Logits => {
                let top = first_maximum(x).filter(|top| x[*top].is_finite())?;
                let maximum = x[top];
                // The maximum itself stays out of the sum: its 1 would swallow the digits of a confident row's rest.
                let others = x.iter().enumerate().filter(|(class, _)| *class != top);
                let rest = Exact::of(others.map(|(_, x)| (x - maximum).exp()));
                Some(Self::Logits { maximum, log_total: rest.value().ln_1p() })
            }
        }
    }

    /// −log p of a class with the prediction `x`.
    pub fn cost(&self, x: f64) -> f64 {
        match self {
            Self::Probabilities { sum, smallest, largest, .. } => {
                if x / sum.value() <= 0.0 {
                    return *largest;
                }
                // −log(x/s) = log1p((s − x)/x): x/s itself would round to 1 where the others are tiny.
                let mut others = sum.clone();
                others.add(-x);
                (others.value() / x).ln_1p().clamp(*smallest, *largest)
            }
            Self::Logits { maximum, log_total } => log_total + (maximum - x),
            Self::LogProbabilities => -x,
        }
    }

    /// 1 − p of a class with the prediction `x`, where p is clipped as for its cost.
    pub fn complement(&self, x: f64) -> f64 {
        match self {
            Self::Probabilities { low, high, .. } => self.raw_complement(x).clamp(1.0 - high, 1.0 - low),
            _ => self.raw_complement(x),
        }
    }

    /// 1 − p before clipping.
    pub fn raw_complement(&self, x: f64) -> f64 {
        match self {
            Self::Probabilities { sum, .. } => {
                let mut others = sum.clone();
                others.add(-x);
                others.value() / sum.value()
            }
            _ => -(-self.cost(x)).exp_m1(),
        }
    }

    /// p before clipping.
    pub fn raw_probability(&self, x: f64) -> f64 {
        match self {
            Self::Probabilities { sum, .. } => x / sum.value(),
            _ => (-self.cost(x)).exp(),
        }
    }
}
