//! A row's loss, for every kind of loss and with all that may be added to it.

use super::costs::{Costs, bounds};
use super::exact::Exact;
use super::{Input, Kind, Problem};

const UNDEFINED: (f64, f64) = (f64::NAN, f64::NAN);

/// A loss and the sizes of what it is the sum of.
#[derive(Default)]
struct Sum {
    loss: Exact,
    terms: Exact,
}

impl Sum {
    fn add(&mut self, term: f64) {
        self.loss.add(term);
        self.terms.add(term.abs());
    }

    fn value(&self) -> (f64, f64) {
        (self.loss.value(), self.terms.value())
    }
}

impl Problem {
    /// A row's loss and the sum of its terms' sizes.
    pub(super) fn loss(&self, x: &[f64], target: &[f64]) -> (f64, f64) {
        if !target.iter().all(|t| t.is_finite()) {
            return UNDEFINED;
        }
        match self.extra.kind {
            Kind::Categorical => self.categorical(&self.moved(x), target),
            Kind::Binary => self.binary(x, target),
            Kind::KlDivergence if x.iter().all(|x| x.is_finite()) => self.kl_divergence(x, target),
            Kind::KlDivergence => UNDEFINED,
        }
    }

    /// Logits after temperature and softcap. −∞ masks a class and stays what it is.
    pub(super) fn moved(&self, x: &[f64]) -> Vec<f64> {
        let moved = |x: &f64| {
            let sharp = x / self.extra.temperature;
            match self.extra.softcap {
                Some(cap) if x.is_finite() => cap * (sharp / cap).tanh(),
                _ => sharp,
            }
        };
        x.iter().map(moved).collect()
    }

    /// log Σ e^x after temperature and softcap.
    pub(super) fn logsumexp(&self, x: &[f64]) -> f64 {
        match Costs::of(Input::Logits, &self.moved(x), self.epsilon) {
            Some(Costs::Logits { maximum, log_total }) => maximum + log_total,
            _ => f64::NAN,
        }
    }

    fn categorical(&self, x: &[f64], target: &[f64]) -> (f64, f64) {
        let Some(costs) = Costs::of(self.input, x, self.epsilon) else { return UNDEFINED };
        let alpha = self.label_smoothing;
        let mut sum = Sum::default();
        // What is not finite adds up by the plain rules of floating point: opposite infinities are NaN.
        let mut special = 0.0;
        for (class, (t, x)) in target.iter().zip(x).enumerate() {
            let smoothed = t * (1.0 - alpha) + alpha / self.classes as f64;
            let coefficient = self.class_weight(class) * smoothed;
            // By selection: 0 · ∞ would be NaN where a masked class has to add nothing.
            if coefficient == 0.0 {
                continue;
            }
            if let Some((gamma, factor)) = self.extra.focal {
                sum.add(coefficient * factor * self.focal(&costs, *x, gamma));
                continue;
            }
            let cost = costs.cost(*x);
            // Log-probabilities are taken as given, and so is the sign of an infinite term.
            if self.input == Input::LogProbabilities && !cost.is_finite() {
                special += coefficient * cost;
                continue;
            }
            // A class declared impossible is infinitely wrong to have any share in, even a negative one.
            if cost == f64::INFINITY {
                return (f64::INFINITY, f64::INFINITY);
            }
            sum.add(coefficient * cost);
            if let Some(poly) = self.extra.poly_epsilon {
                sum.add(coefficient * poly * costs.complement(*x));
            }
        }
        if let Costs::Logits { maximum, log_total } = costs {
            sum.add(self.extra.z_loss * (maximum + log_total).powi(2));
        }
        if special == 0.0 { sum.value() } else { (special, special.abs()) }
    }

    /// (1 − p)^γ · (−log p), where p is clipped even if it comes from logits.
    fn focal(&self, costs: &Costs, x: f64, gamma: f64) -> f64 {
        let (low, high) = bounds(self.epsilon);
        let cost = costs.cost(x).clamp(-high.ln(), -low.ln());
        costs.complement(x).clamp(1.0 - high, 1.0 - low).powf(gamma) * cost
    }

    fn binary(&self, x: &[f64], target: &[f64]) -> (f64, f64) {
        let (low, high) = bounds(self.epsilon);
        let alpha = self.label_smoothing;
        let classes = self.classes as f64;
        let mut sum = Sum::default();
        let mut masked = false;
        for (t, x) in target.iter().zip(x) {
            let [weight, other] = [*t, 1.0 - t].map(|t| t * (1.0 - alpha) + alpha / 2.0);
            // A class masked with −∞ adds nothing, but where it has a share of the target.
            if self.input == Input::Logits && *x == f64::NEG_INFINITY {
                masked |= weight != 0.0;
                continue;
            }
            if !x.is_finite() {
                return UNDEFINED;
            }
            // −log p and −log(1 − p).
            let (yes, no) = if self.input == Input::Logits {
                let tail = (-x.abs()).exp().ln_1p();
                (tail + (-x).max(0.0), tail + x.max(0.0))
            } else {
                let p = x.clamp(low, high);
                (-p.ln(), -(-p).ln_1p())
            };
            sum.add(weight * yes / classes);
            sum.add(other * no / classes);
        }
        if masked { (f64::INFINITY, f64::INFINITY) } else { sum.value() }
    }

    fn kl_divergence(&self, x: &[f64], target: &[f64]) -> (f64, f64) {
        let low = bounds(self.epsilon).0;
        let mut sum = Sum::default();
        for (t, x) in target.iter().zip(x) {
            let (y, p) = (t.clamp(low, 1.0), x.clamp(low, 1.0));
            sum.add(y * (y / p).ln());
        }
        sum.value()
    }
}
