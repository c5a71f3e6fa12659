//! The losses: what is computed, with which options. What a class adds to each loss stands in a file of its own, beside the
//! WGSL file of the same name in `shaders/loss/`.

pub(crate) mod binary_logits;
pub(crate) mod binary_probabilities;
pub(crate) mod categorical;
pub(crate) mod focal;
pub(crate) mod kl_divergence;
pub(crate) mod poly;
mod prepare;
mod table;
mod validate;

pub(crate) use prepare::Prepared;
#[cfg(test)]
pub(crate) use table::{PAIRS, SOURCES};
pub(crate) use table::{TermKind, Visitor, visit};
pub(crate) use validate::check_weight;

use crate::cpu::isa::Isa;
use crate::cpu::lanes::{F32s, F64s};
use crate::fold::Share;

/// What the lanes' classes add to the loss, and the part of the gradient that does not come from other classes.
#[derive(Clone, Copy)]
pub(crate) struct Term<I: Isa> {
    pub loss: F64s<I>,
    /// coefficient · p · φ′(p), for a loss Σ coefficient · φ(p); where classes stand by themselves, the derivative.
    pub slope: F32s<I>,
}

/// What a class costs: the one hook of a loss. One file each in this folder, with a WGSL twin in `shaders/loss`.
pub(crate) trait LossTerm {
    /// Σ c·φ is a formula of the folded row, where [`Fold::CLOSED`](crate::fold::Fold::CLOSED) says so too.
    const CLOSED: bool = false;

    /// The terms of a class in each lane. `given` is its target before smoothing and weights, `coefficient` after.
    fn term<I: Isa>(i: I, prepared: &Prepared, of: &Share<I>, coefficient: F32s<I>, given: F32s<I>) -> Term<I>;
}

/// What the predictions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Input {
    /// Probabilities, or anything else to be divided by its row's sum: Keras' default. Divided, then clipped to
    /// [ε, 1 − ε] in float32.
    #[default]
    Probabilities,
    /// Unnormalised log-probabilities: the input of a softmax. Never clipped, but by the focal loss.
    Logits,
    /// The output of a log-softmax, taken as given: neither checked nor renormalised. What a class without a target holds costs nothing,
    /// be it NaN.
    LogProbabilities,
}

/// Categorical cross-entropy: −Σ w·t′·log p over the classes of a row, with targets t′ = t·(1 − α) + α / classes.
///
/// The defaults are Keras' (`keras.losses.categorical_crossentropy`, and `sparse_categorical_crossentropy` where targets
/// are class indices). With [`Input::Logits`] it is also PyTorch's `cross_entropy`, ONNX' `SoftmaxCrossEntropyLoss`, and
/// with [`Input::LogProbabilities`] their negative log-likelihood losses. [`focal`](Self::focal) and
/// [`poly_epsilon`](Self::poly_epsilon) change what a class costs; [`temperature`](Self::temperature),
/// [`softcap`](Self::softcap) and [`z_loss`](Self::z_loss) are those of language models.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoricalCrossEntropy {
    /// What the predictions are.
    pub input: Input,
    /// α in [0, 1]: how much of each target is spread evenly over the classes.
    pub label_smoothing: f64,
    /// ε in (0, 0.5), and a normal float32: probabilities are clipped to [ε, 1 − ε], both rounded to float32. Only for probabilities,
    /// and for the focal loss, which clips what comes from logits as well.
    pub epsilon: f64,
    /// Rows with this class index do not count: their loss and gradient are 0, and the mean leaves them out. Only for
    /// class indices.
    pub ignore_index: Option<i64>,
    /// A weight for each class; the length is the number of classes.
    pub class_weights: Option<Vec<f32>>,
    /// Each term is multiplied with α·(1 − p)^γ: Keras' `categorical_focal_crossentropy`. Not for log-probabilities.
    pub focal: Option<Focal>,
    /// ε₁ from −1 to 1e30: each term gains ε₁·t·(1 − p): optax' `poly_loss_cross_entropy`, Leng et al. 2022, *PolyLoss*. Not for
    /// log-probabilities, nor together with the focal loss.
    pub poly_epsilon: Option<f64>,
    /// ζ from 0 to 1e30: a row gains ζ·logsumexp², whatever its target and the class weights: Chowdhery et al. 2022, *PaLM*. Only for
    /// logits.
    pub z_loss: f64,
    /// T from 1e-30 to 1e30: logits are divided by it first. Only for logits.
    pub temperature: f64,
    /// cap from 1e-30 to 1e30: logits, after the temperature, become cap·tanh(x / cap): Gemma Team 2024, *Gemma 2*. Only for logits.
    pub softcap: Option<f64>,
}

