//! Cross-entropy losses and the metrics around them, over batches of any size, on any GPU that wgpu reaches and on the CPU
//! with the same answer.
//!
//! ```
//! use ndarray::{arr1, arr2};
//! use xent::{Batch, CategoricalCrossEntropy, Evaluator, EvaluatorDescriptor, Outputs, Targets};
//!
//! # fn main() -> xent::Result<()> {
//! let predictions = arr2(&[[0.05_f32, 0.95, 0.0], [0.5, 0.89, 0.6]]);
//! let labels = arr1(&[1, 1]);
//!
//! let evaluator = Evaluator::new_blocking(&EvaluatorDescriptor::default())?; // the best GPU, else the CPU
//! let batch = Batch::new(predictions.view(), Targets::classes(labels.view()))?;
//! let result = evaluator.evaluate_blocking(&CategoricalCrossEntropy::default().into(), &batch, &Outputs::default())?;
//!
//! // Each row is divided by its sum and clipped first: the second row sums to 1.99, so 0.89 counts as 0.447.
//! assert!((result.totals.mean() - 0.427_981).abs() < 1e-6);
//! println!("{:?} says {:.6}", result.backend, result.totals.mean());
//! # Ok(()) }
//! ```
//!
//! # Losses
//!
//! | loss | of a row | source |
//! | --- | --- | --- |
//! | [`CategoricalCrossEntropy`], [`Input::Probabilities`] | p = x / Σx, clipped to \[ε, 1 − ε\]; −Σ w·t′·log p | Keras' `categorical_crossentropy`, `sparse_categorical_crossentropy` |
//! | [`CategoricalCrossEntropy`], [`Input::Logits`] | −Σ w·t′·log softmax(x) | the same with `from_logits`; PyTorch's `cross_entropy` |
//! | [`CategoricalCrossEntropy`], [`Input::LogProbabilities`] | −Σ w·t′·x | PyTorch's `nll_loss`, ONNX' `NegativeLogLikelihoodLoss` |
//! | with [`CategoricalCrossEntropy::focal`] | Σ w·t′·α·(1 − p)^γ·(−log p), p clipped | Keras' `categorical_focal_crossentropy` |
//! | with [`CategoricalCrossEntropy::poly_epsilon`] | −Σ w·t′·log p + ε₁·Σ w·t′·(1 − p) | optax' `poly_loss_cross_entropy` |
//! | with [`CategoricalCrossEntropy::z_loss`] | + ζ·logsumexp(x)² | Chowdhery et al. 2022, *PaLM* |
//! | [`BinaryCrossEntropy`] | the mean over classes of −t′·log p − (1 − t′)·log(1 − p) | Keras' `binary_crossentropy` |
//! | [`KlDivergence`] | Σ t·log(t / p), both clipped to \[ε, 1\] | Keras' `kl_divergence` |
//!
//! Each has its gradient by the predictions as given ([`Outputs::gradient`]).
//!
//! Targets t are class indices or dense; t′ = t·(1 − α) + α / classes with label smoothing α, of the binary loss
//! t·(1 − α) + α / 2; w are class weights. Rows
//! add up to [`Totals`], which reduce to a sum, a mean or a weighted mean ([`Reduction`]), and merge.
//!
//! # Features
//!
//! * `threads` (default): the CPU backend works on all cores, through rayon's current pool, and the caller's thread takes part in brief
//!   work; and there is the module `bench`. Without it the library starts no thread but the one that waits for a GPU.
//! * `serde`: [`Totals`] and [`Metric`] can be stored, sums that are no numbers too.
//!
//! # Promises
//!
//! * A row's loss is within 1e-6 of the exact value, relative to the sum of its terms' sizes, on every backend; within
//!   4e-6 where it is under 1e-5, or temperature or softcap move the logits (2e-7 times the softcap where that is more). On a GPU
//!   there are two exceptions: probabilities of both signs that nearly cancel lose the digits of their sum, and a loss below 1.2e-38
//!   may be 0.
//! * The same call gives the same bits on every run on a machine, however the rows are cut into windows or batches of a
//!   [`Stream`], unless a GPU failed on the way and the CPU finished.
//! * Nothing fails silently: bad labels, weights, shapes and options are errors that name the place; a lost device is an
//!   error, or a run that the CPU finished and that says so.

mod batch;
#[cfg(all(feature = "threads", not(target_family = "wasm")))]
pub mod bench;
mod calibration;
mod cpu;
mod error;
mod evaluator;
mod explain;
mod fold;
pub mod gpu;
mod in_place;
mod layout;
mod loss;
mod metric;
mod outputs;
mod plan;
mod reading;
mod records;
mod reduce;
mod stream;
mod threads;
mod totals;
#[cfg(test)]
mod twins;
mod views;
mod windows;
#[cfg(feature = "serde")]
mod wire;

pub use batch::{Batch, Targets};
pub use calibration::{Bin, Calibration};
pub use cpu::isa::Instructions;
pub use error::{Error, Result};
pub use evaluator::{Backend, BackendChoice, Evaluation, Evaluator, EvaluatorDescriptor};
#[doc(hidden)]
pub use evaluator::{Fault, Pretence};
pub use explain::{ClassStep, Explanation, explain};
#[cfg(not(target_family = "wasm"))]
pub use gpu::adapters_blocking;
pub use gpu::{AdapterSummary, adapters};
pub use in_place::BatchMut;
pub use layout::{Element, MOST_CLASSES};
pub use loss::{BinaryCrossEntropy, CategoricalCrossEntropy, DEFAULT_EPSILON, Focal, Input, KlDivergence, Loss};
pub use metric::Metric;
pub use outputs::{Gradient, Outputs};
pub use reading::{ReadRows, Reader};
pub use stream::{Rows, Stream};
pub use totals::{Reduction, Totals};
pub use views::{Floats, Indices};
pub use {half, ndarray, wgpu};

/// Compiles the README's code blocks.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
