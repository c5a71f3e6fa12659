//! Predictions, targets and weights that belong together. Shapes are checked here and nowhere else, values in `checked.rs`.

mod checked;

use ndarray::{ArrayD, Slice};

pub(crate) use self::checked::{Checked, Gathered, TargetSlice, Window};
use crate::error::{Error, Result};
use crate::layout::Element;
use crate::reading::{Reader, Supply};
use crate::views::{Floats, Indices, each_index};

/// What the predictions are measured against.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Targets<'a> {
    /// A class index a row: the predictions' shape less the class axis.
    Classes(Indices<'a>),
    /// A number for each class (one-hot, soft, or not normalised): the predictions' shape.
    Dense(Floats<'a>),
}

impl<'a> Targets<'a> {
    /// Class indices of any integer type.
    pub fn classes(view: impl Into<Indices<'a>>) -> Self {
        Self::Classes(view.into())
    }

    /// Some indices of the first axis.
    pub(crate) fn part(&self, slice: Slice) -> Targets<'_> {
        match self {
            Self::Classes(indices) => Targets::Classes(indices.part(slice)),
            Self::Dense(floats) => Targets::Dense(floats.part(slice)),
        }
    }

    /// A number for each class, of any floating-point type.
    pub fn dense(view: impl Into<Floats<'a>>) -> Self {
        Self::Dense(view.into())
    }

    /// Those of predictions of this shape, which less the class axis is `row_shape`.
    fn rows(self, shape: &[usize], row_shape: &[usize], class_axis: usize) -> Result<TargetRows<'a>> {
        let (found, wanted) = match &self {
            Self::Classes(indices) => (each_index!(indices, view => view.shape()), row_shape),
            Self::Dense(floats) => (floats.shape(), shape),
        };
        if found != wanted {
            return Err(Error::Shape { what: "targets", found: found.to_vec(), wanted: format!("{wanted:?}") });
        }
        Ok(match self {
            Self::Classes(indices) => TargetRows::Classes(indices),
            Self::Dense(floats) => TargetRows::Dense(Supply::Lying(floats.move_axis_last(class_axis))),
        })
    }
}

/// The targets of a batch.
#[derive(Debug, Clone)]
enum TargetRows<'a> {
    Classes(Indices<'a>),
    Dense(Supply<'a>),
}

/// Rows of predictions with their targets and weights, all borrowed. A row is an index of all axes but the class axis;
/// rows are in row-major order of these.
#[derive(Debug, Clone)]
pub struct Batch<'a> {
    predictions: Supply<'a>,
    targets: TargetRows<'a>,
    sample_weights: Option<Floats<'a>>,
    row_shape: Vec<usize>,
    class_axis: usize,
    classes: usize,
}

impl<'a> Batch<'a> {
    /// A batch whose class axis is the last.
    ///
    /// # Errors
    /// [`Error::Shape`] where targets are neither of the predictions' shape (dense) nor of that shape less the class axis
    /// (class indices); [`Error::Axis`] for predictions without dimensions.
    pub fn new(predictions: impl Into<Floats<'a>>, targets: Targets<'a>) -> Result<Self> {
        Self::with_axis(predictions, targets, -1)
    }

    /// A batch whose class axis is `axis`; negative ones count from the end. PyTorch's is 1.
    ///
    /// # Errors
    /// As [`Batch::new`], and [`Error::Axis`] for an axis that is not there.
    pub fn with_axis(predictions: impl Into<Floats<'a>>, targets: Targets<'a>, axis: isize) -> Result<Self> {
        let predictions = predictions.into();
        let shape = predictions.shape().to_vec();
        let class_axis = if axis < 0 { axis + shape.len() as isize } else { axis };
        if !(0..shape.len() as isize).contains(&class_axis) {
            return Err(Error::Axis { axis, dimensions: shape.len() });
        }
        let class_axis = class_axis as usize;
        let mut row_shape = shape.clone();
        let classes = row_shape.remove(class_axis);
        check_size(row_shape.iter().product(), classes)?;
        Ok(Self {
            predictions: Supply::Lying(predictions.move_axis_last(class_axis)),
            targets: targets.rows(&shape, &row_shape, class_axis)?,
            sample_weights: None,
            row_shape,
            class_axis,
            classes,
        })
    }