impl Default for CategoricalCrossEntropy {
    fn default() -> Self {
        Self {
            input: Input::Probabilities,
            label_smoothing: 0.0,
            epsilon: DEFAULT_EPSILON,
            ignore_index: None,
            class_weights: None,
            focal: None,
            poly_epsilon: None,
            z_loss: 0.0,
            temperature: 1.0,
            softcap: None,
        }
    }
}

/// Keras' `epsilon()`.
pub const DEFAULT_EPSILON: f64 = 1e-7;

/// The focal loss' options: Lin et al. 2017, *Focal Loss for Dense Object Detection*.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Focal {
    /// γ from 0 to 1e30: how much easy classes are played down.
    pub gamma: f64,
    /// α from 0 to 1e30, a factor.
    pub alpha: f64,
}

impl Default for Focal {
    /// Keras' defaults: γ = 2, α = 0.25.
    fn default() -> Self {
        Self { gamma: 2.0, alpha: 0.25 }
    }
}

/// Binary cross-entropy of each class by itself, averaged over the classes: the mean of −t′·log p − (1 − t′)·log(1 − p) with
/// t′ = t·(1 − α) + α / 2. Keras' `binary_crossentropy`. Targets are dense.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryCrossEntropy {
    /// Probabilities (clipped, not divided by the row's sum) or logits (p = 1 / (1 + e^−x)).
    pub input: Input,
    /// α in [0, 1].
    pub label_smoothing: f64,
    /// ε in (0, 0.5), and a normal float32: probabilities are clipped to [ε, 1 − ε]. Only for probabilities.
    pub epsilon: f64,
}

impl Default for BinaryCrossEntropy {
    fn default() -> Self {
        Self { input: Input::Probabilities, label_smoothing: 0.0, epsilon: DEFAULT_EPSILON }
    }
}

/// Kullback-Leibler divergence Σ y·log(y / p), both clipped to [ε, 1] and not divided by their sums: Keras'
/// `kl_divergence`. Predictions are probabilities, targets dense.
#[derive(Debug, Clone, PartialEq)]
pub struct KlDivergence {
    /// ε in (0, 0.5), and a normal float32.
    pub epsilon: f64,
}

impl Default for KlDivergence {
    fn default() -> Self {
        Self { epsilon: DEFAULT_EPSILON }
    }
}

/// A loss with its options.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Loss {
    /// Categorical cross-entropy, and the focal and poly losses with it.
    Categorical(CategoricalCrossEntropy),
    /// Binary cross-entropy.
    Binary(BinaryCrossEntropy),
    /// Kullback-Leibler divergence.
    KlDivergence(KlDivergence),
}

impl From<CategoricalCrossEntropy> for Loss {
    fn from(loss: CategoricalCrossEntropy) -> Self {
        Self::Categorical(loss)
    }
}

impl From<BinaryCrossEntropy> for Loss {
    fn from(loss: BinaryCrossEntropy) -> Self {
        Self::Binary(loss)
    }
}

impl From<KlDivergence> for Loss {
    fn from(loss: KlDivergence) -> Self {
        Self::KlDivergence(loss)
    }
}
