//! The rows of a batch through a GPU, window by window: the next ones are under way while results of the first are taken, in the
//! order of the rows.

use std::collections::VecDeque;
use std::ops::Range;

use crate::batch::{Checked, Gathered, Window};
use crate::error::Result;
use crate::gpu::Session;
use crate::layout::Wanted;
use crate::loss::Prepared;
use crate::records::{Records, RecordsMut};
use crate::reduce::{Reducer, Results};

/// A batch, and what is wanted of it.
pub(crate) struct Task<'t, 'b, 'a> {
    pub checked: &'t Checked<'b, 'a>,
    pub prepared: &'t Prepared,
    pub wanted: Wanted,
    /// What the rows' gradients are multiplied with, besides their weights.
    pub scale: f64,
    /// The place of the batch's first row in the whole.
    pub first_row: u64,
}

/// The host's memory for windows, kept from one to the next.
#[derive(Default)]
pub(crate) struct Memory {
    gathered: Gathered,
    scales: Vec<f32>,
    /// What the caller did not ask for of the rows, and the totals do.
    rest: Records,
}

impl Task<'_, '_, '_> {
    /// Room for what a window brings besides what the caller asked for.
    fn room<'r>(&self, some: &'r mut RecordsMut<'_>, rest: &'r mut Records) -> RecordsMut<'r> {
        let wanted = Wanted { gradient: false, logsumexp: false, ..self.wanted };
        rest.reset(wanted, true, some.rows, some.classes);
        some.with(rest)
    }

    /// Some rows as the session takes them, and what their gradients are multiplied with.
    fn window<'m>(
        &'m self,
        rows: Range<usize>,
        session: &Session,
        gathered: &'m mut Gathered,
        scales: &'m mut Vec<f32>,
    ) -> Result<(Window<'m>, &'m [f32])> {
        if self.wanted.gradient {
            self.checked.row_scales(rows.clone(), self.scale, scales);
        }
        Ok((self.checked.window(rows, session.element(), gathered)?, scales))
    }

    /// Adds up the results of some rows.
    fn add(&self, rows: Range<usize>, records: &RecordsMut<'_>, reducer: &mut Reducer, gathered: &mut Gathered) {
        let weights = self.checked.weights(rows.clone());
        reducer.push(self.prepared, &Results::of(records, self.checked.labels(rows, gathered), weights));
    }
}

/// Evaluates some rows of a batch, which `records` are of. After an error the reducer has the rows before the first window at
/// fault, and the session is to be dropped, unless rows could not be read.
pub(crate) async fn evaluate(
    session: &mut Session,
    task: &Task<'_, '_, '_>,
    rows: Range<usize>,
    records: &mut RecordsMut<'_>,
    reducer: &mut Reducer,
    memory: &mut Memory,
) -> Result<()> {
    if session.is_in_stretches() {
        return evaluate_in_stretches(session, task, rows, records, reducer, memory).await;
    }
    let mut next = rows.start;
    let mut in_flight = VecDeque::new();
    // A window that could not be submitted does no harm to those before it.
    let mut failed = None;
    loop {
        while failed.is_none() && next < rows.end && session.has_room() {
            let range = next..rows.end.min(next.saturating_add(session.window_rows()));
            let row = task.first_row + range.start as u64;
            failed = match task.window(range.clone(), session, &mut memory.gathered, &mut memory.scales) {
                Ok((window, scales)) => session.submit(&window, row, range.len(), scales).await.err(),
                Err(error) => Some(error),
            };
            if failed.is_none() {
                next = range.end;
                in_flight.push_back(range);
            }
        }
        let Some(range) = in_flight.pop_front() else { break };
        let mut some = records.take(range.len());
        let mut some = task.room(&mut some, &mut memory.rest);
        session.take(&mut some).await?;
        task.add(range, &some, reducer, &mut memory.gathered);
    }
    failed.map_or(Ok(()), Err)
}

/// The same for rows that come in stretches: a window is a row, and the device has one of them at a time.
async fn evaluate_in_stretches(
    session: &mut Session,
    task: &Task<'_, '_, '_>,
    rows: Range<usize>,
    records: &mut RecordsMut<'_>,
    reducer: &mut Reducer,
    memory: &mut Memory,
) -> Result<()> {
    for place in rows {
        let range = place..place + 1;
        let (window, scales) = task.window(range.clone(), session, &mut memory.gathered, &mut memory.scales)?;
        let mut some = records.take(1);
        let mut some = task.room(&mut some, &mut memory.rest);
        let row = task.first_row + place as u64;
        session.evaluate_in_stretches(&window, row, scales, &mut some).await?;
        task.add(range, &some, reducer, &mut memory.gathered);
    }
    Ok(())
}
