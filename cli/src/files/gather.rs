//! Any window of an array of any strides, in few reads and in constant memory.
//!
//! A window is a range of *rows*: a row is one position on every axis but the class axis, numbered in row-major order, and
//! holds the values along the class axis. In the output, rows follow each other; in the file, the neighbours of a value
//! may lie anywhere. The work is cut in four steps, each of which only knows strides, never the order of a file:
//!
//! 1. **Parts.** The window is cut into runs of rows whose values fit the working memory ([`CAPACITY`]), but never shorter
//!    than [`SHORTEST_RUN`]: where the class axis moves slowly in the file, a part's length is the length of its reads.
//! 2. **Boxes.** A part is a range of row numbers; unravelled, it is a few boxes (ranges on every axis). Inside a box, both
//!    the place in the file and the place in the output are linear in the indices, so a box is a list of axes, each with a
//!    count and two strides. Axes that continue each other in both places are merged.
//! 3. **Batches.** Axes are taken from the fastest in the file outwards while their elements fit the working memory. As
//!    long as the gap between neighbours is no more than [`GAP`], they are fetched by *one* read, gap included; axes with
//!    wider gaps are fetched by a read each, one behind the other. The axis that does not fit is taken in pieces, and the
//!    axes outside of it are stepped through.
//! 4. **Scatter.** The batch's bytes become numbers in one vectorised pass, and the numbers are copied to their places in
//!    small tiles, so that both sides of a transposition stay in the cache. Where a batch lies in the output exactly as it
//!    does in the file, it is decoded, or even read, directly into its place.

use super::dtype::{Number, swap_bytes};
use super::npy::Header;
use super::source::Array;
use std::io;
use std::ops::Range;

/// Elements held at a time: at most 1 MiB of bytes and 1 MiB of numbers, which the second-level cache of most machines
/// holds, and long enough that a read's fixed cost does not show.
const CAPACITY: usize = 128 << 10;

/// A gap of a page costs no more to read than to skip: the disk delivers whole pages, and to copy one takes about as long
/// as another system call.
const GAP: usize = 4096;

/// Rows in a part, at the least, if the window has them.
const SHORTEST_RUN: usize = 4096;

/// Edge of the tiles in which values are transposed: 16 float32 are one cache line.
const TILE: usize = 16;

/// An axis over which rows are numbered.
#[derive(Clone, Copy, Debug)]
struct RowAxis {
    count: usize,
    /// Elements from one index to the next in the file.
    file: usize,
    /// Rows from one index to the next.
    rows: usize,
}

/// An axis of a box.
#[derive(Clone, Copy, Debug)]
struct Axis {
    count: usize,
    /// Elements from one index to the next in the file …
    file: usize,
    /// … in the output …
    out: usize,
    /// … and in the working memory.
    held: usize,
    /// Indices taken into one batch.
    take: usize,
    /// Whether neighbours on this axis come with the same read.
    one_read: bool,
}

impl Axis {
    fn new(count: usize, file: usize, out: usize) -> Self {
        Self { count, file, out, held: 0, take: 1, one_read: false }
    }
}

/// Where the values of rows lie in a file.
struct Layout {
    classes: usize,
    class_stride: usize,
    row_axes: Vec<RowAxis>,
}

impl Layout {
    fn of(header: &Header, class_axis: Option<usize>) -> Self {
        let strides = strides(&header.shape, header.fortran);
        let (classes, class_stride) = class_axis.map_or((1, 1), |axis| (header.shape[axis], strides[axis]));
        Self { classes, class_stride, row_axes: row_axes(&header.shape, &strides, class_axis) }
    }
}

/// Whether rows lie in the file as they do in a window: one after the other, in each the classes.
pub(super) fn in_order(header: &Header, class_axis: Option<usize>) -> bool {
    let Layout { classes, class_stride, row_axes } = Layout::of(header, class_axis);
    (classes == 1 || class_stride == 1) && row_axes.iter().all(|axis| axis.file == axis.rows * classes)
}

