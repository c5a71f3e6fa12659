//! The losses: what is computed, with which options. Each loss' hooks are in a file of its own, beside the WGSL file of
//! the same name in `shaders/loss/`.

pub(crate) mod categorical_log_probabilities;
pub(crate) mod categorical_logits;
pub(crate) mod categorical_probabilities;

use crate::error::{Error, Result};

/// What the predictions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Input {
    /// Probabilities, or anything else to be divided by its row's sum: Keras' default. Divided, then clipped to
    /// [ε, 1 − ε] in float32.
    #[default]
    Probabilities,
    /// Unnormalised log-probabilities: the input of a softmax. Never clipped.
    Logits,
    /// The output of a log-softmax, taken as given: neither checked nor renormalised.
    LogProbabilities,
}

/// Categorical cross-entropy: −Σ w·t′·log p over the classes of a row, with targets t′ = t·(1 − α) + α / classes.
///
/// The defaults are Keras' (`keras.losses.categorical_crossentropy`, and `sparse_categorical_crossentropy` where targets
/// are class indices). With [`Input::Logits`] it is also PyTorch's `cross_entropy`, ONNX' `SoftmaxCrossEntropyLoss`, and
/// with [`Input::LogProbabilities`] their negative log-likelihood losses.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoricalCrossEntropy {
    /// What the predictions are.
    pub input: Input,
    /// α in [0, 1]: how much of each target is spread evenly over the classes.
    pub label_smoothing: f64,
    /// ε in (0, 0.5): probabilities are clipped to [ε, 1 − ε], both rounded to float32. Only for probabilities.
    pub epsilon: f64,
    /// Rows with this class index do not count: their loss is 0, and the mean leaves them out. Only for class indices.
    pub ignore_index: Option<i64>,
    /// A weight for each class; the length is the number of classes.
    pub class_weights: Option<Vec<f32>>,
}

impl Default for CategoricalCrossEntropy {
    fn default() -> Self {
        Self {
            input: Input::Probabilities,
            label_smoothing: 0.0,
            epsilon: DEFAULT_EPSILON,
            ignore_index: None,
            class_weights: None,
        }
    }
}

/// Keras' `epsilon()`.
pub const DEFAULT_EPSILON: f64 = 1e-7;

/// A loss with its options.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// Categorical cross-entropy.
    Categorical(CategoricalCrossEntropy),
}

impl From<CategoricalCrossEntropy> for Loss {
    fn from(loss: CategoricalCrossEntropy) -> Self {
        Self::Categorical(loss)
    }
}

/// Which hooks run: one entry for each pair of twins, named as the files are.
#[allow(clippy::enum_variant_names, reason = "the losses so far are categorical")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Hooks {
    CategoricalProbabilities,
    CategoricalLogits,
    CategoricalLogProbabilities,
}

impl Hooks {
    #[cfg(test)]
    pub(crate) const ALL: [Self; 3] =
        [Self::CategoricalProbabilities, Self::CategoricalLogits, Self::CategoricalLogProbabilities];

    /// The loss' WGSL file.
    pub(crate) fn wgsl(self) -> &'static str {
        match self {
            Self::CategoricalProbabilities => include_str!("../../shaders/loss/categorical_probabilities.wgsl"),
            Self::CategoricalLogits => include_str!("../../shaders/loss/categorical_logits.wgsl"),
            Self::CategoricalLogProbabilities => include_str!("../../shaders/loss/categorical_log_probabilities.wgsl"),
        }
    }
}

/// A loss checked against a number of classes and a kind of targets: the numbers that kernels take.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prepared {
    pub hooks: Hooks,
    pub classes: usize,
    /// Targets are dense, not class indices.
    pub dense: bool,
    /// 1 − α.
    pub keep: f32,
    /// α / classes.
    pub spread: f32,
    /// −log of the upper clip bound.
    pub nearest: f32,
    /// −log of the lower clip bound.
    pub farthest: f32,
    /// The lower clip bound.
    pub lowest: f32,
    pub ignore_index: Option<i64>,
    pub class_weights: Option<Vec<f32>>,
}

impl Prepared {
    /// Every class has a coefficient, not the label alone.
    pub(crate) fn spreads(&self) -> bool {
        self.dense || self.spread != 0.0
    }

    /// The weight that a row of this class index has in a weighted mean.
    pub(crate) fn class_weight(&self, class: usize) -> f32 {
        self.class_weights.as_ref().map_or(1.0, |weights| weights[class])
    }
}

