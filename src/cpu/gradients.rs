//! Gradients of rows, in the lanes. Twin: what writes gradients in `shaders/terms.wgsl`.

use std::marker::PhantomData;
use std::slice::{from_mut, from_ref};

use super::folding::PAIR;
use super::isa::{Isa, LANES, Outlined};
use super::lanes::{F32s, Make, Mask, U32s};
use super::math::or_zero;
use super::parts;
use super::pending::Pending;
use super::source::{Rows, Scratch};
use super::targets::{Across, Block, Down, GROUP, Walk, any_large, register};
use super::terms::{Standing, gradient};
use super::tile::Tile;
use crate::fold::{Fold, OfKept};
use crate::loss::{LossTerm, Prepared};

/// How the ranks and gradients of the rows in the lanes come about.
pub(super) struct Slopes<I: Isa> {
    pub standing: Standing<I>,
    /// The row has no label, or does not count.
    pub unlabelled: Mask<I>,
    pub pull: F32s<I>,
    pub scale: F32s<I>,
    /// The labels' class weights.
    pub weight: F32s<I>,
}

/// What the first walk left of a row.
pub(super) struct Kept<'k, I: Isa> {
    pub registers: &'k [[f32; LANES]],
    pub of: OfKept<I>,
}

/// What the gradient of a row is made of.
pub(super) struct Sloped<'s, I: Isa, F: Fold> {
    /// The rows in the lanes, and which of them it is.
    pub rows: &'s F::Row<I>,
    pub of: &'s Slopes<I>,
    pub lane: usize,
    /// Of all of its derivatives, in all lanes.
    pub common: Option<F::Common<I>>,
    /// The label's derivative, where no other class has a term.
    pub of_label: f32,
    pub kept: Option<Kept<'s, I>>,
}

/// The gradients of the rows down the lanes.
pub(super) struct GradientDown<'s, 'a, 'o, I: Isa, F: Fold, T> {
    pub down: &'s Down<'s, 'a, I>,
    pub weighed: &'s Tile,
    pub row: &'s F::Row<I>,
    pub of: &'s Slopes<I>,
    /// The labels' predictions.
    pub goal: F32s<I>,
    pub derivatives: &'s mut Tile,
    pub pending: &'s mut Pending<'o>,
    pub term: PhantomData<T>,
}

impl<I: Isa, F: Fold, T: LossTerm> Outlined<I> for GradientDown<'_, '_, '_, I, F, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        let Self { down, weighed, row, of, goal, derivatives, pending, .. } = self;
        let (prepared, classes) = (down.rows.prepared, down.rows.classes);
        match F::common(i, prepared, row, of.pull, of.scale) {
            Some(common) if const { T::CLOSED } && classes == PAIR => {
                let (x, weighed, label) = (&down.x.0, &weighed.0, down.labels.class);
                if prepared.spreads() {
                    pair_down::<I, F, true>(i, &common, x, weighed, label, of.weight, derivatives);
                } else {
                    pair_down::<I, F, false>(i, &common, x, weighed, label, of.weight, derivatives);
                }
            }
            Some(common) if !prepared.spreads() => {
                let of_label = label_derivatives::<I, F, T>(i, down.rows, row, goal, of, &common);
                labelled_down::<I, F>(i, &common, &down.x.0[..classes], down.labels.class, of_label, derivatives);
            }
            Some(common) if const { T::CLOSED } => {
                through_costs::<I, F, true>(i, &common, &down.x.0[..classes], &weighed.0, &mut derivatives.0);
            }
            _ => {
                for class in 0..classes {
                    let block = down.block(i, class);
                    gradient::<I, F, T>(i, prepared, row, &block, of.pull, of.scale).store(&mut derivatives.0[class]);
                }
            }
        }
        pending.add_down(i, down.rows, &of.standing, derivatives);
    }
}

