//! Which options are in range, and which make no sense together.

use super::{BinaryCrossEntropy, CategoricalCrossEntropy, DEFAULT_EPSILON, Input, KlDivergence, Loss};
use crate::error::{Error, Result};

impl Loss {
    /// Checks the options as far as they can be without a batch.
    ///
    /// # Errors
    /// [`Error::Option`] or [`Error::Weight`] for a value out of its range; [`Error::Combination`] for options that have
    /// nothing to act on.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Categorical(loss) => categorical(loss),
            Self::Binary(BinaryCrossEntropy { input, label_smoothing, epsilon }) => {
                check_smoothing(*label_smoothing)?;
                check_epsilon(*epsilon, *input == Input::Probabilities)?;
                if *input == Input::LogProbabilities {
                    return Err(Error::Combination("the binary loss takes probabilities or logits, not log-probabilities"));
                }
                Ok(())
            }
            Self::KlDivergence(KlDivergence { epsilon }) => check_epsilon(*epsilon, true),
        }
    }

    /// Checks the options against a number of classes and a kind of targets.
    ///
    /// # Errors
    /// As [`Loss::validate`]; [`Error::Shape`] for class weights of another length; [`Error::Combination`] for an ignored
    /// index with dense targets, or class indices for a loss that needs dense ones.
    pub fn validate_for(&self, classes: usize, dense: bool) -> Result<()> {
        self.prepare(classes, dense).map(drop)
    }
}

fn categorical(loss: &CategoricalCrossEntropy) -> Result<()> {
    check_smoothing(loss.label_smoothing)?;
    check_epsilon(loss.epsilon, loss.input == Input::Probabilities || loss.focal.is_some())?;
    for (index, &weight) in loss.class_weights.iter().flatten().enumerate() {
        check_weight("class", index as u64, f64::from(weight))?;
    }
    if let Some(focal) = loss.focal {
        check("focal gamma", focal.gamma, 0.0..=MOST, "it must be from 0 to 1e30")?;
        check("focal alpha", focal.alpha, 0.0..=MOST, "it must be from 0 to 1e30")?;
    }
    if let Some(epsilon) = loss.poly_epsilon {
        check("poly_epsilon", epsilon, -1.0..=MOST, "it must be from -1 to 1e30")?;
    }
    check("z_loss", loss.z_loss, 0.0..=MOST, "it must be from 0 to 1e30")?;
    check("temperature", loss.temperature, LEAST..=MOST, "it must be from 1e-30 to 1e30")?;
    if let Some(softcap) = loss.softcap {
        check("softcap", softcap, LEAST..=MOST, "it must be from 1e-30 to 1e30")?;
    }
    if loss.focal.is_some() && loss.poly_epsilon.is_some() {
        return Err(Error::Combination("focal and poly are two losses: one at a time"));
    }
    if loss.input == Input::LogProbabilities {
        if loss.focal.is_some() {
            return Err(Error::Combination(
                "the focal loss needs probabilities or logits: log-probabilities are taken as given",
            ));
        }
        if loss.poly_epsilon.is_some() {
            return Err(Error::Combination(
                "the poly loss needs probabilities or logits: log-probabilities are taken as given",
            ));
        }
    }
    if loss.input != Input::Logits {
        if loss.temperature != 1.0 {
            return Err(Error::Combination("temperature divides logits: it has nothing to act on with other inputs"));
        }
        if loss.softcap.is_some() {
            return Err(Error::Combination("softcap bounds logits: it has nothing to act on with other inputs"));
        }
        if loss.z_loss != 0.0 {
            return Err(Error::Combination("z-loss is on the logsumexp of logits: it has nothing to act on with other inputs"));
        }
    }
    Ok(())
}

/// The range of options that are taken as normal float32 numbers, by far.
const LEAST: f64 = 1e-30;
const MOST: f64 = 1e30;

fn check(option: &'static str, value: f64, range: std::ops::RangeInclusive<f64>, rule: &'static str) -> Result<()> {
    if range.contains(&value) { Ok(()) } else { Err(Error::Option { option, value, rule }) }
}

