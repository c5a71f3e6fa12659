//! The command line.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use xent::bench::{Machines, Pass, TargetKind};

/// Bytes that a megabyte has here, as in rates.
pub(crate) const MILLION: u64 = 1_000_000;

/// Cross-entropy losses over files of predictions, on any GPU or on the CPU, with the same answer.
#[derive(Debug, Parser)]
#[command(name = "xent", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Evaluate predictions against targets.
    ///
    /// Files are `.npy`, `.npz:NAME` or `.safetensors:NAME`, read a few rows at a time.
    Evaluate(Box<EvaluateArgs>),
    /// Show how one row comes to its loss, step by step.
    ///
    /// Files are `.npy`, `.npz:NAME` or `.safetensors:NAME`; of each, only what the row needs is read.
    Explain(Box<ExplainArgs>),
    /// Measure how close each backend of this machine comes to its own memory bandwidth.
    ///
    /// Every pass is combined with every kind of targets, element, input and number of classes. Predictions are noise and lie in memory,
    /// the GPU's own for a GPU; every answer is checked before it is timed.
    Bench(Box<BenchArgs>),
    /// List the adapters of this machine, and which one `--backend auto` takes.
    Devices(DevicesArgs),
}

/// [`Command::Evaluate`].
#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// Predictions: floating-point numbers, one for each class of each row.
    pub predictions: String,
    /// Class indices (the predictions' shape less the class axis) or dense targets (the predictions' shape).
    pub targets: String,

    #[command(flatten)]
    pub loss: LossArgs,
    /// One weight a row, or one number.
    #[arg(long, value_name = "FILE")]
    pub sample_weights: Option<String>,
    /// How losses become one: mean = Σ s·l / kept rows; weighted-mean = Σ s·l / Σ s·v, v the label's class weight.
    #[arg(long, value_enum, default_value_t = Reduction::Mean)]
    pub reduction: Reduction,
    /// Also count rows in which fewer than k classes score above the label.
    #[arg(long, value_name = "K,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Vec<u32>,
    /// Bins of the calibration error, 15 unless given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub calibration_bins: Option<u32>,
    /// Write the loss of each row, before sample weights, as float32.
    #[arg(long, value_name = "OUT.npy")]
    pub losses: Option<PathBuf>,
    /// Write the logsumexp of each row of logits, as float32.
    #[arg(long, value_name = "OUT.npy")]
    pub logsumexp: Option<PathBuf>,
    /// Write the gradient of the reduced loss by the predictions, as float32 of their shape.
    #[arg(long, value_name = "OUT.npy")]
    pub gradient: Option<PathBuf>,
    /// Write a page for people: the numbers, how losses are spread, the rows that cost most, the calibration.
    #[arg(long, value_name = "OUT.html")]
    pub report: Option<PathBuf>,

    /// Where to evaluate: auto takes a real GPU, else the CPU; gpu takes any adapter or fails.
    #[arg(long, value_enum, default_value_t = Backend::Auto)]
    pub backend: Backend,
    /// Take the adapter of this name, or with TEXT in it, a software adapter too, or fail: also where the backend is auto.
    #[arg(long, value_name = "TEXT")]
    pub adapter: Option<String>,
    /// At most so many rows at a time; the result is the same to the bit.
    #[arg(long, value_name = "N")]
    pub window_rows: Option<NonZeroUsize>,
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,

    /// Let the GPU fail: lose-device:N or out-of-memory:N, at its window N.
    #[arg(long, hide = true, value_parser = parse_fault)]
    pub fault: Option<xent::Fault>,
    /// Let `--backend auto` take a software adapter.
    #[arg(long, hide = true)]
    pub allow_software: bool,
}