/// The derivatives of rows of two classes, down the lanes; without `SPREAD` the label alone has a coefficient, `weight`.
#[inline(always)]
pub(super) fn pair_down<I: Isa, F: Fold, const SPREAD: bool>(
    i: I,
    common: &F::Common<I>,
    x: &[[f32; LANES]],
    weighed: &[[f32; LANES]],
    label: U32s<I>,
    weight: F32s<I>,
    derivatives: &mut Tile,
) {
    let x = [i.f32s_of(&x[0]), i.f32s_of(&x[1])];
    let coefficients = if SPREAD {
        [i.f32s_of(&weighed[0]), i.f32s_of(&weighed[1])]
    } else {
        [or_zero(i, label.eq(i.u32s(0)), weight), or_zero(i, label.eq(i.u32s(1)), weight)]
    };
    let [first, second] = F::through_pair::<I, SPREAD>(i, common, x, coefficients);
    first.store(&mut derivatives.0[0]);
    second.store(&mut derivatives.0[1]);
}

/// The derivatives of rows down the lanes by their predictions `x`, of which none but the label has a term: `of_label`, the others'
/// from what they have in common.
#[inline(always)]
pub(super) fn labelled_down<I: Isa, F: Fold>(
    i: I,
    common: &F::Common<I>,
    x: &[[f32; LANES]],
    label: U32s<I>,
    of_label: F32s<I>,
    derivatives: &mut Tile,
) {
    for class in 0..x.len() {
        let of_other = F::through_others(i, common, i.f32s_of(&x[class]));
        let is_label = i.u32s(class as u32).eq(label);
        is_label.select(of_label, of_other).store(&mut derivatives.0[class]);
    }
}

/// The derivatives by the labels of rows down the lanes, whose predictions are `goal`, where no other class has a term.
#[inline(always)]
pub(super) fn label_derivatives<I: Isa, F: Fold, T: LossTerm>(
    i: I,
    rows: &Rows<'_>,
    row: &F::Row<I>,
    goal: F32s<I>,
    of: &Slopes<I>,
    common: &F::Common<I>,
) -> F32s<I> {
    let label = Block::of_labels(i, rows, goal, of.weight);
    if const { T::CLOSED } {
        F::through_cost::<I, true>(i, common, label.x, label.unchecked)
    } else {
        gradient::<I, F, T>(i, rows.prepared, row, &label, of.pull, of.scale)
    }
}

/// The gradient of one row; of a long one by several threads.
#[inline(always)]
pub(super) fn gradient_of_row<I: Isa, F: Fold, T: LossTerm>(
    i: I,
    across: &Across<'_, '_>,
    sloped: &Sloped<'_, I, F>,
    scratch: &mut Scratch,
    pending: &mut Pending<'_>,
) {
    let classes = across.rows.classes;
    if !parts::are_in(classes) {
        return i.call(GradientAcross::<I, F, T> { across, sloped, scratch, pending, term: PhantomData });
    }
    let streams = pending.streams;
    let parts_of_out = pending.skip(i, classes).chunks_mut(parts::step(classes));
    parts::each(across.rows.shared, parts::ranges(classes).zip(parts_of_out), |(range, out)| {
        i.call(GradientPart::<I, F, T> { across: &across.part(range), sloped, streams, out, term: PhantomData });
    });
}

/// The gradient of a part of a row, which goes to memory by itself.
struct GradientPart<'s, 'r, 'a, I: Isa, F: Fold, T> {
    across: &'s Across<'r, 'a>,
    sloped: &'s Sloped<'s, I, F>,
    streams: bool,
    out: &'s mut [f32],
    term: PhantomData<T>,
}

impl<I: Isa, F: Fold, T: LossTerm> Outlined<I> for GradientPart<'_, '_, '_, I, F, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        let Self { across, sloped, streams, out, term } = self;
        let (pending, scratch) = (&mut Pending::new(streams, out), &mut Scratch::new());
        i.call(GradientAcross::<I, F, T> { across, sloped, scratch, pending, term });
        pending.finish(i);
        if streams {
            i.fence();
        }
    }
}