fn check_smoothing(value: f64) -> Result<()> {
    check("label_smoothing", value, 0.0..=1.0, "it must be from 0 to 1")
}

fn check_epsilon(value: f64, clips: bool) -> Result<()> {
    let option = "epsilon";
    if !(value > 0.0 && value < 0.5) {
        return Err(Error::Option { option, value, rule: "it must be above 0 and below 0.5" });
    }
    if (value as f32) < f32::MIN_POSITIVE {
        return Err(Error::Option { option, value, rule: "it must be a normal float32, at least 1.18e-38" });
    }
    if !clips && value != DEFAULT_EPSILON {
        return Err(Error::Combination("epsilon clips probabilities: it has nothing to act on with other inputs"));
    }
    Ok(())
}

/// Sample and class weights are finite and not negative.
pub(crate) fn check_weight(what: &'static str, index: u64, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() { Ok(()) } else { Err(Error::Weight { what, index, value }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::Focal;

    #[test]
    fn options_out_of_range_are_refused() {
        let base = CategoricalCrossEntropy::default;
        let logits = || CategoricalCrossEntropy { input: Input::Logits, ..base() };
        let nlls = || CategoricalCrossEntropy { input: Input::LogProbabilities, ..base() };
        for bad in [
            CategoricalCrossEntropy { label_smoothing: -0.1, ..base() },
            CategoricalCrossEntropy { label_smoothing: 1.1, ..base() },
            CategoricalCrossEntropy { label_smoothing: f64::NAN, ..base() },
            CategoricalCrossEntropy { epsilon: 0.0, ..base() },
            CategoricalCrossEntropy { epsilon: 0.5, ..base() },
            CategoricalCrossEntropy { epsilon: f64::NAN, ..base() },
            CategoricalCrossEntropy { epsilon: 1e-40, ..base() },
            CategoricalCrossEntropy { epsilon: 1e-6, ..logits() },
            CategoricalCrossEntropy { class_weights: Some(vec![1.0; 9]), ..base() },
            CategoricalCrossEntropy { class_weights: Some(vec![-1.0; 10]), ..base() },
            CategoricalCrossEntropy { class_weights: Some(vec![f32::INFINITY; 10]), ..base() },
            CategoricalCrossEntropy { focal: Some(Focal { gamma: -1.0, alpha: 1.0 }), ..base() },
            CategoricalCrossEntropy { focal: Some(Focal { gamma: 1.0, alpha: f64::NAN }), ..base() },
            CategoricalCrossEntropy { focal: Some(Focal::default()), ..nlls() },
            CategoricalCrossEntropy { poly_epsilon: Some(-2.0), ..base() },
            CategoricalCrossEntropy { poly_epsilon: Some(1.0), ..nlls() },
            CategoricalCrossEntropy { poly_epsilon: Some(1.0), focal: Some(Focal::default()), ..base() },
            CategoricalCrossEntropy { temperature: 0.0, ..logits() },
            CategoricalCrossEntropy { temperature: f64::INFINITY, ..logits() },
            CategoricalCrossEntropy { temperature: 2.0, ..base() },
            CategoricalCrossEntropy { softcap: Some(0.0), ..logits() },
            CategoricalCrossEntropy { softcap: Some(30.0), ..base() },
            CategoricalCrossEntropy { z_loss: -1.0, ..logits() },
            CategoricalCrossEntropy { z_loss: 1e-4, ..nlls() },
        ] {
            assert!(Loss::from(bad.clone()).validate_for(10, false).is_err(), "{bad:?}");
        }
        let ignoring = Loss::from(CategoricalCrossEntropy { ignore_index: Some(0), ..base() });
        assert!(ignoring.validate_for(10, true).is_err());
        assert!(ignoring.validate_for(10, false).is_ok());
        let binary = Loss::from(BinaryCrossEntropy::default());
        assert!(binary.validate_for(10, true).is_ok());
        assert!(binary.validate_for(10, false).is_err());
        let nlls = BinaryCrossEntropy { input: Input::LogProbabilities, ..Default::default() };
        assert!(Loss::from(nlls).validate().is_err());
        assert!(Loss::from(KlDivergence::default()).validate_for(10, false).is_err());
    }
}