impl Loss {
    /// Checks the options as far as they can be without a batch.
    ///
    /// # Errors
    /// [`Error::Option`] or [`Error::Weight`] for a value out of its range; [`Error::Combination`] for an ε without
    /// probabilities to clip.
    pub fn validate(&self) -> Result<()> {
        let Self::Categorical(loss) = self;
        if !(0.0..=1.0).contains(&loss.label_smoothing) {
            let (option, value) = ("label_smoothing", loss.label_smoothing);
            return Err(Error::Option { option, value, rule: "it must be from 0 to 1" });
        }
        if !(loss.epsilon > 0.0 && loss.epsilon < 0.5) {
            let (option, value) = ("epsilon", loss.epsilon);
            return Err(Error::Option { option, value, rule: "it must be above 0 and below 0.5" });
        }
        if (loss.epsilon as f32) < f32::MIN_POSITIVE {
            let (option, value) = ("epsilon", loss.epsilon);
            return Err(Error::Option { option, value, rule: "it must be a normal float32, at least 1.18e-38" });
        }
        if loss.input != Input::Probabilities && loss.epsilon != DEFAULT_EPSILON {
            return Err(Error::Combination("epsilon clips probabilities: it has nothing to act on with other inputs"));
        }
        for (index, &weight) in loss.class_weights.iter().flatten().enumerate() {
            check_weight("class", index as u64, f64::from(weight))?;
        }
        Ok(())
    }

    /// Checks the options against a number of classes and a kind of targets.
    ///
    /// # Errors
    /// As [`Loss::validate`]; [`Error::Shape`] for class weights of another length; [`Error::Combination`] for an ignored
    /// index with dense targets.
    pub fn validate_for(&self, classes: usize, dense: bool) -> Result<()> {
        self.prepare(classes, dense).map(drop)
    }

    /// Checks the options against a batch and derives the kernels' numbers.
    pub(crate) fn prepare(&self, classes: usize, dense: bool) -> Result<Prepared> {
        self.validate()?;
        let Self::Categorical(loss) = self;
        if dense && loss.ignore_index.is_some() {
            return Err(Error::Combination("ignore_index names a class index: it has nothing to act on with dense targets"));
        }
        if let Some(weights) = &loss.class_weights
            && weights.len() != classes
        {
            let (found, wanted) = (vec![weights.len()], format!("one weight for each of {classes} classes"));
            return Err(Error::Shape { what: "class weights", found, wanted });
        }
        // The bounds are rounded to float32 first, as Keras' clip does: ln(1 − 1e-7) is −1.19e-7 by that.
        let lowest = loss.epsilon as f32;
        let highest = (1.0 - loss.epsilon) as f32;
        Ok(Prepared {
            hooks: match loss.input {
                Input::Probabilities => Hooks::CategoricalProbabilities,
                Input::Logits => Hooks::CategoricalLogits,
                Input::LogProbabilities => Hooks::CategoricalLogProbabilities,
            },
            classes,
            dense,
            keep: (1.0 - loss.label_smoothing) as f32,
            spread: (loss.label_smoothing / classes.max(1) as f64) as f32,
            nearest: (-f64::from(highest).ln()).max(0.0) as f32,
            farthest: -f64::from(lowest).ln() as f32,
            lowest,
            ignore_index: loss.ignore_index,
            class_weights: loss.class_weights.clone(),
        })
    }
}

pub(crate) fn check_weight(what: &'static str, index: u64, value: f64) -> Result<()> {
    if value >= 0.0 && value.is_finite() { Ok(()) } else { Err(Error::Weight { what, index, value }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(loss: CategoricalCrossEntropy) -> Result<Prepared> {
        Loss::from(loss).prepare(10, false)
    }

    #[test]
    fn clip_bounds_are_those_of_float32() {
        let p = prepared(CategoricalCrossEntropy::default()).expect("defaults are valid");
        assert_eq!(p.nearest, 1.192_093e-7);
        assert_eq!(p.farthest, 16.118_095);
        let p = prepared(CategoricalCrossEntropy { epsilon: 1e-12, ..Default::default() }).expect("a valid epsilon");
        assert_eq!(p.nearest, 0.0, "1 − 1e-12 is 1 in float32");
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let base = CategoricalCrossEntropy::default;
        for bad in [
            CategoricalCrossEntropy { label_smoothing: -0.1, ..base() },
            CategoricalCrossEntropy { label_smoothing: 1.1, ..base() },
            CategoricalCrossEntropy { label_smoothing: f64::NAN, ..base() },
            CategoricalCrossEntropy { epsilon: 0.0, ..base() },
            CategoricalCrossEntropy { epsilon: 0.5, ..base() },
            CategoricalCrossEntropy { epsilon: f64::NAN, ..base() },
            CategoricalCrossEntropy { epsilon: 1e-40, ..base() },
            CategoricalCrossEntropy { epsilon: 1e-6, input: Input::Logits, ..base() },
            CategoricalCrossEntropy { class_weights: Some(vec![1.0; 9]), ..base() },
            CategoricalCrossEntropy { class_weights: Some(vec![-1.0; 10]), ..base() },
            CategoricalCrossEntropy { class_weights: Some(vec![f32::INFINITY; 10]), ..base() },
        ] {
            assert!(prepared(bad.clone()).is_err(), "{bad:?}");
        }
        let ignoring = Loss::from(CategoricalCrossEntropy { ignore_index: Some(0), ..base() });
        assert!(ignoring.prepare(10, true).is_err());
        assert!(ignoring.prepare(10, false).is_ok());
    }
}
