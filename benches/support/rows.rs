//! Rows of noise, the same in every run.

use std::fmt;

use half::{bf16, f16};
use ndarray::{Array1, Array2};
use xent::{Batch, Floats, Input, Targets};

/// How predictions are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    F32,
    F16,
    Bf16,
}

impl Element {
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }
}

/// What rows are made of.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    pub input: Input,
    pub dense: bool,
    pub element: Element,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = if self.input == Input::Logits { "logits" } else { "probabilities" };
        let targets = if self.dense { "dense" } else { "sparse" };
        let element = match self.element {
            Element::F32 => "f32",
            Element::F16 => "f16",
            Element::Bf16 => "bf16",
        };
        write!(f, "{input}/{targets}/{element}")
    }
}

/// Predictions as they are stored.
enum Stored {
    F32(Array2<f32>),
    F16(Array2<f16>),
    Bf16(Array2<bf16>),
}

/// Predictions and targets.
pub struct Rows {
    pub kind: Kind,
    /// How many rows.
    pub count: usize,
    pub classes: usize,
    predictions: Stored,
    labels: Array1<u32>,
    /// Of sum 1; without rows where targets are class indices.
    dense: Array2<f32>,
}

/// Numbers from 0 to 1, by Marsaglia's xorshift.
pub fn noise() -> impl FnMut() -> f32 {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32
    }
}

impl Rows {
    /// Logits between -4 and 4, or the shares of numbers between 0.1 and 1.
    pub fn new(kind: Kind, rows: usize, classes: usize) -> Self {
        let mut noise = noise();
        let shape = (rows, classes);
        let predictions = match kind.input {
            Input::Logits => Array2::from_shape_simple_fn(shape, || noise() * 8.0 - 4.0),
            _ => shares(shape, || 0.1 + 0.9 * noise()),
        };
        Self {
            kind,
            count: rows,
            classes,
            predictions: match kind.element {
                Element::F32 => Stored::F32(predictions),
                Element::F16 => Stored::F16(predictions.mapv(f16::from_f32)),
                Element::Bf16 => Stored::Bf16(predictions.mapv(bf16::from_f32)),
            },
            labels: Array1::from_shape_fn(rows, |row| (row * 7 % classes) as u32),
            dense: shares(if kind.dense { shape } else { (0, classes) }, &mut noise),
        }
    }

    pub fn batch(&self) -> Batch<'_> {
        let predictions: Floats<'_> = match &self.predictions {
            Stored::F32(array) => array.view().into(),
            Stored::F16(array) => array.view().into(),
            Stored::Bf16(array) => array.view().into(),
        };
        let targets = if self.kind.dense { Targets::dense(self.dense.view()) } else { Targets::classes(self.labels.view()) };
        Batch::new(predictions, targets).expect("shapes fit")
    }

    /// A row's predictions, as exactly as they are stored.
    pub fn predictions(&self, row: usize, to: &mut Vec<f64>) {
        to.clear();
        match &self.predictions {
            Stored::F32(array) => to.extend(array.row(row).iter().map(|&x| f64::from(x))),
            Stored::F16(array) => to.extend(array.row(row).iter().map(|x| x.to_f64())),
            Stored::Bf16(array) => to.extend(array.row(row).iter().map(|x| x.to_f64())),
        }
    }

    /// A class's target.
    pub fn target(&self, row: usize, class: usize) -> f64 {
        if self.kind.dense { self.dense[(row, class)].into() } else { f64::from(u8::from(self.labels[row] as usize == class)) }
    }
}

/// Rows of sum 1.
fn shares(shape: (usize, usize), number: impl FnMut() -> f32) -> Array2<f32> {
    let mut rows = Array2::from_shape_simple_fn(shape, number);
    for mut row in rows.rows_mut() {
        let sum = row.iter().map(|&x| f64::from(x)).sum::<f64>();
        row.mapv_inplace(|x| (f64::from(x) / sum) as f32);
    }
    rows
}
