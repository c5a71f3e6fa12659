//! Rows that do not lie in memory: they are read when their turn comes, by the thread that works on them.

use std::fmt;
use std::ops::Range;

use bytemuck::Pod;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::layout::Element;
use crate::views::Floats;

/// Where rows of numbers come from that do not lie in memory: a file, an archive, a computation. Any
/// `Fn(Range<usize>, &mut [T]) -> Result<(), Box<dyn Error + Send + Sync>>` is one.
pub trait ReadRows<T>: Sync {
    /// Puts some rows into `out`: one after the other, in each the classes. There is room for just these, and what is in it
    /// before means nothing: all of it has to be written. Rows are counted from the beginning of the batch. On the CPU several
    /// threads of rayon's current pool ask at once, nearly in order, each for rows of its own, and wait for them; of a small batch the
    /// caller's alone does.
    /// Rows are asked for once, but for those that a GPU had when it failed and the CPU finishes.
    ///
    /// # Errors
    /// Whatever prevents it; it ends the evaluation as [`Error::Read`](crate::Error::Read).
    fn read_rows(&self, rows: Range<usize>, out: &mut [T]) -> Result<(), Unread>;
}

/// Why rows could not be read.
pub(crate) type Unread = Box<dyn std::error::Error + Send + Sync>;

impl<T, F: Fn(Range<usize>, &mut [T]) -> Result<(), Unread> + Sync> ReadRows<T> for F {
    fn read_rows(&self, rows: Range<usize>, out: &mut [T]) -> Result<(), Unread> {
        self(rows, out)
    }
}

/// What reads the rows of a [`Batch`](crate::Batch::reading), by the type that they are read in.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Reader<'a> {
    /// float16.
    F16(&'a dyn ReadRows<f16>),
    /// bfloat16.
    Bf16(&'a dyn ReadRows<bf16>),
    /// float32.
    F32(&'a dyn ReadRows<f32>),
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F16(_) => "Reader::F16",
            Self::Bf16(_) => "Reader::Bf16",
            Self::F32(_) => "Reader::F32",
        })
    }
}

/// Memory that rows are gathered or read into, kept from one window to the next.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    floats: Vec<f32>,
    halves: Vec<u16>,
}

/// Rows of numbers, wherever they are.
#[derive(Debug, Clone)]
pub(crate) enum Supply<'a> {
    /// The class axis is the last.
    Lying(Floats<'a>),
    Read {
        reader: Reader<'a>,
        classes: usize,
    },
}

impl Supply<'_> {
    /// How kernels may take them.
    pub(crate) fn element(&self) -> Element {
        match self {
            Self::Lying(floats) => floats.element(),
            Self::Read { reader: Reader::F16(_), .. } => Element::F16,
            Self::Read { reader: Reader::Bf16(_), .. } => Element::Bf16,
            Self::Read { reader: Reader::F32(_), .. } => Element::F32,
        }
    }

    /// Whether they do not lie in memory.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self, Self::Read { .. })
    }

    /// Some rows as float32, one after the other: where they lie, or in `buffer`.
    pub(crate) fn rows<'b>(&'b self, rows: Range<usize>, buffer: &'b mut Buffer) -> Result<&'b [f32], Unread> {
        fn widened<'b, T>(halves: &[T], floats: &'b mut Vec<f32>) -> &'b [f32]
        where
            [T]: HalfFloatSliceExt,
        {
            floats.resize(floats.len().max(halves.len()), 0.0);
            let floats = &mut floats[..halves.len()];
            halves.convert_to_f32_slice(floats);
            floats
        }
        let Buffer { floats, halves } = buffer;
        Ok(match *self {
            Self::Lying(ref lying) => lying.rows(rows, floats),
            Self::Read { reader: Reader::F32(reader), classes } => read(reader, rows, classes, floats)?,
            Self::Read { reader: Reader::F16(reader), classes } => {
                widened::<f16>(bytemuck::cast_slice(read(reader, rows, classes, halves)?), floats)
            }
            Self::Read { reader: Reader::Bf16(reader), classes } => {
                widened::<bf16>(bytemuck::cast_slice(read(reader, rows, classes, halves)?), floats)
            }
        })
    }

    /// As [`rows`](Self::rows), as the bits of 16-bit floats. There are none of other types.
    pub(crate) fn halves<'b>(&'b self, rows: Range<usize>, buffer: &'b mut Buffer) -> Result<&'b [u16], Unread> {
        let halves = &mut buffer.halves;
        match *self {
            Self::Lying(ref lying) => Ok(lying.halves(rows, halves)),
            Self::Read { reader: Reader::F16(reader), classes } => read(reader, rows, classes, halves),
            Self::Read { reader: Reader::Bf16(reader), classes } => read(reader, rows, classes, halves),
            Self::Read { reader: Reader::F32(_), .. } => Ok(&[]),
        }
    }
}

/// Reads rows of `T` into a buffer of what has their bits.
fn read<'b, T: Pod, B: Pod>(
    reader: &dyn ReadRows<T>,
    rows: Range<usize>,
    classes: usize,
    buffer: &'b mut Vec<B>,
) -> Result<&'b [B], Unread> {
    let count = rows.len() * classes;
    // What it held is overwritten: nothing is cleared but what is new.
    if buffer.len() < count {
        buffer.resize(count, B::zeroed());
    }
    let out = &mut buffer[..count];
    if cfg!(debug_assertions) {
        // A NaN of any width: what a reader leaves out shows.
        bytemuck::cast_slice_mut::<B, u8>(out).fill(0xff);
    }
    reader.read_rows(rows, bytemuck::cast_slice_mut(out))?;
    Ok(out)
}
