//! Class indices in the type that the file has them in.

use super::dtype::Dtype;
use super::{FileError, Source};
use ndarray::ArrayView;
use std::fmt::Debug;
use std::ops::Range;

/// Labels that are looked at without a branch, few enough that a byte counts them.
const BLOCK: usize = 128;

/// Class indices in the file's own type; bool and whole floats as int64.
#[derive(Debug)]
pub(crate) enum Labels {
    I8(Vec<i8>),
    U8(Vec<u8>),
    I16(Vec<i16>),
    U16(Vec<u16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
}

/// Does `$body` with the labels inside, whatever their type.
macro_rules! each_label {
    ($labels:expr, $values:ident => $body:expr) => {
        match $labels {
            Labels::I8($values) => $body,
            Labels::U8($values) => $body,
            Labels::I16($values) => $body,
            Labels::U16($values) => $body,
            Labels::I32($values) => $body,
            Labels::U32($values) => $body,
            Labels::I64($values) => $body,
            Labels::U64($values) => $body,
        }
    };
}

impl Labels {
    /// None yet, of the type for this file.
    pub(crate) fn of(source: &Source) -> Self {
        match source.array().header.dtype {
            Dtype::I8 => Self::I8(Vec::new()),
            Dtype::U8 => Self::U8(Vec::new()),
            Dtype::I16 => Self::I16(Vec::new()),
            Dtype::U16 => Self::U16(Vec::new()),
            Dtype::I32 => Self::I32(Vec::new()),
            Dtype::U32 => Self::U32(Vec::new()),
            Dtype::U64 => Self::U64(Vec::new()),
            Dtype::I64 | Dtype::Bool | Dtype::F16 | Dtype::Bf16 | Dtype::F32 | Dtype::F64 => Self::I64(Vec::new()),
        }
    }

    /// Bytes of one label in memory.
    pub(crate) fn element_bytes(&self) -> usize {
        fn size_of_one<T>(_: &[T]) -> usize {
            size_of::<T>()
        }
        each_label!(self, labels => size_of_one(labels))
    }

    /// Reads labels of the file that they were made for, in place of those before.
    ///
    /// # Errors
    /// A float that is no whole number of int64, with its place and the number of classes; a file that cannot be read or has become
    /// shorter; elements that the array does not have.
    pub(crate) fn read(&mut self, source: &Source, range: Range<usize>, classes: usize) -> Result<(), FileError> {
        match self {
            // Floats too, which have to be looked at one by one.
            Self::I64(labels) => source.read_labels(range, classes, labels),
            Self::I8(labels) => source.read_elements(range, labels),
            Self::U8(labels) => source.read_elements(range, labels),
            Self::I16(labels) => source.read_elements(range, labels),
            Self::U16(labels) => source.read_elements(range, labels),
            Self::I32(labels) => source.read_elements(range, labels),
            Self::U32(labels) => source.read_elements(range, labels),
            Self::U64(labels) => source.read_elements(range, labels),
        }
    }

    /// The labels as the library takes them.
    pub(crate) fn view(&self) -> xent::Indices<'_> {
        each_label!(self, labels => ArrayView::from(labels).into())
    }

    /// How many of the labels are not the ignored one, if each of these is a class.
    ///
    /// # Errors
    /// The first that is none; `first` is the row of the first label.
    pub(crate) fn check(
        &self,
        source: &Source,
        first: usize,
        classes: usize,
        ignore_index: Option<i64>,
    ) -> Result<usize, FileError> {
        let found = each_label!(self, labels => find(labels, classes, ignore_index));
        found.map_err(|Bad { place, label }| source.no_class(first + place, label, classes))
    }

    /// Calls `take` with the place and the class of each label but the ignored ones. All have to be found good before.
    pub(crate) fn each_class(&self, ignore_index: Option<i64>, take: impl FnMut(usize, usize)) {
        each_label!(self, labels => each_class(labels, ignore_index, take));
    }
}

impl Source {
    /// What is said of a label that is no class.
    pub(crate) fn no_class(&self, row: usize, label: impl Debug, classes: usize) -> FileError {
        FileError::at_row(self.name(), row, format_args!("class index {label:?} is not among the {classes} classes"))
    }
}

/// A label that is no class.
#[derive(Debug, PartialEq, Eq)]
struct Bad {
    place: usize,
    label: i128,
}

/// How many labels are not the ignored one; or the first that is no class either.
fn find<T>(labels: &[T], classes: usize, ignore_index: Option<i64>) -> Result<usize, Bad>
where
    T: Copy + Default + PartialOrd + TryFrom<usize> + TryFrom<i64> + Into<i128> + Limit,
{
    let (zero, last) = (T::default(), T::try_from(classes.saturating_sub(1)).unwrap_or(T::MOST));
    // One that the type cannot hold does not occur.
    let ignored = ignore_index.and_then(|index| T::try_from(index).ok());
    let (ignores, ignored) = (ignored.is_some(), ignored.unwrap_or_default());
    let is_ignored = |label: T| ignores & (label == ignored);
    let is_bad = |label: T| ((label < zero) | (label > last)) & !is_ignored(label);
    let mut kept = labels.len();
    for (block, start) in labels.chunks(BLOCK).zip((0..).step_by(BLOCK)) {
        let (mut bad, mut without) = (false, 0_u8);
        for &label in block {
            bad |= is_bad(label);
            without += u8::from(is_ignored(label));
        }
        if bad && let Some(at) = block.iter().position(|&label| is_bad(label)) {
            return Err(Bad { place: start + at, label: block[at].into() });
        }
        kept -= usize::from(without);
    }
    Ok(kept)
}

fn each_class<T>(labels: &[T], ignore_index: Option<i64>, mut take: impl FnMut(usize, usize))
where
    T: Copy + PartialEq + TryFrom<i64> + TryInto<usize>,
{
    let ignored = ignore_index.and_then(|index| T::try_from(index).ok());
    for (place, &label) in labels.iter().enumerate() {
        if ignored != Some(label)
            && let Ok(class) = label.try_into()
        {
            take(place, class);
        }
    }
}

/// A type's largest number.
trait Limit {
    const MOST: Self;
}

macro_rules! limits {
    ($($type:ty),+) => {
        $(impl Limit for $type {
            const MOST: Self = Self::MAX;
        })+
    };
}

limits!(i8, u8, i16, u16, i32, u32, i64, u64);
