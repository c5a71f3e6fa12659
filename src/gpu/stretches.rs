//! A row that does not fit into a binding: it is uploaded stretch by stretch, once for each walk over it. What the parts of a
//! row bring stays on the device meanwhile.

use std::sync::Arc;

use super::completion::{Lost, Scopes, Signal};
use super::stream::Session;
use crate::batch::{TargetSlice, Window};
use crate::error::Result;
use crate::layout::Element;
use crate::records::RecordsMut;

/// What is dispatched on each stretch, and what follows the last one.
const WALKS: [(&str, &[&str]); 3] = [("find_parts", &["join_parts"]), ("sum_parts", &[]), ("write_gradients", &[])];

impl Session {
    /// Fills the records of a window of one row.
    pub(super) async fn evaluate_in_stretches(
        &mut self,
        window: &Window<'_>,
        row: u64,
        scales: &[f32],
        mut records: RecordsMut<'_>,
    ) -> Result<()> {
        let context = Arc::clone(&self.context);
        let (scheme, classes) = (self.plan.scheme, window.classes);
        let (parts, part) = (scheme.parts(classes), scheme.part as usize);
        let stretch = self.plan.stretch.unwrap_or(parts);
        let first = scheme.first(row, classes);
        let walks: Vec<_> = WALKS.into_iter().filter(|(walk, _)| self.bound.has(walk)).collect();
        // The row is finished after the last walk but that of the gradient.
        let finished = if walks.iter().any(|(walk, _)| *walk == "sum_parts") { "sum_parts" } else { "find_parts" };
        self.upload_rows(window, scales);
        self.bound.place_label(&context.queue, label_bits(window));
        for (walk, after) in walks {
            for start in (0..parts).step_by(stretch) {
                let range = start..parts.min(start + stretch);
                let is_last = range.end == parts;
                // The row's first part is short of what the row begins late; the last one may have nothing, where the row does
                // not begin so late that it would need it.
                let elements = (start * part).saturating_sub(first).min(classes)..classes.min(range.end * part - first);
                let late = if start == 0 { first } else { 0 };
                let count = elements.len();
                let scopes = Scopes::push(&context.device);
                self.bound.place_parts(&context.queue, &self.kernel, range.clone(), first);
                self.upload(window, elements.clone(), late);
                let mut encoder =
                    context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("xent stretch") });
                {
                    let mut pass = encoder
                        .begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("xent parts"), timestamp_writes: None });
                    self.bound.encode_one(&mut pass, walk, range.len());
                    for entry in after.iter().filter(|_| is_last) {
                        self.bound.encode_one(&mut pass, entry, 1);
                    }
                    if is_last && walk == finished {
                        self.bound.encode_one(&mut pass, "finish_rows", 1);
                    }
                }
                let fields = u64::from(self.kernel.wanted().fields());
                let readback = &self.buffers.readback;
                let reads_rows = is_last && walk == finished;
                let reads_gradient = walk == "write_gradients";
                if reads_rows {
                    encoder.copy_buffer_to_buffer(&self.buffers.records, 0, readback, 0, fields * 4);
                }
                if let Some(gradient) = self.buffers.gradient.as_ref().filter(|_| reads_gradient) {
                    encoder.copy_buffer_to_buffer(gradient, 0, readback, 0, ((late + count) * size_of::<f32>()) as u64);
                }
                let submission = context.queue.submit([encoder.finish()]);
                let results = Arc::new(Signal::default());
                let signal = Arc::clone(&results);
                if reads_rows || reads_gradient {
                    let mapped = move |outcome: Result<(), wgpu::BufferAsyncError>| signal.set(outcome.map_err(|_| Lost));
                    readback.slice(..).map_async(wgpu::MapMode::Read, mapped);
                } else {
                    context.queue.on_submitted_work_done(move || signal.set(Ok(())));
                }
                let errors = scopes.pop();
                self.wait(row, errors, submission, &results).await?;
                if reads_rows {
                    self.read(row, |view| self.unpack_rows(view, &mut records))?;
                } else if reads_gradient {
                    let gradient = &mut records.gradient[elements];
                    self.read(row, |view| {
                        let bytes = late * size_of::<f32>()..(late + count) * size_of::<f32>();
                        gradient.copy_from_slice(bytemuck::cast_slice(&view[bytes]));
                    })?;
                }
            }
        }
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