    /// A batch of `rows` rows of `classes` predictions that are read when their turn comes. The class axis is the last.
    ///
    /// On the CPU the threads that evaluate rows read them, a few at a time: they go through the cache of one core, and through no
    /// other memory. For a GPU the thread that waits for the evaluation reads whole windows. What is larger than memory in its labels
    /// as well comes in several batches of a [`Stream`](crate::Stream).
    ///
    /// A closure's arguments need their types:
    ///
    /// ```
    /// use std::ops::Range;
    /// use xent::{Batch, Reader, Targets};
    ///
    /// # fn main() -> xent::Result<()> {
    /// let labels = ndarray::arr1(&[0_u8, 2, 1, 1]);
    /// let read = |rows: Range<usize>, out: &mut [f32]| {
    ///     // From wherever they are: here each row holds its number.
    ///     for (row, out) in rows.zip(out.chunks_mut(3)) {
    ///         out.fill(row as f32);
    ///     }
    ///     Ok(())
    /// };
    /// let batch = Batch::reading(4, 3, Reader::F32(&read), Targets::classes(&labels))?;
    /// # assert_eq!((batch.rows(), batch.classes()), (4, 3));
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Shape`] where the targets' shape is neither `[rows]` (class indices) nor `[rows, classes]` (dense), or no memory could
    /// hold an array of that size.
    pub fn reading(rows: usize, classes: usize, predictions: Reader<'a>, targets: Targets<'a>) -> Result<Self> {
        Self::of_readers(rows, classes, predictions, targets.rows(&[rows, classes], &[rows], 1)?)
    }

    /// The same with dense targets that are read, too.
    ///
    /// # Errors
    /// [`Error::Shape`] where no memory could hold an array of that size.
    pub fn reading_dense(rows: usize, classes: usize, predictions: Reader<'a>, targets: Reader<'a>) -> Result<Self> {
        Self::of_readers(rows, classes, predictions, TargetRows::Dense(Supply::Read { reader: targets, classes }))
    }

    fn of_readers(rows: usize, classes: usize, reader: Reader<'a>, targets: TargetRows<'a>) -> Result<Self> {
        check_size(rows, classes)?;
        let predictions = Supply::Read { reader, classes };
        Ok(Self { predictions, targets, sample_weights: None, row_shape: vec![rows], class_axis: 1, classes })
    }

    /// Gives each row a weight, or all rows the one number of an array without dimensions.
    ///
    /// # Errors
    /// [`Error::Shape`] where the weights have neither the rows' shape nor no dimensions.
    pub fn sample_weights(mut self, weights: impl Into<Floats<'a>>) -> Result<Self> {
        let weights = weights.into();
        let found = weights.shape();
        if !found.is_empty() && found != self.row_shape.as_slice() {
            let wanted = format!("{:?}, or one number,", self.row_shape);
            return Err(Error::Shape { what: "sample weights", found: found.to_vec(), wanted });
        }
        self.sample_weights = Some(weights);
        Ok(self)
    }

    /// The predictions' shape less the class axis.
    pub fn row_shape(&self) -> &[usize] {
        &self.row_shape
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.row_shape.iter().product()
    }

    /// The number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// How a GPU may take the predictions.
    pub(crate) fn element(&self) -> Element {
        self.predictions.element()
    }

    /// Brings rows of predictions, one after the other, back to the predictions' own shape.
    pub(crate) fn unfold(&self, rows: Vec<f32>) -> Option<ArrayD<f32>> {
        let mut shape = self.row_shape.clone();
        shape.push(self.classes);
        let moved = ArrayD::from_shape_vec(shape, rows).ok()?;
        let mut order: Vec<_> = (0..self.row_shape.len()).collect();
        order.insert(self.class_axis, self.row_shape.len());
        Some(moved.permuted_axes(order))
    }

    /// Whether targets are dense, not class indices.
    pub fn is_dense(&self) -> bool {
        matches!(self.targets, TargetRows::Dense(_))
    }
}

/// Results, a number for each row or prediction, are arrays, and places within them have numbers.
fn check_size(rows: usize, classes: usize) -> Result<()> {
    let bytes = rows.checked_mul(classes.max(1)).and_then(|elements| elements.checked_mul(size_of::<f32>()));
    if bytes.is_some_and(|bytes| isize::try_from(bytes).is_ok()) {
        return Ok(());
    }
    let wanted = "what an array of float32 can hold".into();
    Err(Error::Shape { what: "a batch", found: vec![rows, classes], wanted })
}

#[cfg(test)]
mod tests {
    use ndarray::{Array1, Array2, arr0};

    use super::*;

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let p = Array2::<f32>::zeros((4, 3));
        assert!(Batch::new(p.view(), Targets::classes(Array1::<i64>::zeros(3).view())).is_err());
        assert!(Batch::new(p.view(), Targets::dense(Array2::<f32>::zeros((3, 4)).view())).is_err());
        assert!(Batch::with_axis(p.view(), Targets::dense(p.view()), 2).is_err());
        assert!(Batch::with_axis(p.view(), Targets::dense(p.view()), -3).is_err());
        assert!(Batch::new(arr0(1f32).view(), Targets::dense(arr0(1f32).view())).is_err());
        let labels = Array1::<i64>::zeros(4);
        let batch = || Batch::new(p.view(), Targets::classes(labels.view())).expect("shapes fit");
        let (short, one) = (Array1::<f32>::zeros(3), arr0(2f32));
        assert!(batch().sample_weights(short.view()).is_err());
        assert!(batch().sample_weights(one.view()).is_ok());
    }
}
