//! What there is to measure: passes over batches of every kind.

use crate::layout::Element;
use crate::loss::Input;

/// What is computed of the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pass {
    /// The mean loss, and nothing else.
    Forward,
    /// The gradient of the mean loss.
    Gradient,
    /// The loss of each row, and the gradient of their mean.
    Both,
}

impl Pass {
    /// Whether a gradient is written, as float32.
    pub fn writes(self) -> bool {
        self != Self::Forward
    }

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Gradient => "gradient",
            Self::Both => "both",
        }
    }
}

/// How targets are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TargetKind {
    /// A class index a row, as u32.
    Sparse,
    /// A float32 for each class.
    Dense,
}

impl TargetKind {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sparse => "sparse",
            Self::Dense => "dense",
        }
    }
}

/// One combination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Case {
    /// What is computed.
    pub pass: Pass,
    /// Of what predictions.
    pub input: Input,
    /// Against what targets.
    pub targets: TargetKind,
    /// How the predictions are stored.
    pub element: Element,
    /// Classes of a row.
    pub classes: usize,
}

impl Case {
    /// The input's name in reports.
    pub fn input_name(&self) -> &'static str {
        match self.input {
            Input::Logits => "logits",
            Input::Probabilities => "probabilities",
            Input::LogProbabilities => "log-probabilities",
        }
    }

    /// The element's name in reports.
    pub fn element_name(&self) -> &'static str {
        match self.element {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
        }
    }

    /// Bytes that a pass over `rows` rows has to move: predictions and targets as stored, and what it is to write, once each.
    pub fn bytes(&self, rows: usize) -> u64 {
        let (rows, elements) = (rows as u64, rows as u64 * self.classes as u64);
        let targets = match self.targets {
            TargetKind::Sparse => rows * size_of::<u32>() as u64,
            TargetKind::Dense => elements * size_of::<f32>() as u64,
        };
        let float = size_of::<f32>() as u64;
        let outputs = match self.pass {
            Pass::Forward => 0,
            Pass::Gradient => elements * float,
            Pass::Both => elements * float + rows * float,
        };
        elements * self.element.bytes() + targets + outputs
    }
}
