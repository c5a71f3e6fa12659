//! A batch on the CPU: its rows cut into pieces, the pieces over threads, their results into outputs and totals.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::isa::{Instructions, LANES, dispatch};
use super::parts;
use super::rows::Piece;
use crate::batch::{Checked, Gathered, TargetSlice};
use crate::error::Result;
use crate::fold::Fold;
use crate::layout::{IGNORED, RANK_NAN, Wanted};
use crate::loss::{LossTerm, Prepared, Visitor, visit};
use crate::records::{Records, RecordsMut};
use crate::reduce::{BLOCK, Part, Push, Reducer, Results};
use crate::threads::{self, Spread};

/// Predictions that are read at a time, about: they fit into a core's second cache with what comes of them.
const STEP: usize = 1 << 16;
/// Predictions of a piece, at least, where there are not enough for each thread to have some pieces of a step.
const LEAST: usize = 1 << 15;
/// So many predictions, or fewer, are left to one thread: before another one has woken they are done.
const ALONE: usize = STEP;
/// So many, of all rows or of one that threads share, are done before a pool has woken, and its caller after it, if the caller waits.
const BRIEF: usize = 1 << 20;
/// A gradient of so many elements, 16 MiB, goes past the caches.
const STREAMED: usize = 1 << 22;
/// Pieces that each thread has to have, at least, before pieces are made as large as whole blocks of rows, and of fewer than that as
/// many as there can be.
const SPARE: usize = 8;

/// What is asked of the rows of a batch.
#[derive(Clone, Copy)]
pub(crate) struct Task<'a> {
    pub prepared: &'a Prepared,
    pub wanted: Wanted,
    /// Of ranks it matters how many classes are above the label, not just whether there is one.
    pub counts: bool,
    pub instructions: Instructions,
    /// What gradients are multiplied with, sample weights apart.
    pub scale: f64,
}

/// How pieces are worked on.
#[derive(Clone, Copy)]
struct Ways {
    /// Gradients go past the caches.
    streams: bool,
    /// How threads share each row, if they do.
    shared: Option<Spread>,
}

/// Memory of pieces that are worked on, kept for those after them.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<Vec<Scratch>>);

impl Memory {
    /// Lends what was given back last, which is likely to lie in this core's cache.
    fn lend<R>(&self, work: impl FnOnce(&mut Scratch) -> R) -> R {
        let all = || self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = all().pop().unwrap_or_default();
        let result = work(&mut scratch);
        all().push(scratch);
        result
    }
}

/// Memory of a thread.
#[derive(Debug, Default)]
struct Scratch {
    gathered: Gathered,
    records: Records,
    scales: Vec<f32>,
}

/// Evaluates some rows of a batch: fills what `outputs` has, and adds the rows to the totals.
///
/// # Errors
/// [`Error::Read`](crate::Error::Read): of several the one whose rows are first.
pub(crate) fn evaluate(
    task: Task<'_>,
    batch: &Checked<'_, '_>,
    rows: Range<usize>,
    outputs: RecordsMut<'_>,
    reducer: &mut Reducer,
    memory: &Memory,
) -> Result<()> {
    let classes = task.prepared.classes;
    let predictions = rows.len().saturating_mul(classes);
    let streams = task.wanted.gradient && predictions >= STREAMED;
    // Long rows are shared where there are few of them; elsewhere each thread has rows of its own. Rows that it has to read are read
    // nearly in order. The bits are the same.
    let few = if batch.is_read() { threads::count() } else { SPARE * threads::count() };
    let shared = parts::are_in(classes) && rows.len() < few;
    let spread = Spread { in_turn: batch.is_read(), brief: !batch.is_read() && predictions <= BRIEF };
    let spread = (!shared && predictions > ALONE).then_some(spread);
    // A row at a time, which has been read by then.
    let shared = shared.then_some(Spread { in_turn: false, brief: classes <= BRIEF });
    let place = reducer.rows();
    let until_block = (BLOCK as u64 - place % BLOCK as u64) as usize % BLOCK;
    // Pieces of whole blocks, as many of them as make a step: each thread adds up its own.
    let blocks = (STEP / classes.max(1) / BLOCK).max(1) * BLOCK;
    let large = blocks.saturating_mul(classes) <= STEP || rows.len() >= SPARE * threads::count() * blocks;
    if large {
        let mut ends = Vec::new();
        if until_block > 0 && until_block < rows.len() {
            ends.push(rows.start + until_block);
        }
        let mut end = ends.last().copied().unwrap_or(rows.start);
        while end < rows.end {
            end = rows.end.min(end + blocks);
            ends.push(end);
        }
        let parts = pieces(rows.start, &ends, outputs, spread, |range, mut outputs| {
            memory.lend(|scratch| {
                let mut part = reducer.part(place + (range.start - rows.start) as u64);
                let step = if batch.is_read() { step(classes, STEP) } else { range.len() };
                for start in range.clone().step_by(step) {
                    let some = start..range.end.min(start + step);
                    let mut outputs = outputs.take(some.len());
                    scratch.step(task, Ways { streams, shared }, batch, some, &mut outputs, Some((&mut part, reducer)))?;
                }
                Ok(part)
            })
        });
        for part in parts? {
            reducer.join(&part);
        }
        return Ok(());
    }
    // Few rows, or long ones: pieces of a step or less, whose results are added up when all are there.
    let step = step(classes, (predictions / (SPARE * threads::count())).clamp(LEAST, STEP));
    let ends: Vec<_> = (rows.start..rows.end).step_by(step).map(|start| rows.end.min(start + step)).collect();
    let mut own = Records::default();
    let mut outputs = outputs;
    own.reset(Wanted { gradient: false, logsumexp: false, ..task.wanted }, true, rows.len(), classes);
    let mut all = outputs.with(&mut own);
    pieces(rows.start, &ends, all.reborrow(), spread, |range, mut outputs| {
        memory.lend(|scratch| scratch.step(task, Ways { streams, shared }, batch, range, &mut outputs, None))
    })?;
    let mut gathered = Gathered::default();
    let targets = batch.labels(rows.clone(), &mut gathered);
    reducer.push(task.prepared, &Results::of(&all, targets, batch.weights(rows)));
    Ok(())
}