struct GradientAcross<'s, 'r, 'a, 'o, I: Isa, F: Fold, T> {
    across: &'s Across<'r, 'a>,
    sloped: &'s Sloped<'s, I, F>,
    scratch: &'s mut Scratch,
    pending: &'s mut Pending<'o>,
    term: PhantomData<T>,
}

impl<I: Isa, F: Fold, T: LossTerm> Outlined<I> for GradientAcross<'_, '_, '_, '_, I, F, T> {
    type Output = ();

    #[inline(always)]
    fn run(self, i: I) {
        let Self { across, sloped, scratch, pending, .. } = self;
        let Sloped { rows, of, lane, common, of_label, kept } = sloped;
        let (prepared, lane) = (across.rows.prepared, *lane);
        if of.standing.ignored.bits() >> lane & 1 != 0 {
            return pending.fill(i, 0.0, across.range.len());
        }
        if of.standing.undefined.bits() >> lane & 1 != 0 {
            return pending.fill(i, f32::NAN, across.range.len());
        }
        if let Some(common) = common
            && (const { T::CLOSED } || !prepared.spreads())
        {
            let short = Short::<'_, '_, '_, '_, I, F> { across, common, kept: kept.as_ref(), pending };
            if prepared.spreads() { short.all(i, scratch) } else { short.others(i, *of_label, scratch) }
        } else {
            let row = &F::lane(i, rows, lane);
            let (pull, scale) = (of.pull.lane(i, lane), of.scale.lane(i, lane));
            let mut walk = Derivatives::<'_, '_, I, F, T> { prepared, row, pull, scale, pending, term: PhantomData };
            across.walk(i, &mut scratch.widened, &mut walk);
        }
    }
}

/// The derivatives of one row on their way, where they have short forms.
struct Short<'s, 'r, 'a, 'o, I: Isa, F: Fold> {
    across: &'s Across<'r, 'a>,
    common: &'s F::Common<I>,
    kept: Option<&'s Kept<'s, I>>,
    pending: &'s mut Pending<'o>,
}

impl<I: Isa, F: Fold> Short<'_, '_, '_, '_, I, F> {
    /// All of them where no class but the label has a term: its derivative is `of_label`.
    #[inline(always)]
    fn others(self, i: I, of_label: f32, scratch: &mut Scratch) {
        let Self { across, common, kept, pending } = self;
        let (label, end) = (across.label as usize, across.range.end);
        for chunk in across.range.clone().step_by(Rows::CHUNK) {
            let count = Rows::CHUNK.min(end - chunk);
            let (full, rest) = (count / LANES, count % LANES);
            let room = &mut pending.room()[..count + LANES];
            if let Some(kept) = kept
                && full > 0
            {
                let registers = &kept.registers[chunk / LANES..][..count.div_ceil(LANES)];
                if rest > 0
                    && let Some(last) = room[..count].last_chunk_mut()
                {
                    // The last sixteen, whose lower lanes hold nothing: the register before it comes over them.
                    kept.of.derivative(i, i.f32s_of(&registers[full])).store(last);
                }
                let (room, _) = room.as_chunks_mut();
                let (room, registers) = (&mut room[..full], &registers[..full]);
                for n in 0..full {
                    kept.of.derivative(i, i.f32s_of(&registers[n])).store(&mut room[n]);
                }
            } else {
                let (registers, last) = across.chunk(i, chunk, &mut scratch.widened).as_chunks();
                let (room, _) = room.as_chunks_mut();
                for n in 0..registers.len() {
                    F::through_others(i, common, i.f32s_of(&registers[n])).store(&mut room[n]);
                }
                if !last.is_empty() {
                    F::through_others(i, common, i.f32s_of(&register(last, 0))).store(&mut room[full]);
                }
            }
            // Outside of this stretch, it is none of it.
            if let Some(slot) = room[..count].get_mut(label.wrapping_sub(chunk)) {
                *slot = of_label;
            }
            pending.add(i, count);
        }
    }