/// [`Command::Explain`].
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Predictions: floating-point numbers, one for each class of each row.
    pub predictions: String,
    /// Class indices (the predictions' shape less the class axis) or dense targets (the predictions' shape).
    pub targets: String,
    /// The row, counted from 0 over all axes but the class axis.
    #[arg(long, value_name = "I")]
    pub row: usize,

    #[command(flatten)]
    pub loss: LossArgs,
    /// Classes that are shown where there are more: the most probable ones, and always the label.
    #[arg(long, value_name = "N", default_value = "10")]
    pub classes: NonZeroUsize,
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// What is computed of a row: the same options wherever a row has a loss.
#[derive(Debug, Args)]
pub(crate) struct LossArgs {
    /// What the predictions are.
    #[arg(long, value_enum, default_value_t = Input::Probabilities)]
    pub input: Input,
    /// Short for --input logits.
    #[arg(long, conflicts_with = "input")]
    pub from_logits: bool,
    /// What is computed of each row.
    #[arg(long, value_enum, default_value_t = LossKind::Categorical)]
    pub loss: LossKind,
    /// Spread so much of each target evenly over the classes, from 0 to 1.
    #[arg(long, value_name = "F", default_value_t = 0.0, allow_negative_numbers = true)]
    pub label_smoothing: f64,
    /// Clip probabilities to [F, 1 − F], for kl-divergence these and the targets to [F, 1]; logits for the focal loss only.
    #[arg(long, value_name = "F", default_value_t = xent::DEFAULT_EPSILON, allow_negative_numbers = true)]
    pub epsilon: f64,
    /// Focal loss: multiply each class' term with α·(1 − p)^F.
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub focal_gamma: Option<f64>,
    /// The focal loss' α, 0.25 unless given.
    #[arg(long, value_name = "F", requires = "focal_gamma", allow_negative_numbers = true)]
    pub focal_alpha: Option<f64>,
    /// Poly-1 loss: add F·(1 − p) to each class' −log p.
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub poly_epsilon: Option<f64>,
    /// Add F·logsumexp² to each row.
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub z_loss: Option<f64>,
    /// Bound logits: F·tanh(x / F), after the temperature.
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub softcap: Option<f64>,
    /// Divide logits by F.
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    pub temperature: Option<f64>,
    /// Rows with this class index do not count.
    #[arg(long, value_name = "I", allow_negative_numbers = true)]
    pub ignore_index: Option<i64>,
    /// One weight a class.
    #[arg(long, value_name = "FILE")]
    pub class_weights: Option<String>,
    /// The class axis; negative ones count from the end.
    #[arg(long, value_name = "I", default_value_t = -1, allow_negative_numbers = true)]
    pub axis: isize,
}

/// [`Command::Bench`].
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// What to measure: all is the CPU and every adapter; auto what an evaluation would run on; gpu every adapter.
    #[arg(long, value_enum, default_value_t = BenchBackend::All)]
    pub backend: BenchBackend,
    /// Measure the adapter of this name, or those with TEXT in theirs, and nothing else.
    #[arg(long, value_name = "TEXT")]
    pub adapter: Option<String>,
    /// What the CPU computes with: each by itself, instead of the best that this processor has.
    #[arg(long, value_enum, value_name = "SET,…", value_delimiter = ',')]
    pub instructions: Vec<InstructionSet>,
    /// Numbers of classes.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "2,10,100,1000,8192,32000,128256")]
    pub classes: Vec<usize>,
    /// The mean loss alone, the gradient of the mean alone, or the losses of rows and the gradient.
    #[arg(long, value_enum, value_name = "PASS,…", value_delimiter = ',', default_value = "forward,gradient,both")]
    pub pass: Vec<BenchPass>,
    /// Class indices, or a number for each class.
    #[arg(long, value_enum, value_name = "KIND,…", value_delimiter = ',', default_value = "sparse,dense")]
    pub targets: Vec<BenchTargets>,
    /// How predictions are stored.
    #[arg(long, value_enum, value_name = "TYPE,…", value_delimiter = ',', default_value = "f32,f16")]
    pub element: Vec<BenchElement>,
    /// What predictions are.
    #[arg(long, value_enum, value_name = "INPUT,…", value_delimiter = ',', default_value = "logits")]
    pub input: Vec<Input>,
    /// Bytes of the predictions as float32. Unless given: for the CPU a quarter more than its largest caches hold, be they 16-bit
    /// numbers, and at least 256 MiB; 512 MiB for a GPU; 32 MiB for a software adapter; less where memory is scarce.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub bytes: Option<u64>,
    /// The same in millions of bytes.
    #[arg(long, value_name = "N", conflicts_with = "bytes", value_parser = clap::value_parser!(u64).range(1..=u64::MAX / MILLION))]
    pub megabytes: Option<u64>,
    /// Time each so many times, or fewer where time is up; the median counts.
    #[arg(long, value_name = "N", default_value = "9")]
    pub repeat: NonZeroUsize,
    /// Time a backend for about so long; each combination is timed three times in any case.
    #[arg(long, value_name = "S", default_value = "60")]
    pub seconds: f64,
    /// Draw fractions over classes, a line for each backend.
    #[arg(long, value_name = "OUT.svg")]
    pub plot: Option<PathBuf>,
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct DevicesArgs {
    /// For people or for programs.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Input {
    /// Divided by the row's sum, then clipped.
    Probabilities,
    /// The input of a softmax.
    Logits,
    /// The output of a log-softmax, taken as given.
    LogProbabilities,
}

