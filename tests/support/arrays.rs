//! The arrays that a [`Batch`] borrows, of every type that the library takes.

use half::{bf16, f16};
use ndarray::{Array, ArrayD, IxDyn};
use xent::{Batch, Floats};

use super::golden::Golden;
use super::oracle::{Problem, Targets};

/// What a [`Batch`] borrows.
pub struct Arrays {
    predictions: PredictionArray,
    targets: TargetArray,
    sample_weights: Option<ArrayD<f64>>,
    axis: isize,
}

enum PredictionArray {
    F32(ArrayD<f32>),
    F16(ArrayD<f16>),
    Bf16(ArrayD<bf16>),
}

/// How predictions are handed over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Element {
    /// As float32.
    F32,
    /// As float16, which has to hold them exactly.
    F16,
    /// As bfloat16, the same.
    Bf16,
}

impl Element {
    /// The nearest number that predictions stored so can be.
    pub fn rounded(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::F16 => f16::from_f32(x).to_f32(),
            Self::Bf16 => bf16::from_f32(x).to_f32(),
        }
    }
}

impl PredictionArray {
    fn of(shape: &[usize], values: &[f32], element: Element) -> Self {
        fn exact<T>(shape: &[usize], values: &[f32], to: fn(f32) -> T, back: fn(&T) -> f32) -> ArrayD<T> {
            let narrow: Vec<T> = values.iter().copied().map(to).collect();
            let kept = narrow.iter().map(back).zip(values).all(|(a, b)| a == *b || (a.is_nan() && b.is_nan()));
            assert!(kept, "16 bits do not hold these predictions: the test would ask for something else");
            array(shape, narrow)
        }
        match element {
            Element::F32 => Self::F32(array(shape, values.to_vec())),
            Element::F16 => Self::F16(exact(shape, values, f16::from_f32, |x| x.to_f32())),
            Element::Bf16 => Self::Bf16(exact(shape, values, bf16::from_f32, |x| x.to_f32())),
        }
    }

    fn view(&self) -> Floats<'_> {
        match self {
            Self::F32(values) => values.view().into(),
            Self::F16(values) => values.view().into(),
            Self::Bf16(values) => values.view().into(),
        }
    }
}

enum TargetArray {
    U8(ArrayD<u8>),
    I8(ArrayD<i8>),
    U16(ArrayD<u16>),
    I16(ArrayD<i16>),
    U32(ArrayD<u32>),
    I32(ArrayD<i32>),
    U64(ArrayD<u64>),
    I64(ArrayD<i64>),
    Dense(ArrayD<f32>),
}

/// Types of class indices: as many as [`Arrays::with_labels`] knows.
pub const LABEL_TYPES: usize = 8;

fn array<T>(shape: &[usize], values: Vec<T>) -> ArrayD<T> {
    Array::from_shape_vec(IxDyn(shape), values).expect("values fill the shape")
}

/// Labels as the type with this number, or as i64 where one of them does not fit.
fn labels(shape: &[usize], values: &[i64], label_type: usize) -> TargetArray {
    fn narrowed<T: TryFrom<i64>>(
        shape: &[usize],
        values: &[i64],
        wrap: impl Fn(ArrayD<T>) -> TargetArray,
    ) -> Option<TargetArray> {
        let narrow: Option<Vec<T>> = values.iter().map(|label| T::try_from(*label).ok()).collect();
        narrow.map(|narrow| wrap(array(shape, narrow)))
    }
    let narrow = match label_type {
        0 => narrowed(shape, values, TargetArray::U8),
        1 => narrowed(shape, values, TargetArray::I8),
        2 => narrowed(shape, values, TargetArray::U16),
        3 => narrowed(shape, values, TargetArray::I16),
        4 => narrowed(shape, values, TargetArray::U32),
        5 => narrowed(shape, values, TargetArray::I32),
        6 => narrowed(shape, values, TargetArray::U64),
        _ => None,
    };
    narrow.unwrap_or_else(|| TargetArray::I64(array(shape, values.to_vec())))
}

impl Arrays {
    /// A problem's arrays in two dimensions.
    pub fn of(problem: &Problem) -> Self {
        Self::with_labels(problem, 7)
    }

    /// The same with class indices of the type with this number.
    pub fn with_labels(problem: &Problem, label_type: usize) -> Self {
        let shape = [problem.rows, problem.classes];
        Self {
            predictions: PredictionArray::of(&shape, &problem.predictions, Element::F32),
            targets: match &problem.targets {
                Targets::Classes(values) => labels(&shape[..1], values, label_type),
                Targets::Dense(dense) => TargetArray::Dense(array(&shape, dense.clone())),
            },
            sample_weights: problem.sample_weights.as_ref().map(|weights| array(&shape[..1], weights.clone())),
            axis: -1,
        }
    }

    /// The same with predictions as `element`.
    pub fn stored(problem: &Problem, element: Element) -> Self {
        let shape = [problem.rows, problem.classes];
        Self { predictions: PredictionArray::of(&shape, &problem.predictions, element), ..Self::of(problem) }
    }

    /// A golden case's arrays in the shape and with the axis that the other library was given.
    pub fn golden(case: &Golden) -> Self {
        let mut rows = case.shape.clone();
        rows.remove(case.axis);
        Self {
            predictions: PredictionArray::of(&case.shape, &case.raw_predictions, case.element),
            targets: match &case.raw_targets {
                Targets::Classes(values) => labels(&case.targets_shape, values, 7),
                Targets::Dense(dense) => TargetArray::Dense(array(&case.targets_shape, dense.clone())),
            },
            sample_weights: case.problem.sample_weights.as_ref().map(|weights| array(&rows, weights.clone())),
            axis: case.axis as isize,
        }
    }

    /// The batch.
    pub fn batch(&self) -> Batch<'_> {
        let targets = match &self.targets {
            TargetArray::U8(labels) => xent::Targets::classes(labels.view()),
            TargetArray::I8(labels) => xent::Targets::classes(labels.view()),
            TargetArray::U16(labels) => xent::Targets::classes(labels.view()),
            TargetArray::I16(labels) => xent::Targets::classes(labels.view()),
            TargetArray::U32(labels) => xent::Targets::classes(labels.view()),
            TargetArray::I32(labels) => xent::Targets::classes(labels.view()),
            TargetArray::U64(labels) => xent::Targets::classes(labels.view()),
            TargetArray::I64(labels) => xent::Targets::classes(labels.view()),
            TargetArray::Dense(dense) => xent::Targets::dense(dense.view()),
        };
        let batch = Batch::with_axis(self.predictions.view(), targets, self.axis).expect("the shapes fit");
        match &self.sample_weights {
            Some(weights) => batch.sample_weights(weights.view()).expect("the shapes fit"),
            None => batch,
        }
    }
}