    /// All of them where the loss is categorical.
    #[inline(always)]
    fn all(self, i: I, scratch: &mut Scratch) {
        if let Some(kept) = self.kept {
            return self.all_kept(i, kept, scratch);
        }
        let Self { across, common, pending, .. } = self;
        for chunk in across.range.clone().step_by(Rows::CHUNK) {
            let x = across.chunk(i, chunk, &mut scratch.widened);
            let (registers, rest) = x.as_chunks::<LANES>();
            let (coefficients, last) = across.coefficients(i, chunk, &mut scratch.weighed).as_chunks::<LANES>();
            let (room, _) = pending.room().as_chunks_mut::<LANES>();
            let (groups, tail) = registers.as_chunks::<GROUP>();
            let (of_groups, of_tail) = coefficients.as_chunks::<GROUP>();
            let (rooms, room_of_tail) = room.split_at_mut(registers.len() - tail.len());
            let (rooms, _) = rooms.as_chunks_mut::<GROUP>();
            debug_assert!(
                groups.len() == of_groups.len() && groups.len() == rooms.len(),
                "groups without coefficients or room"
            );
            for n in 0..groups.len().min(of_groups.len()).min(rooms.len()) {
                through_costs_of_group::<I, F>(i, common, &groups[n], &of_groups[n], &mut rooms[n]);
            }
            through_costs_of_group::<I, F>(i, common, tail, of_tail, room_of_tail);
            if !rest.is_empty() {
                let (x, coefficients, room) = ([register(rest, 0)], [register(last, 0)], &mut room[registers.len()..]);
                through_costs::<I, F, true>(i, common, &x, &coefficients, room);
            }
            pending.add(i, x.len());
        }
    }

    /// The same of what was kept. Only registers that hold a large prediction are looked at again.
    #[inline(always)]
    fn all_kept(self, i: I, kept: &Kept<'_, I>, scratch: &mut Scratch) {
        let Self { across, common, pending, .. } = self;
        let (end, of) = (across.range.end, &kept.of);
        for chunk in across.range.clone().step_by(Rows::CHUNK) {
            let count = Rows::CHUNK.min(end - chunk);
            let (full, rest) = (count / LANES, count % LANES);
            let Scratch { widened, weighed, .. } = scratch;
            let coefficients = across.coefficients(i, chunk, weighed);
            let room = &mut pending.room()[..count + LANES];
            if full == 0 {
                // Without a register before it, an odd end is kept in the lower lanes, or in the upper ones.
                let x = [across.register(i, chunk, widened)];
                through_costs::<I, F, true>(i, common, &x, &[register(coefficients, 0)], room.as_chunks_mut().0);
                pending.add(i, count);
                continue;
            }
            let registers = &kept.registers[chunk / LANES..][..count.div_ceil(LANES)];
            if rest > 0
                && let (Some(coefficients), Some(last)) = (coefficients.last_chunk(), room[..count].last_chunk_mut())
            {
                // As above: the register before it comes over the lower lanes.
                let group = KeptGroup { common, of, kept: &registers[full..], coefficients: from_ref(coefficients) };
                group.store::<F>(i, across, chunk + count - LANES, widened, from_mut(last));
            }
            let (groups, tail) = registers[..full].as_chunks::<GROUP>();
            let (of_groups, of_tail) = coefficients.as_chunks::<LANES>().0.as_chunks::<GROUP>();
            let (rooms, room_of_tail) = room.as_chunks_mut::<LANES>().0.split_at_mut(full - tail.len());
            let (rooms, _) = rooms.as_chunks_mut::<GROUP>();
            debug_assert!(
                groups.len() == of_groups.len() && groups.len() == rooms.len(),
                "groups without coefficients or room"
            );
            for n in 0..groups.len().min(of_groups.len()).min(rooms.len()) {
                let group = KeptGroup { common, of, kept: &groups[n], coefficients: &of_groups[n] };
                group.store::<F>(i, across, chunk + n * GROUP * LANES, widened, &mut rooms[n]);
            }
            let group = KeptGroup { common, of, kept: tail, coefficients: of_tail };
            group.store::<F>(i, across, chunk + (full - tail.len()) * LANES, widened, room_of_tail);
            pending.add(i, count);
        }
    }
}