impl From<Input> for xent::Input {
    fn from(input: Input) -> Self {
        match input {
            Input::Probabilities => Self::Probabilities,
            Input::Logits => Self::Logits,
            Input::LogProbabilities => Self::LogProbabilities,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LossKind {
    /// Categorical cross-entropy, and the focal and poly losses with it.
    Categorical,
    /// Binary cross-entropy of each class by itself.
    Binary,
    /// Kullback-Leibler divergence.
    KlDivergence,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Reduction {
    Mean,
    Sum,
    WeightedMean,
}

impl From<Reduction> for xent::Reduction {
    fn from(reduction: Reduction) -> Self {
        match reduction {
            Reduction::Mean => Self::Mean,
            Reduction::Sum => Self::Sum,
            Reduction::WeightedMean => Self::WeightedMean,
        }
    }
}

impl Reduction {
    /// As it is written on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Sum => "sum",
            Self::WeightedMean => "weighted-mean",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    Auto,
    Cpu,
    Gpu,
}

impl From<Backend> for xent::BackendChoice {
    fn from(backend: Backend) -> Self {
        match backend {
            Backend::Auto => Self::Auto,
            Backend::Cpu => Self::Cpu,
            Backend::Gpu => Self::Gpu,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchBackend {
    Auto,
    All,
    Cpu,
    Gpu,
}

impl From<BenchBackend> for Machines {
    fn from(backend: BenchBackend) -> Self {
        match backend {
            BenchBackend::Auto => Self::Auto,
            BenchBackend::All => Self::All,
            BenchBackend::Cpu => Self::Cpu,
            BenchBackend::Gpu => Self::Gpu,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum InstructionSet {
    Avx512,
    Avx2,
    /// What every processor of its kind has.
    Portable,
}

impl From<InstructionSet> for xent::Instructions {
    fn from(set: InstructionSet) -> Self {
        match set {
            InstructionSet::Avx512 => Self::Avx512,
            InstructionSet::Avx2 => Self::Avx2,
            InstructionSet::Portable => Self::Portable,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchPass {
    Forward,
    Gradient,
    Both,
}

impl From<BenchPass> for Pass {
    fn from(pass: BenchPass) -> Self {
        match pass {
            BenchPass::Forward => Self::Forward,
            BenchPass::Gradient => Self::Gradient,
            BenchPass::Both => Self::Both,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchTargets {
    Sparse,
    Dense,
}

impl From<BenchTargets> for TargetKind {
    fn from(targets: BenchTargets) -> Self {
        match targets {
            BenchTargets::Sparse => Self::Sparse,
            BenchTargets::Dense => Self::Dense,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchElement {
    F32,
    F16,
    Bf16,
}

impl From<BenchElement> for xent::Element {
    fn from(element: BenchElement) -> Self {
        match element {
            BenchElement::F32 => Self::F32,
            BenchElement::F16 => Self::F16,
            BenchElement::Bf16 => Self::Bf16,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

fn parse_fault(text: &str) -> Result<xent::Fault, String> {
    let (kind, window) = text.split_once(':').ok_or("it is KIND:WINDOW")?;
    let window = window.parse().map_err(|_| format!("{window:?} is no window"))?;
    match kind {
        "lose-device" => Ok(xent::Fault::DeviceLost { window }),
        "out-of-memory" => Ok(xent::Fault::OutOfMemory { window }),
        other => Err(format!("there is no fault {other:?}")),
    }
}
