//! Short rows turned: a class of sixteen of them in each register, and back.

use super::isa::{COLUMNS, Isa, LANES, Outlined};
use super::lanes::{F32s, Make, U32s, each_lane};
use super::source::{Load, Source, load_all};

/// How four stored numbers of each of four rows become float32.
trait LoadRows<I: Isa, T>: Fn(I, [&[T; COLUMNS]; 4]) -> F32s<I> + Copy {}

impl<I: Isa, T, L: Fn(I, [&[T; COLUMNS]; 4]) -> F32s<I> + Copy> LoadRows<I, T> for L {}

/// Rows up to so many classes are short: sixteen of them lie down the lanes. Of longer ones a lane has enough to do for what is spent on
/// a row as a whole, and two tiles would leave the nearest cache.
pub(super) const SHORT: usize = 192;

/// A class of sixteen rows in each register.
#[repr(align(64))]
pub(super) struct Tile(pub [[f32; LANES]; SHORT]);

impl Tile {
    pub(super) fn new() -> Self {
        Self([[0.0; LANES]; SHORT])
    }

    /// Turns `count` short rows. The lanes past them repeat the first.
    #[inline(always)]
    pub(super) fn fill<I: Isa>(&mut self, i: I, rows: Source<'_>, classes: usize, count: usize) {
        i.step(Fill { tile: self, rows, classes, count });
    }

    /// The predictions of one class for each lane; 0 where there is no such class.
    #[inline(always)]
    pub(super) fn at<I: Isa>(&self, i: I, class: U32s<I>) -> F32s<I> {
        let twice = |place: U32s<I>| place + place;
        i.f32s_at(self.0.as_flattened(), twice(twice(twice(twice(class)))) + i.count_from(0))
    }

    #[inline(always)]
    fn turn<I: Isa, T: Copy + Default>(
        &mut self,
        i: I,
        rows: &[T],
        classes: usize,
        count: usize,
        load: impl Load<I, T>,
        load_rows: impl LoadRows<I, T>,
    ) {
        let padded;
        let mut rows = rows;
        if count < LANES || rows.len() < (LANES - 1) * classes + classes.next_multiple_of(COLUMNS) {
            padded = sixteen(rows, classes, count);
            rows = &padded;
        }
        if self.fill_power_of_two(i, rows, classes, load) {
            return;
        }
        for first in (0..classes).step_by(COLUMNS) {
            let rows = strided(&rows[first..], classes);
            let mut fours = [i.f32s(0.0); COLUMNS];
            for n in 0..COLUMNS {
                fours[n] = load_rows(i, [rows[n], rows[n + 4], rows[n + 8], rows[n + 12]]);
            }
            let columns = F32s::columns(fours);
            // What is past the last class is no class: nobody looks there.
            if let Some(to) = self.0[first..].first_chunk_mut::<COLUMNS>() {
                for c in 0..COLUMNS {
                    columns[c].store(&mut to[c]);
                }
            }
        }
    }

    /// Says whether there is such a number of classes.
    #[inline(always)]
    fn fill_power_of_two<I: Isa, T>(&mut self, i: I, rows: &[T], classes: usize, load: impl Load<I, T>) -> bool {
        match classes {
            1 => self.fill_few::<I, T, 1>(i, rows, load),
            2 => self.fill_few::<I, T, 2>(i, rows, load),
            4 => self.fill_few::<I, T, 4>(i, rows, load),
            8 => self.fill_few::<I, T, 8>(i, rows, load),
            _ => return false,
        }
        true
    }

    /// Puts an absent class behind the last, which makes a pair of an odd one.
    #[inline(always)]
    pub(super) fn end(&mut self, classes: usize, absent: f32) {
        if classes < SHORT {
            self.0[classes] = [absent; LANES];
        }
    }

    /// A power of two of classes: whole registers of rows are unzipped.
    #[inline(always)]
    fn fill_few<I: Isa, T, const CLASSES: usize>(&mut self, i: I, rows: &[T], load: impl Load<I, T>) {
        let columns = F32s::unzipped::<CLASSES>(load_all(i, rows, 0, load));
        for class in 0..CLASSES {
            columns[class].store(&mut self.0[class]);
        }
    }