/// A group of registers that were kept, and their coefficients. Where it is an array, compilers unroll what is done with it.
struct KeptGroup<'g, I: Isa, C> {
    common: &'g C,
    of: &'g OfKept<I>,
    kept: &'g [[f32; LANES]],
    coefficients: &'g [[f32; LANES]],
}

impl<I: Isa, C> KeptGroup<'_, I, C> {
    /// Stores the derivatives. The predictions are of class `first` and those after it.
    #[inline(always)]
    fn store<F: Fold<Common<I> = C>>(
        &self,
        i: I,
        across: &Across<'_, '_>,
        first: usize,
        widened: &mut [f32; Rows::CHUNK],
        room: &mut [[f32; LANES]],
    ) {
        let Self { common, of, kept, coefficients } = self;
        let mut largest = i.f32s(0.0);
        for n in 0..kept.len() {
            let (e, coefficient) = (i.f32s_of(&kept[n]), i.f32s_of(&coefficients[n]));
            largest = e.max(largest);
            F::kept_through_cost::<I, false>(i, common, e, of, coefficient, e).store(&mut room[n]);
        }
        if largest.lt(of.large).all() {
            return;
        }
        for n in 0..kept.len() {
            let (e, coefficient) = (i.f32s_of(&kept[n]), i.f32s_of(&coefficients[n]));
            if !e.lt(of.large).all() {
                let x = i.f32s_of(&across.register(i, first + n * LANES, widened));
                F::kept_through_cost::<I, true>(i, common, e, of, coefficient, x).store(&mut room[n]);
            }
        }
    }
}

/// The derivatives by a group of registers of predictions. Where it is an array, compilers unroll it.
#[inline(always)]
fn through_costs_of_group<I: Isa, F: Fold>(
    i: I,
    common: &F::Common<I>,
    x: &[[f32; LANES]],
    coefficients: &[[f32; LANES]],
    room: &mut [[f32; LANES]],
) {
    if any_large::<I, F>(i, common, x) {
        through_costs::<I, F, true>(i, common, x, coefficients, room);
    } else {
        through_costs::<I, F, false>(i, common, x, coefficients, room);
    }
}

/// The derivatives by some registers of predictions.
#[inline(always)]
pub(super) fn through_costs<I: Isa, F: Fold, const LARGE: bool>(
    i: I,
    common: &F::Common<I>,
    x: &[[f32; LANES]],
    coefficients: &[[f32; LANES]],
    room: &mut [[f32; LANES]],
) {
    // Not by iterators: in a function of this size they might be called.
    let (coefficients, room) = (&coefficients[..x.len()], &mut room[..x.len()]);
    for n in 0..x.len() {
        F::through_cost::<I, LARGE>(i, common, i.f32s_of(&x[n]), i.f32s_of(&coefficients[n])).store(&mut room[n]);
    }
}

/// The derivatives of one row on their way, where they have no short forms.
struct Derivatives<'s, 'o, I: Isa, F: Fold, T> {
    prepared: &'s Prepared,
    row: &'s F::Row<I>,
    pull: F32s<I>,
    scale: F32s<I>,
    pending: &'s mut Pending<'o>,
    term: PhantomData<T>,
}

impl<I: Isa, F: Fold, T: LossTerm> Walk<I> for Derivatives<'_, '_, I, F, T> {
    #[inline(always)]
    fn full(&mut self, i: I, first: usize, block: &Block<I>) {
        let derivative = gradient::<I, F, T>(i, self.prepared, self.row, block, self.pull, self.scale);
        if let Some(room) = self.pending.room()[first % Rows::CHUNK..].first_chunk_mut() {
            derivative.store(room);
        }
    }

    #[inline(always)]
    fn last(&mut self, i: I, first: usize, block: &Block<I>, _: usize) {
        self.full(i, first, block);
    }

    #[inline(always)]
    fn pause(&mut self, i: I, count: usize) {
        self.pending.add(i, count);
    }
}
