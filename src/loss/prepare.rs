//! A loss checked against a batch: the numbers that kernels take.

use super::{Input, Loss, TermKind};
use crate::cpu::math::Base;
use crate::error::{Error, Result};
use crate::fold::FoldKind;

/// A loss with the numbers that kernels take.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prepared {
    pub fold: FoldKind,
    pub term: TermKind,
    pub classes: usize,
    /// Targets are dense, not class indices.
    pub dense: bool,
    /// 1 − α.
    pub keep: f32,
    /// α / classes, or α / 2 for binary losses.
    pub spread: f32,
    /// −log of the upper clip bound.
    pub nearest: f32,
    /// −log of the lower clip bound.
    pub farthest: f32,
    /// The clip bounds.
    pub lowest: f32,
    pub highest: f32,
    pub gamma: f32,
    pub alpha: f32,
    pub poly: f32,
    pub z_loss: f32,
    /// 1 / temperature, and what that lost when it was rounded.
    pub sharpness: f32,
    pub sharpness_lost: f32,
    /// 0 for none.
    pub softcap: f32,
    /// What exponentials of logits are powers of: e, or e to the factor of differences of logits.
    pub base: Base,
    /// The share of each class in the row's loss: 1, or 1 / classes for binary losses, whose terms have it.
    pub share: f32,
    pub ignore_index: Option<i64>,
    pub class_weights: Option<Vec<f32>>,
}

impl Prepared {
    /// Every class has a coefficient, not the label alone.
    pub(crate) fn spreads(&self) -> bool {
        self.dense || self.spread != 0.0
    }

    /// A dense target is its coefficient.
    pub(crate) fn takes_targets_as_given(&self) -> bool {
        self.keep == 1.0 && self.spread == 0.0 && self.class_weights.is_none()
    }

    /// The terms of spread targets come from the fold itself, without a second walk.
    pub(crate) fn is_closed(&self) -> bool {
        self.fold == FoldKind::Softmax && self.term == TermKind::Categorical
    }

    /// The terms need a second walk over the row.
    pub(crate) fn sums_terms(&self) -> bool {
        self.spreads() && !self.is_closed()
    }

    /// Calibration comes from the fold as well. A dense target as given has to be its coefficient for that, and differences of
    /// logits within a float's range, however they are scaled.
    pub(crate) fn closes_calibration(&self) -> bool {
        let plain = !self.dense || self.takes_targets_as_given();
        self.is_closed() && plain && self.has_ordinary_factor()
    }

    /// Exponentials need a term more: a power of 1 − p has γ + 1 times the error of what 1 − p comes from.
    pub(crate) fn is_fine(&self) -> bool {
        self.term == TermKind::Focal
    }

    /// Temperature or softcap move the logits.
    pub(crate) fn is_moved(&self) -> bool {
        self.sharpness != 1.0 || self.softcap != 0.0
    }

    /// What differences of logits are multiplied with: a temperature without a softcap waits for them.
    pub(crate) fn factor(&self) -> f64 {
        if self.softcap == 0.0 { f64::from(self.sharpness) } else { 1.0 }
    }

    /// Scaled differences of logits, and what their exponentials are 0 from, stay within a float's range.
    pub(crate) fn has_ordinary_factor(&self) -> bool {
        (1e-12..1e12).contains(&self.factor())
    }

    /// Probabilities are clipped, whether they were given or come from a softmax.
    pub(crate) fn clips(&self) -> bool {
        self.fold == FoldKind::Shares || self.term == TermKind::Focal
    }

    /// Classes have probabilities that add up to 1, so there is a confidence to calibrate.
    pub(crate) fn is_distribution(&self) -> bool {
        self.fold != FoldKind::Plain
    }

    /// Rows have a plain cross-entropy, whatever else they have.
    pub(crate) fn has_perplexity(&self) -> bool {
        matches!(self.term, TermKind::Categorical | TermKind::Focal | TermKind::Poly)
    }

    /// The weight that a row of this class index has in a weighted mean.
    pub(crate) fn class_weight(&self, class: usize) -> f32 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights[class])
    }
}

