//! What to compute besides the sums.

use crate::calibration::Calibration;
use crate::error::{Error, Result};
use crate::fold::FoldKind;
use crate::layout::Wanted;
use crate::loss::{Loss, Prepared};
use crate::totals::{Reduction, Totals};

/// What to compute besides the sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Outputs {
    /// The loss of each row, before sample weights.
    pub losses: bool,
    /// Whether the label is the first of its row's maxima. Losses that have no label (binary, KL divergence) have none.
    pub accuracy: bool,
    /// For each k, 1 or more: whether fewer than k classes score above the label.
    pub top_k: Vec<u32>,
    /// log Σ e^x of each row of logits, after temperature and softcap; whether or not the row counts.
    pub logsumexp: bool,
    /// The derivative of the value that this names, by each prediction.
    pub gradient: Option<Gradient>,
    /// Perplexity, entropy, Brier score, and calibration errors over so many bins. Of log-probabilities, perplexity alone.
    pub calibration_bins: Option<u32>,
}

impl Default for Outputs {
    /// Accuracy, and nothing else.
    fn default() -> Self {
        Self { losses: false, accuracy: true, top_k: Vec::new(), logsumexp: false, gradient: None, calibration_bins: None }
    }
}

/// What a gradient is the gradient of. Sample weights are always applied; ignored rows have a gradient of 0, and rows whose
/// loss is NaN one of NaN.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Gradient {
    /// Of the batch's reduced loss. A [`Stream`](crate::Stream) does not know what it will be divided by: there the means are an
    /// [`Error::Combination`], and the sum or [`Gradient::Scaled`] is what to take.
    Of(Reduction),
    /// Of the sum Σ s·l times this: 1 / rows for a mean whose divisor the caller knows, or a loss scale. Times each row's sample
    /// weight it has to be a finite float32.
    Scaled(f64),
}

/// A gradient's scale where nothing else is multiplied with it.
///
/// # Errors
/// [`Error::Option`] where it is no finite float32.
pub(crate) fn float_scale(scale: f64) -> Result<f32> {
    let float = scale as f32;
    if float.is_finite() {
        return Ok(float);
    }
    Err(Error::Option { option: "gradient scale", value: scale, rule: "it must be a finite float32" })
}

/// More bins than anyone can fill.
const MOST_BINS: u32 = 1_000_000;

impl Outputs {
    /// Checks what is asked for against a loss, a number of classes and a kind of targets.
    ///
    /// # Errors
    /// As [`Loss::validate_for`]; [`Error::Combination`] for what the loss does not have.
    pub fn validate_for(&self, loss: &Loss, classes: usize, dense: bool) -> Result<()> {
        self.wanted(&loss.prepare(classes, dense)?).map(drop)
    }

    /// What kernels have to write for this.
    pub(crate) fn wanted(&self, prepared: &Prepared) -> Result<Wanted> {
        if self.logsumexp && prepared.fold != FoldKind::Softmax {
            return Err(Error::Combination("logsumexp is of logits: other inputs have none"));
        }
        if !prepared.has_perplexity() {
            if !self.top_k.is_empty() {
                return Err(Error::Combination("top-k needs a label: binary and KL losses have none"));
            }
            if self.calibration_bins.is_some() {
                return Err(Error::Combination("calibration needs a label: binary and KL losses have none"));
            }
        }
        if self.top_k.contains(&0) {
            return Err(Error::Option { option: "top_k", value: 0.0, rule: "the label is among the first 1 or more" });
        }
        if let Some(bins) = self.calibration_bins
            && !(1..=MOST_BINS).contains(&bins)
        {
            let (option, value) = ("calibration_bins", f64::from(bins));
            return Err(Error::Option { option, value, rule: "there must be from 1 to a million" });
        }
        if let Some(Gradient::Scaled(scale)) = self.gradient
            && !scale.is_finite()
        {
            // Times the rows' weights it has to be a float32, which a batch is checked for.
            let (option, value) = ("gradient scale", scale);
            return Err(Error::Option { option, value, rule: "it must be a finite number" });
        }
        let ranked = self.accuracy || !self.top_k.is_empty() || self.calibration_bins.is_some();
        Ok(Wanted {
            ranks: ranked && prepared.has_perplexity(),
            logsumexp: self.logsumexp,
            calibration: self.calibration_bins.is_some(),
            gradient: self.gradient.is_some(),
        })
    }

    /// Totals that count what is asked for.
    pub(crate) fn totals(&self, prepared: &Prepared) -> Totals {
        let mut totals = Totals::new((self.accuracy || !self.top_k.is_empty()) && prepared.has_perplexity(), &self.top_k);
        if let Some(bins) = self.calibration_bins {
            totals.plain = Some(0.0);
            totals.calibration = prepared.is_distribution().then(|| Calibration::new(bins));
        }
        totals
    }
}
