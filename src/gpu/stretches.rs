//! A row that does not fit into a binding: it is uploaded stretch by stretch, once for each walk over it. What the parts of a
//! row bring stays on the device meanwhile.

use std::sync::Arc;

use super::completion::Scopes;
use super::session::Session;
use super::slot::Results;
use crate::batch::{TargetSlice, Window};
use crate::error::{Error, Result};
use crate::layout::Element;
use crate::records::RecordsMut;

/// What is dispatched on each stretch, and what follows the last one.
const WALKS: [(&str, &[&str]); 3] = [("find_parts", &["join_parts"]), ("sum_parts", &[]), ("write_gradients", &[])];

impl Session {
    /// Fills the records of a window of one row. Nothing else may be in flight.
    pub(crate) async fn evaluate_in_stretches(
        &mut self,
        window: &Window<'_>,
        row: u64,
        scales: &[f32],
        records: &mut RecordsMut<'_>,
    ) -> Result<()> {
        self.begin(row)?;
        let failed = |reason| Error::Gpu { row, reason };
        let Some(mut slot) = self.free.pop() else { return Err(failed("no memory is left for a window".into())) };
        let context = Arc::clone(&self.context);
        let (scheme, classes) = (self.plan.scheme, window.classes);
        let (parts, part) = (scheme.parts(classes), scheme.part as usize);
        let stretch = self.plan.stretch.unwrap_or(parts);
        let first = scheme.first(row, classes);
        let walks: Vec<_> = WALKS.into_iter().filter(|(walk, _)| slot.bound.has(walk)).collect();
        // The row is finished after the last walk but that of the gradient.
        let finished = if walks.iter().any(|(walk, _)| *walk == "sum_parts") { "sum_parts" } else { "find_parts" };
        let mut label = Some(label_bits(window));
        for (walk, after) in walks {
            for start in (0..parts).step_by(stretch) {
                let range = start..parts.min(start + stretch);
                let is_last = range.end == parts;
                // The row's first part is short of what the row begins late; the last one may have nothing, where the row does
                // not begin so late that it would need it.
                let elements = (start * part).saturating_sub(first).min(classes)..classes.min(range.end * part - first);
                let late = if start == 0 { first } else { 0 };
                let results = Results {
                    values: if is_last && walk == finished { self.kernel.wanted().fields() as usize } else { 0 },
                    elements: if walk == "write_gradients" { late + elements.len() } else { 0 },
                };
                let scopes = Scopes::push(&context.device);
                if let Some(bits) = label.take() {
                    slot.bound.place_label(&context.queue, bits);
                }
                slot.bound.place_parts(&context.queue, &self.kernel, range.clone(), first);
                let filled = slot.fill(window, elements.clone(), late, scales);
                let mut encoder =
                    context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("xent stretch") });
                slot.encode_uploads(&mut encoder);
                {
                    let mut pass = encoder
                        .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("xent parts"), timestamp_writes: None });
                    slot.bound.encode_one(&mut pass, walk, range.len());
                    for entry in after.iter().filter(|_| is_last) {
                        slot.bound.encode_one(&mut pass, entry, 1);
                    }
                    if is_last && walk == finished {
                        slot.bound.encode_one(&mut pass, "finish_rows", 1);
                    }
                }
                slot.encode_results(&mut encoder, results);
                let submission = context.queue.submit([encoder.finish()]);
                let end = slot.map(results);
                let errors = scopes.pop();
                if let Some(reason) = errors.await {
                    return Err(failed(reason));
                }
                filled.map_err(failed)?;
                self.wait(row, submission, &end).await?;
                if results.values > 0 {
                    self.trust(row, slot.read_rows(self.kernel.wanted(), records))?;
                }
                if results.elements > 0 {
                    self.trust(row, slot.read_gradient(late, &mut records.gradient[elements]))?;
                }
            }
        }
        self.free.push(slot);
        Ok(())
    }
}

/// The prediction of the label of a window's only row, as float32 bits; anything where there is none.
fn label_bits(window: &Window<'_>) -> u32 {
    let TargetSlice::Classes([label, ..]) = window.targets else { return 0 };
    let label = *label as usize;
    match window.element {
        Element::F32 => window.predictions.get(label).map_or(0, |x| x.to_bits()),
        Element::F16 => window.halves.get(label).map_or(0, |&bits| half::f16::from_bits(bits).to_f32().to_bits()),
        Element::Bf16 => window.halves.get(label).map_or(0, |&bits| u32::from(bits) << 16),
    }
}