/// Rows that have about so many predictions: whole groups of lanes, if there are as many.
fn step(classes: usize, predictions: usize) -> usize {
    let rows = predictions / classes.max(1);
    if rows < LANES { rows.max(1) } else { rows / LANES * LANES }
}

/// Does the work for each piece, on this thread alone if it is not spread; the results are in order. After a failure only pieces before it
/// are still begun, so that the one that is told is always the first.
fn pieces<T: Send>(
    first: usize,
    ends: &[usize],
    mut outputs: RecordsMut<'_>,
    spread: Option<Spread>,
    work: impl Fn(Range<usize>, RecordsMut<'_>) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let starts = std::iter::once(first).chain(ends.iter().copied());
    let cut = starts.zip(ends).map(|(start, &end)| (start..end, outputs.take(end - start)));
    let cut: Vec<_> = cut.enumerate().collect();
    let failed = AtomicUsize::new(usize::MAX);
    let attempt = |(place, (range, outputs))| {
        if place > failed.load(Ordering::Relaxed) {
            return None;
        }
        let result = work(range, outputs);
        if result.is_err() {
            failed.fetch_min(place, Ordering::Relaxed);
        }
        Some(result)
    };
    let done = match spread {
        Some(how) => threads::spread(cut, how, attempt),
        None => cut.into_iter().map(attempt).collect(),
    };
    done.into_iter().flatten().collect()
}

impl Scratch {
    /// Evaluates some rows of a piece. What is read of them, and what comes of them, stays in this memory until the next.
    fn step(
        &mut self,
        task: Task<'_>,
        ways: Ways,
        batch: &Checked<'_, '_>,
        range: Range<usize>,
        outputs: &mut RecordsMut<'_>,
        part: Option<(&mut Part, &Reducer)>,
    ) -> Result<()> {
        let Task { prepared, wanted, counts, instructions, scale } = task;
        let window = batch.window(range.clone(), batch.element(), &mut self.gathered)?;
        if part.is_some() {
            let own = Wanted { gradient: false, logsumexp: false, ..wanted };
            self.records.reset(own, true, range.len(), prepared.classes);
        }
        let mut records = outputs.with(&mut self.records);
        if prepared.classes == 0 {
            // Nothing was predicted: there is no loss, and nothing is right. What is ignored has none to have.
            records.losses.fill(f32::NAN);
            if let TargetSlice::Classes(labels) = window.targets {
                for (loss, _) in records.losses.iter_mut().zip(labels).filter(|(_, label)| **label == IGNORED) {
                    *loss = 0.0;
                }
            }
            records.logsumexp.fill(f32::NAN);
            records.calibration.fill([f32::NAN; 4]);
            records.ranks.fill(RANK_NAN);
        } else {
            if wanted.gradient {
                batch.row_scales(range.clone(), scale, &mut self.scales);
            }
            let records = records.reborrow();
            let Ways { streams, shared } = ways;
            let scales = &self.scales;
            let piece = Piece { prepared, window: &window, wanted, counts, scales, streams, shared, records };
            visit(prepared.fold, prepared.term, Looked { piece, instructions });
        }
        if let Some((part, reducer)) = part {
            let rows = Results::of(&records, window.targets, batch.weights(range));
            dispatch(instructions, Push { part, totals: reducer.totals(), prepared, rows: &rows });
        }
        Ok(())
    }
}

/// A piece whose loss is looked up.
struct Looked<'a> {
    piece: Piece<'a>,
    instructions: Instructions,
}

impl Visitor for Looked<'_> {
    type Output = ();

    fn visit<F: Fold, T: LossTerm>(self) {
        self.piece.evaluate::<F, T>(self.instructions);
    }
}