impl Loss {
    /// Checks the options against a batch and derives the kernels' numbers.
    pub(crate) fn prepare(&self, classes: usize, dense: bool) -> Result<Prepared> {
        self.validate()?;
        let (epsilon, smoothing) = match self {
            Self::Categorical(loss) => (loss.epsilon, loss.label_smoothing),
            Self::Binary(loss) => (loss.epsilon, loss.label_smoothing),
            Self::KlDivergence(loss) => (loss.epsilon, 0.0),
        };
        // The bounds are rounded to float32 first, as Keras' clip does: ln(1 − 1e-7) is −1.19e-7 by that.
        let lowest = epsilon as f32;
        let highest = (1.0 - epsilon) as f32;
        let mut prepared = Prepared {
            fold: FoldKind::Plain,
            term: TermKind::Categorical,
            classes,
            dense,
            keep: (1.0 - smoothing) as f32,
            spread: (smoothing / classes.max(1) as f64) as f32,
            nearest: (-f64::from(highest).ln()).max(0.0) as f32,
            farthest: -f64::from(lowest).ln() as f32,
            lowest,
            highest,
            gamma: 0.0,
            alpha: 1.0,
            poly: 0.0,
            z_loss: 0.0,
            sharpness: 1.0,
            sharpness_lost: 0.0,
            softcap: 0.0,
            base: Base::of(1.0),
            share: 1.0,
            ignore_index: None,
            class_weights: None,
        };
        match self {
            Self::Categorical(loss) => {
                if dense && loss.ignore_index.is_some() {
                    let why = "ignore_index names a class index: it has nothing to act on with dense targets";
                    return Err(Error::Combination(why));
                }
                if let Some(weights) = &loss.class_weights
                    && weights.len() != classes
                {
                    let (found, wanted) = (vec![weights.len()], format!("one weight for each of {classes} classes"));
                    return Err(Error::Shape { what: "class weights", found, wanted });
                }
                prepared.fold = match loss.input {
                    Input::Probabilities => FoldKind::Shares,
                    Input::Logits => FoldKind::Softmax,
                    Input::LogProbabilities => FoldKind::Plain,
                };
                if let Some(focal) = loss.focal {
                    prepared.term = TermKind::Focal;
                    (prepared.gamma, prepared.alpha) = (focal.gamma as f32, focal.alpha as f32);
                }
                if let Some(poly) = loss.poly_epsilon {
                    prepared.term = TermKind::Poly;
                    prepared.poly = poly as f32;
                }
                prepared.z_loss = loss.z_loss as f32;
                prepared.sharpness = (1.0 / loss.temperature) as f32;
                prepared.sharpness_lost = (1.0 / loss.temperature - f64::from(prepared.sharpness)) as f32;
                prepared.softcap = loss.softcap.unwrap_or(0.0) as f32;
                prepared.base = Base::of(prepared.factor() as f32);
                prepared.ignore_index = loss.ignore_index;
                prepared.class_weights.clone_from(&loss.class_weights);
            }
            Self::Binary(loss) => {
                if !dense {
                    return Err(Error::Combination("the binary loss takes dense targets, not class indices"));
                }
                prepared.term = match loss.input {
                    Input::Logits => TermKind::BinaryLogits,
                    _ => TermKind::BinaryProbabilities,
                };
                prepared.spread = (smoothing / 2.0) as f32;
                prepared.share = (1.0 / classes.max(1) as f64) as f32;
            }
            Self::KlDivergence(_) => {
                if !dense {
                    return Err(Error::Combination("the KL divergence takes dense targets, not class indices"));
                }
                prepared.term = TermKind::KlDivergence;
            }
        }
        Ok(prepared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loss::CategoricalCrossEntropy;

    #[test]
    fn clip_bounds_are_those_of_float32() {
        let prepare = |loss: CategoricalCrossEntropy| Loss::from(loss).prepare(10, false).expect("valid options");
        let p = prepare(CategoricalCrossEntropy::default());
        assert_eq!(p.nearest, 1.192_093e-7);
        assert_eq!(p.farthest, 16.118_095);
        let p = prepare(CategoricalCrossEntropy { epsilon: 1e-12, ..Default::default() });
        assert_eq!(p.nearest, 0.0, "1 − 1e-12 is 1 in float32");
    }
}