    /// Turns the tile back into sixteen rows, one after the other. Whole registers are written: `to` has room for one more.
    #[inline(always)]
    pub(super) fn write<I: Isa>(&self, i: I, classes: usize, to: &mut [f32]) {
        i.step(Write { tile: self, classes, to });
    }

    /// [`fill_few`](Self::fill_few) backwards.
    #[inline(always)]
    fn write_few<I: Isa, const CLASSES: usize>(&self, i: I, to: &mut [f32]) {
        let mut columns = [i.f32s(0.0); CLASSES];
        for class in 0..CLASSES {
            columns[class] = i.f32s_of(&self.0[class]);
        }
        let rows = F32s::zipped(columns);
        // To one array: a compiler copies to slices by a call.
        if let Some(to) = to.as_chunks_mut().0.first_chunk_mut::<CLASSES>() {
            for n in 0..CLASSES {
                rows[n].store(&mut to[n]);
            }
        }
    }
}

/// [`Tile::fill`].
struct Fill<'s, 'a> {
    tile: &'s mut Tile,
    rows: Source<'a>,
    classes: usize,
    count: usize,
}

impl<I: Isa> Outlined<I> for Fill<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        let Self { tile, rows, classes, count } = self;
        match rows {
            Source::F32(all) => tile.turn(i, all, classes, count, I::f32s_of, I::f32s_of_rows),
            Source::F16(all) => tile.turn(i, all, classes, count, I::f32s_of_f16, I::f32s_of_f16_rows),
            Source::Bf16(all) => tile.turn(i, all, classes, count, I::f32s_of_bf16, I::f32s_of_bf16_rows),
        }
    }
}

/// [`Tile::write`].
struct Write<'s> {
    tile: &'s Tile,
    classes: usize,
    to: &'s mut [f32],
}

impl<I: Isa> Outlined<I> for Write<'_> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        let Self { tile, classes, to } = self;
        match classes {
            1 => return tile.write_few::<I, 1>(i, to),
            2 => return tile.write_few::<I, 2>(i, to),
            4 => return tile.write_few::<I, 4>(i, to),
            8 => return tile.write_few::<I, 8>(i, to),
            _ => {}
        }
        // The last registers run over into the rows after them, whose own are written later.
        let last = (classes - 1) / LANES * LANES;
        for first in std::iter::once(last).chain((0..last).step_by(LANES)) {
            let rows = F32s::transpose(each_lane!(c => i.f32s_of(&tile.0[first + c])));
            each_lane!(row => {
                if let Some(to) = to[row * classes + first..].first_chunk_mut() {
                    rows[row].store(to);
                }
            });
        }
    }
}

/// Sixteen short rows of which `count` are there, the first in place of the others, and what may be read after them.
#[inline(always)]
fn sixteen<T: Copy + Default>(rows: &[T], classes: usize, count: usize) -> [T; LANES * SHORT + LANES] {
    let mut padded = [T::default(); LANES * SHORT + LANES];
    padded[..count * classes].copy_from_slice(&rows[..count * classes]);
    for row in count..LANES {
        padded.copy_within(..classes, row * classes);
    }
    padded
}

/// The numbers of four columns from each multiple of `stride` on, up to fifteen times it.
#[inline(always)]
fn strided<T>(all: &[T], stride: usize) -> [&[T; COLUMNS]; LANES] {
    assert!(stride <= SHORT && (LANES - 1) * stride + COLUMNS <= all.len(), "rows end before their last columns");
    each_lane!(n => {
        #[expect(unsafe_code, reason = "sixteen checks take longer than the loads")]
        // SAFETY: n is at most 15, so that COLUMNS numbers from n * stride on are within the slice by the check above, whose product
        // does not overflow; an array is aligned as its elements are.
        unsafe {
            &*all.as_ptr().add(n * stride).cast()
        }
    })
}
