//! The class axis before others: kernels take such rows as they lie, and answer with the same bits.

use super::device::Context;
use super::kernel::{Kernel, KernelDescriptor, Rows, Sources};
use crate::layout::{Element, Wanted};
use crate::loss::{CategoricalCrossEntropy, Input, Loss};
use crate::plan::Scheme;

/// A batch of shape (outer, classes, inner).
struct Case {
    outer: usize,
    classes: usize,
    inner: usize,
    dense: bool,
}

impl Case {
    fn rows(&self) -> usize {
        self.outer * self.inner
    }

    /// Values of row r and class c, laid out as (outer, classes, inner), or as rows one after the other.
    fn laid_out<T: Copy>(&self, strided: bool, value: impl Fn(usize, usize) -> T) -> Vec<T> {
        let Self { classes, inner, .. } = *self;
        let at = |place: usize| {
            if strided {
                (place / (classes * inner) * inner + place % inner, place / inner % classes)
            } else {
                (place / classes, place % classes)
            }
        };
        (0..self.rows() * classes).map(at).map(|(row, class)| value(row, class)).collect()
    }

    /// Records and gradient, as bits.
    fn run(&self, context: &Context, strided: bool) -> (Vec<u32>, Vec<u32>) {
        let logit = |row: usize, class: usize| ((row * 37 + class * 91) % 257) as f32 / 16.0 - 8.0;
        // NaN in one row: it is walked with care, its neighbours are not.
        let value = |row, class| if (row, class) == (5, 2) { f32::NAN } else { logit(row, class) };
        let predictions = self.laid_out(strided, value);
        let dense = self.laid_out(strided, |row, class| ((row + class) % 5) as f32 / 7.0);
        let labels: Vec<u32> = (0..self.rows()).map(|row| (row * 5 % self.classes) as u32).collect();
        let targets: &[u8] = if self.dense { bytemuck::cast_slice(&dense) } else { bytemuck::cast_slice(&labels) };

        let loss = Loss::from(CategoricalCrossEntropy { input: Input::Logits, ..CategoricalCrossEntropy::default() });
        let wanted = Wanted { ranks: true, gradient: true, ..Wanted::default() };
        let limits = &context.limits;
        let descriptor = KernelDescriptor {
            prepared: loss.prepare(self.classes, self.dense).expect("the loss is sound"),
            scheme: if strided { Scheme::strided(self.classes, limits) } else { Scheme::of(self.classes, limits) },
            wanted,
            element: Element::F32,
            inner: if strided { self.inner } else { 1 },
            sources: Sources::HOST,
        };
        let upload = |bytes: &[u8]| {
            let size = (bytes.len() as u64).next_multiple_of(16);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let descriptor = wgpu::BufferDescriptor { label: Some("test input"), size, usage, mapped_at_creation: false };
            let buffer = context.device.create_buffer(&descriptor);
            context.queue.write_buffer(&buffer, 0, bytes);
            buffer
        };
        let output = |values: usize| {
            let size = (values as u64 * 4).next_multiple_of(16);
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
            context.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("test output"),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        let (predictions, targets) = (upload(bytemuck::cast_slice(&predictions)), upload(targets));
        let scales = upload(bytemuck::cast_slice(&vec![1.0_f32; self.rows()]));
        let records = output(self.rows() * wanted.fields() as usize);
        let gradient = output(self.rows() * self.classes);
        let kernel = Kernel::new(&context.device, &context.pipelines, descriptor).expect("it is compiled");
        let buffers = Rows {
            predictions: predictions.as_entire_buffer_binding(),
            targets: targets.as_entire_buffer_binding(),
            row_scales: Some(scales.as_entire_buffer_binding()),
            records: records.as_entire_buffer_binding(),
            gradient: Some(gradient.as_entire_buffer_binding()),
            class_weights: None,
            step: None,
        };
        let bound = kernel.bind(&context.device, &buffers, self.rows());
        bound.place(&context.queue, &kernel, self.rows(), 0);
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        bound.encode(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()), self.rows());
        context.queue.submit([encoder.finish()]);
        let (records, gradient) = (read(context, &records), read(context, &gradient));
        let gradient = &gradient[..self.rows() * self.classes];
        let Self { classes, inner, .. } = *self;
        let by_rows = (0..self.rows() * classes).map(|place| {
            let (row, class) = (place / classes, place % classes);
            gradient[if strided { (row / inner * classes + class) * inner + row % inner } else { place }]
        });
        (records[..self.rows() * wanted.fields() as usize].to_vec(), by_rows.collect())
    }
}

fn read(context: &Context, buffer: &wgpu::Buffer) -> Vec<u32> {
    let readback = context.device.create_buffer(&wgpu::BufferDescriptor {
        label: Some("test results"),
        size: buffer.size(),
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &readback, 0, buffer.size());
    context.queue.submit([encoder.finish()]);
    readback.slice(..).map_async(wgpu::MapMode::Read, |_| {});
    context.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device is there");
    let view = readback.slice(..).get_mapped_range().expect("it was waited for");
    bytemuck::cast_slice(&view).to_vec()
}

#[test]
fn alternating_rows_have_the_bits_of_rows_one_after_the_other() {
    let choice = super::Choice { software: true, ..super::Choice::default() };
    let mut context = pollster::block_on(super::open(&choice)).expect("an adapter");
    // Of the drivers of rows one after the other, only lanes fold in the order that alternating rows are folded in.
    context.limits.software = true;
    for dense in [false, true] {
        for (outer, classes, inner) in [(3, 21, 8), (2, 21, 7), (1, 5, 100), (4, 130, 6)] {
            let case = Case { outer, classes, inner, dense };
            let (strided, plain) = (case.run(&context, true), case.run(&context, false));
            assert_eq!(strided, plain, "{outer} × {classes} × {inner}, dense={dense}");
            assert!(context.failure().is_none(), "{:?}", context.failure());
        }
    }
}