/// Fills `out` with the values of `rows`, a range inside the array; `class_axis` is `None` where each element is a row.
/// `scratch` is working memory, kept by the caller so that the next window finds it.
pub(super) fn gather<T: Number>(
    array: &Array,
    class_axis: Option<usize>,
    rows: Range<usize>,
    out: &mut [T],
    scratch: &mut Vec<u64>,
) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    let header = &array.header;
    let Layout { classes, class_stride, row_axes } = Layout::of(header, class_axis);

    let as_stored = header.dtype == T::STORED_AS && !array.is_swapped();
    if as_stored && in_order(header, class_axis) {
        // The common case needs none of this: one read, straight into its place.
        let first = rows.start * classes * header.dtype.size();
        return array.read_at(bytemuck::cast_slice_mut(out), first as u64);
    }

    let part = (CAPACITY / classes).max(SHORTEST_RUN);
    let mut gather = Gather { array, as_stored, out, scratch };
    for start in rows.clone().step_by(part) {
        let end = rows.end.min(start + part);
        let mut row = start;
        while row < end {
            let (count, file, inside) = next_box(&row_axes, row, end);
            let mut axes: Vec<Axis> = inside.iter().map(|axis| Axis::new(axis.count, axis.file, axis.rows * classes)).collect();
            axes[0].count = count;
            axes.push(Axis::new(classes, class_stride, 1));
            gather.read_box(axes, file, (row - rows.start) * classes)?;
            row += count * inside[0].rows;
        }
    }
    Ok(())
}

/// Elements from one index to the next, on every axis.
fn strides(shape: &[usize], fortran: bool) -> Vec<usize> {
    let mut strides = vec![0; shape.len()];
    let mut next = 1;
    let mut set = |axis: usize| {
        strides[axis] = next;
        next *= shape[axis];
    };
    if fortran {
        (0..shape.len()).for_each(&mut set);
    } else {
        (0..shape.len()).rev().for_each(&mut set);
    }
    strides
}

/// The axes of rows, slowest first; at least one. Those that continue each other in the file are merged.
fn row_axes(shape: &[usize], strides: &[usize], class_axis: Option<usize>) -> Vec<RowAxis> {
    let mut axes: Vec<RowAxis> = Vec::new();
    let mut rows = 1;
    for index in (0..shape.len()).rev() {
        let (count, file) = (shape[index], strides[index]);
        if Some(index) == class_axis || count == 1 {
            continue;
        }
        match axes.last_mut() {
            Some(inner) if file == inner.count * inner.file => inner.count *= count,
            _ => axes.push(RowAxis { count, file, rows }),
        }
        rows *= count;
    }
    axes.reverse();
    if axes.is_empty() {
        axes.push(RowAxis { count: 1, file: shape.iter().product(), rows: 1 });
    }
    axes
}

/// The largest box that starts at `row` and ends at or before `end`: its count on its outermost axis, the element of the
/// file where it starts, and its axes, of which all but the first are whole.
fn next_box(axes: &[RowAxis], row: usize, end: usize) -> (usize, usize, &[RowAxis]) {
    let index = |axis: &RowAxis| row / axis.rows % axis.count;
    let file = axes.iter().map(|axis| index(axis) * axis.file).sum();
    // The last axis has one row an index, so it always fits.
    let fits = |axis: &RowAxis| row.is_multiple_of(axis.rows) && row + axis.rows <= end;
    let first = axes.iter().position(fits).unwrap_or(axes.len() - 1);
    let outer = &axes[first];
    let count = ((end - row) / outer.rows).min(outer.count - index(outer));
    (count, file, &axes[first..])
}

struct Gather<'a, T> {
    array: &'a Array,
    /// The file's elements are `T` in this machine's byte order.
    as_stored: bool,
    out: &'a mut [T],
    scratch: &'a mut Vec<u64>,
}

