//! Arrays as callers have them: borrowed views of any strides and of many types.

use half::{bf16, f16};
use ndarray::{Array, ArrayView, ArrayViewD, Axis, Dimension, Slice};

use crate::cpu::isa::{Instructions, Isa, Work, dispatch};
use crate::layout::{Element, IGNORED};
use crate::threads::{self, Spread};

/// An element that the host rounds to float32, or takes as a class index.
trait Float: Copy {
    fn to_f32(self) -> f32;
}

macro_rules! views {
    ($(#[$doc:meta])* $name:ident { $($variant:ident($type:ty)),* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub enum $name<'a> {
            $(#[doc = concat!("Elements of type `", stringify!($type), "`.")] $variant(ArrayViewD<'a, $type>),)*
        }

        impl $name<'_> {
            /// Some indices of the first axis; all of an array without axes.
            pub(crate) fn part(&self, slice: Slice) -> $name<'_> {
                match self {
                    $(Self::$variant(view) => $name::$variant(match view.ndim() {
                        0 => view.view(),
                        _ => view.slice_axis(Axis(0), slice),
                    }),)*
                }
            }
        }

        $(impl<'a, D: Dimension> From<ArrayView<'a, $type, D>> for $name<'a> {
            fn from(view: ArrayView<'a, $type, D>) -> Self {
                Self::$variant(view.into_dyn())
            }
        }

        impl<'a, D: Dimension> From<&'a Array<$type, D>> for $name<'a> {
            fn from(array: &'a Array<$type, D>) -> Self {
                array.view().into()
            }
        })*
    };
}

views! {
    /// A view of floating-point numbers. float64 predictions and targets are rounded to float32, sample weights are not; the 16-bit
    /// types are exact in it.
    Floats { F16(f16), Bf16(bf16), F32(f32), F64(f64) }
}

views! {
    /// A view of class indices.
    Indices { U8(u8), I8(i8), U16(u16), I16(i16), U32(u32), I32(i32), U64(u64), I64(i64), Usize(usize), Isize(isize) }
}

/// Does `$body` with the view inside, whatever its element.
macro_rules! each_float {
    ($floats:expr, $view:ident => $body:expr) => {
        match $floats {
            Floats::F16($view) => $body,
            Floats::Bf16($view) => $body,
            Floats::F32($view) => $body,
            Floats::F64($view) => $body,
        }
    };
}

macro_rules! each_index {
    ($indices:expr, $view:ident => $body:expr) => {
        match $indices {
            Indices::U8($view) => $body,
            Indices::I8($view) => $body,
            Indices::U16($view) => $body,
            Indices::I16($view) => $body,
            Indices::U32($view) => $body,
            Indices::I32($view) => $body,
            Indices::U64($view) => $body,
            Indices::I64($view) => $body,
            Indices::Usize($view) => $body,
            Indices::Isize($view) => $body,
        }
    };
}

impl Float for f16 {
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}

impl Float for bf16 {
    fn to_f32(self) -> f32 {
        self.to_f32()
    }
}

impl Float for f32 {
    fn to_f32(self) -> f32 {
        self
    }
}

impl Float for f64 {
    fn to_f32(self) -> f32 {
        self as f32
    }
}

/// What is wrong with class indices: the first bad one, with its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadLabel {
    pub row: usize,
    pub label: i128,
}

/// A type of class indices.
trait Label: Copy + Sync {
    /// Whether the index is neither one of `classes` nor the ignored one.
    fn is_bad(classes: usize, ignore_index: Option<i64>) -> impl Fn(Self) -> bool + Copy + Sync;

    /// The index as kernels take it.
    fn to_class(ignore_index: Option<i64>) -> impl Fn(Self) -> u32 + Copy;

    fn to_i128(self) -> i128;
}

macro_rules! labels {
    ($($type:ty as $unsigned:ty),+) => {
        $(impl Label for $type {
            #[inline(always)]
            fn is_bad(classes: usize, ignore_index: Option<i64>) -> impl Fn(Self) -> bool + Copy + Sync {
                // As unsigned numbers, negative ones are above every class.
                let last = <$type>::try_from(classes.saturating_sub(1)).unwrap_or(<$type>::MAX) as $unsigned;
                let ignored = ignore_index.and_then(|index| Self::try_from(index).ok());
                let (none, ignores, ignored) = (classes == 0, ignored.is_some(), ignored.unwrap_or_default());
                move |label| ((label as $unsigned > last) | none) & !(ignores & (label == ignored))
            }

            #[allow(clippy::cast_lossless, reason = "of some types it is lossless")]
            #[inline(always)]
            fn to_class(ignore_index: Option<i64>) -> impl Fn(Self) -> u32 + Copy {
                let ignored = ignore_index.and_then(|index| Self::try_from(index).ok());
                let (ignores, ignored) = (ignored.is_some(), ignored.unwrap_or_default());
                move |label| if ignores & (label == ignored) { IGNORED } else { label as u32 }
            }

            #[allow(clippy::cast_lossless, reason = "of some types there is no other way")]
            fn to_i128(self) -> i128 {
                self as i128
            }
        })+
    };
}

labels!(
    u8 as u8,
    i8 as u8,
    u16 as u16,
    i16 as u16,
    u32 as u32,
    i32 as u32,
    u64 as u64,
    i64 as u64,
    usize as usize,
    isize as usize
);

/// Looks for a label that [`Label::is_bad`].
struct Search<'a, T> {
    labels: &'a [T],
    classes: usize,
    ignore_index: Option<i64>,
}