impl<T: Number> Gather<'_, T> {
    /// A box that starts at element `file` of the file and at element `out` of the output.
    fn read_box(&mut self, mut axes: Vec<Axis>, file: usize, out: usize) -> io::Result<()> {
        axes.retain(|axis| axis.count != 1);
        axes.sort_by_key(|axis| std::cmp::Reverse(axis.file));
        let mut merged: Vec<Axis> = Vec::with_capacity(axes.len());
        for axis in axes {
            match merged.last_mut() {
                Some(outer) if outer.file == axis.count * axis.file && outer.out == axis.count * axis.out => {
                    *outer = Axis::new(outer.count * axis.count, axis.file, axis.out);
                }
                _ => merged.push(axis),
            }
        }
        plan_batches(&mut merged, self.array.header.dtype.size());
        self.read_batches(&merged, &mut Vec::with_capacity(merged.len()), file, out)
    }

    /// Steps through the pieces of every axis; `taken` are the pieces of the axes already chosen.
    fn read_batches(&mut self, axes: &[Axis], taken: &mut Vec<Axis>, file: usize, out: usize) -> io::Result<()> {
        let Some((axis, inner)) = axes.split_first() else {
            return self.read_batch(taken, file, out);
        };
        for start in (0..axis.count).step_by(axis.take) {
            taken.push(Axis { count: axis.take.min(axis.count - start), ..*axis });
            self.read_batches(inner, taken, file + start * axis.file, out + start * axis.out)?;
            taken.pop();
        }
        Ok(())
    }

    fn read_batch(&mut self, axes: &[Axis], file: usize, out: usize) -> io::Result<()> {
        let header = &self.array.header;
        let size = header.dtype.size();
        let axes: Vec<Axis> = axes.iter().filter(|axis| axis.count > 1).copied().collect();
        let apart: Vec<Axis> = axes.iter().filter(|axis| !axis.one_read).copied().collect();
        let span = 1 + axes.iter().filter(|axis| axis.one_read).map(|axis| (axis.count - 1) * axis.file).sum::<usize>();
        let held = span + apart.iter().map(|axis| (axis.count - 1) * axis.held).sum::<usize>();
        let values: usize = axes.iter().map(|axis| axis.count).product();
        let in_place = held == values && axes.iter().all(|axis| axis.held == axis.out);

        let byte_words = (held * size).div_ceil(size_of::<u64>());
        let number_words = (held * size_of::<T>()).div_ceil(size_of::<u64>());
        if self.scratch.len() < byte_words + number_words {
            self.scratch.resize(byte_words + number_words, 0);
        }
        let (bytes, numbers) = self.scratch.split_at_mut(byte_words);
        let out = &mut self.out[out..];
        let numbers = &mut bytemuck::cast_slice_mut(numbers)[..held];
        let target: &mut [T] = if in_place { &mut out[..held] } else { &mut *numbers };
        if self.as_stored {
            fetch(self.array, &apart, file, span, bytemuck::cast_slice_mut(target))?;
        } else {
            let bytes = &mut bytemuck::cast_slice_mut(bytes)[..held * size];
            fetch(self.array, &apart, file, span, bytes)?;
            if self.array.is_swapped() {
                swap_bytes(bytes, size);
            }
            T::decode(header.dtype, bytes, target);
        }
        if !in_place {
            scatter(axes, numbers, out);
        }
        Ok(())
    }
}

/// Chooses, from the fastest axis of the file outwards, what comes with one read and what is held at a time.
fn plan_batches(axes: &mut [Axis], size: usize) {
    let mut held = 1;
    let (mut one_read, mut whole) = (true, true);
    for axis in axes.iter_mut().rev() {
        // Outside of an axis that is taken in pieces, everything is stepped through.
        if !whole {
            break;
        }
        one_read = one_read && (axis.file - held) * size <= GAP;
        axis.one_read = one_read;
        axis.held = if one_read { axis.file } else { held };
        axis.take = axis.count.min(1 + (CAPACITY - held) / axis.held);
        whole = axis.take == axis.count;
        held += (axis.take - 1) * axis.held;
    }
}

/// Reads of `span` elements each, one for every index of `axes`, into their places in `bytes`.
fn fetch(array: &Array, axes: &[Axis], file: usize, span: usize, bytes: &mut [u8]) -> io::Result<()> {
    let size = array.header.dtype.size();
    let Some((axis, inner)) = axes.split_first() else {
        return array.read_at(&mut bytes[..span * size], (file * size) as u64);
    };
    for index in 0..axis.count {
        fetch(array, inner, file + index * axis.file, span, &mut bytes[index * axis.held * size..])?;
    }
    Ok(())
}

/// Copies a batch to its places in the output.
fn scatter<T: Copy>(mut axes: Vec<Axis>, from: &[T], to: &mut [T]) {
    // The fastest axis of the output next to the fastest of the file: tiles are cut from these two.
    if let (Some(fastest), Some(last)) = (axes.iter().position(|axis| axis.out == 1), axes.len().checked_sub(1))
        && fastest < last
    {
        axes[fastest..last].rotate_left(1);
    }
    scatter_axes(&axes, from, to);
}

fn scatter_axes<T: Copy>(axes: &[Axis], from: &[T], to: &mut [T]) {
    match axes {
        [] => to[0] = from[0],
        [row] if row.held == 1 && row.out == 1 => {
            to[..row.count].copy_from_slice(&from[..row.count]);
        }
        [row] => (0..row.count).for_each(|i| to[i * row.out] = from[i * row.held]),
        [slow, fast] if fast.out != 1 => {
            for tile in (0..fast.count).step_by(TILE) {
                let end = fast.count.min(tile + TILE);
                for i in 0..slow.count {
                    for j in tile..end {
                        to[i * slow.out + j * fast.out] = from[i * slow.held + j * fast.held];
                    }
                }
            }
        }
        [slow, rest @ ..] => (0..slow.count).for_each(|i| scatter_axes(rest, &from[i * slow.held..], &mut to[i * slow.out..])),
    }
}