impl<T: Label> Work for Search<'_, T> {
    type Output = bool;

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> bool {
        let is_bad = T::is_bad(self.classes, self.ignore_index);
        // No early exit within a stretch: so it goes through vectors.
        self.labels.chunks(4096).any(|labels| labels.iter().fold(false, |bad, &label| bad | is_bad(label)))
    }
}

fn first_bad<T: Label>(labels: &[T], classes: usize, ignore_index: Option<i64>) -> Option<BadLabel> {
    let search = |labels| dispatch(Instructions::best(), Search { labels, classes, ignore_index });
    let found = threads::spread(labels.chunks(1 << 18).collect(), Spread::default(), search);
    if !found.contains(&true) {
        return None;
    }
    let is_bad = T::is_bad(classes, ignore_index);
    let row = labels.iter().position(|&label| is_bad(label))?;
    Some(BadLabel { row, label: labels[row].to_i128() })
}

impl Indices<'_> {
    /// The first label that is neither one of `classes` nor the ignored one.
    pub(crate) fn first_bad(&self, classes: usize, ignore_index: Option<i64>) -> Option<BadLabel> {
        each_index!(self, view => if let Some(labels) = view.as_slice() {
            first_bad(labels, classes, ignore_index)
        } else {
            let labels: Vec<_> = view.iter().copied().collect();
            first_bad(&labels, classes, ignore_index)
        })
    }

    /// Some of the labels as kernels take them, each one good. Borrowed where they already are so, else put into `buffer`.
    pub(crate) fn classes<'b>(
        &'b self,
        rows: std::ops::Range<usize>,
        ignore_index: Option<i64>,
        buffer: &'b mut Vec<u32>,
    ) -> &'b [u32] {
        fn put<T: Label>(labels: impl Iterator<Item = T>, ignore_index: Option<i64>, buffer: &mut Vec<u32>) {
            buffer.extend(labels.map(T::to_class(ignore_index)));
        }
        if let Self::U32(view) = self
            && ignore_index.is_none()
            && let Some(all) = view.as_slice()
        {
            return &all[rows];
        }
        buffer.clear();
        each_index!(self, view => if let Some(all) = view.as_slice() {
            put(all[rows].iter().copied(), ignore_index, buffer);
        } else {
            let mut some = Vec::new();
            gather(&view.view().insert_axis(Axis(view.ndim())), rows, |label| label, &mut some);
            put(some.into_iter(), ignore_index, buffer);
        });
        buffer
    }
}

impl Floats<'_> {
    pub(crate) fn shape(&self) -> &[usize] {
        each_float!(self, view => view.shape())
    }

    /// With axis `axis` moved to the end.
    pub(crate) fn move_axis_last(self, axis: usize) -> Self {
        fn moved<T>(view: ArrayViewD<'_, T>, axis: usize) -> ArrayViewD<'_, T> {
            let mut order: Vec<_> = (0..view.ndim()).filter(|&a| a != axis).collect();
            order.push(axis);
            view.permuted_axes(order)
        }
        match self {
            Self::F16(view) => Self::F16(moved(view, axis)),
            Self::Bf16(view) => Self::Bf16(moved(view, axis)),
            Self::F32(view) => Self::F32(moved(view, axis)),
            Self::F64(view) => Self::F64(moved(view, axis)),
        }
    }

    /// Rows (indices of all axes but the last, in row-major order) as float32, one after the other. Borrowed where they
    /// already lie so in memory, else gathered into `buffer`.
    pub(crate) fn rows<'b>(&'b self, rows: std::ops::Range<usize>, buffer: &'b mut Vec<f32>) -> &'b [f32] {
        let classes = self.shape().last().copied().unwrap_or(1);
        if let Self::F32(view) = self
            && let Some(all) = view.as_slice()
        {
            return &all[rows.start * classes..rows.end * classes];
        }
        buffer.clear();
        each_float!(self, view => gather(view, rows, Float::to_f32, buffer));
        buffer
    }

    /// How a GPU may take them.
    pub(crate) fn element(&self) -> Element {
        match self {
            Self::F16(_) => Element::F16,
            Self::Bf16(_) => Element::Bf16,
            Self::F32(_) | Self::F64(_) => Element::F32,
        }
    }

    /// As [`rows`](Self::rows), as the bits of 16-bit floats. There are none of other types.
    pub(crate) fn halves<'b>(&'b self, rows: std::ops::Range<usize>, buffer: &'b mut Vec<u16>) -> &'b [u16] {
        let classes = self.shape().last().copied().unwrap_or(1);
        let elements = rows.start * classes..rows.end * classes;
        let lying = match self {
            Self::F16(view) => view.as_slice().map(|all| bytemuck::cast_slice(&all[elements])),
            Self::Bf16(view) => view.as_slice().map(|all| bytemuck::cast_slice(&all[elements])),
            Self::F32(_) | Self::F64(_) => None,
        };
        if let Some(halves) = lying {
            return halves;
        }
        buffer.clear();
        match self {
            Self::F16(view) => gather(view, rows, f16::to_bits, buffer),
            Self::Bf16(view) => gather(view, rows, bf16::to_bits, buffer),
            Self::F32(_) | Self::F64(_) => {}
        }
        buffer
    }
}

fn gather<T: Copy, U>(view: &ArrayViewD<'_, T>, rows: std::ops::Range<usize>, convert: impl Fn(T) -> U, out: &mut Vec<U>) {
    for row in rows {
        let mut lane = view.view();
        let mut rest = row;
        for axis in (0..view.ndim() - 1).rev() {
            let length = view.len_of(Axis(axis));
            lane.collapse_axis(Axis(axis), rest % length);
            rest /= length;
        }
        out.extend(lane.iter().map(|&x| convert(x)));
    }
}

pub(crate) use each_index;
