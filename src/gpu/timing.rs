//! Timing harness, not committed.
use crate::gpu::kernel::{Kernel, Rows};
use crate::layout::{Element, Wanted};
use crate::loss::{CategoricalCrossEntropy, Input, Loss};
use crate::plan;
use std::time::Instant;

fn time(classes: usize, element: Element, wanted: Wanted, dense: bool, context: &crate::gpu::Context) -> (f64, f64) {
    let total: usize = std::env::var("ELEMENTS").ok().and_then(|v| v.parse().ok()).unwrap_or(1 << 22);
    let rows = (total / classes).max(1);
    let loss = Loss::from(CategoricalCrossEntropy { input: Input::Logits, ..Default::default() });
    let prepared = loss.prepare(classes, dense).unwrap();
    let scheme = plan::scheme(classes, &context.limits);
    let device = &context.device;
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
    let buffer = |size: u64| {
        device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: size.next_multiple_of(16),
            usage,
            mapped_at_creation: false,
        })
    };
    let n = rows * classes;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 22) as f32 * 2.0 - 4.0
    };
    let values: Vec<f32> = (0..n).map(|_| next()).collect();
    let predictions = buffer(n as u64 * 4 + 16);
    if element == Element::F32 {
        context.queue.write_buffer(&predictions, 0, bytemuck::cast_slice(&values));
    } else {
        let mut v: Vec<u16> = values
            .iter()
            .map(
                |&x| if element == Element::F16 { half::f16::from_f32(x).to_bits() } else { half::bf16::from_f32(x).to_bits() },
            )
            .collect();
        v.resize(v.len().next_multiple_of(2), 0);
        context.queue.write_buffer(&predictions, 0, bytemuck::cast_slice(&v));
    }
    let targets = buffer(if dense { n as u64 * 4 + 16 } else { rows as u64 * 4 });
    let labels: Vec<u32> = (0..rows).map(|r| (r * 7 % classes) as u32).collect();
    if dense {
        let t: Vec<f32> = (0..n).map(|_| 1.0 / classes as f32).collect();
        context.queue.write_buffer(&targets, 0, bytemuck::cast_slice(&t));
    } else {
        context.queue.write_buffer(&targets, 0, bytemuck::cast_slice(&labels));
    }
    let scales = buffer(rows as u64 * 4);
    context.queue.write_buffer(&scales, 0, bytemuck::cast_slice(&vec![1.0f32; rows]));
    let records = buffer(rows as u64 * 4 * u64::from(wanted.fields()));
    let gradient = wanted.gradient.then(|| buffer(n as u64 * 4 + 16));
    let kernel = Kernel::new(device, &context.queue, &context.pipelines, prepared, scheme, wanted, element);
    let bound = kernel.bind(
        device,
        &Rows {
            predictions: predictions.as_entire_buffer_binding(),
            targets: targets.as_entire_buffer_binding(),
            row_scales: wanted.gradient.then(|| scales.as_entire_buffer_binding()),
            records: records.as_entire_buffer_binding(),
            gradient: gradient.as_ref().map(wgpu::Buffer::as_entire_buffer_binding),
        },
        rows,
    );
    bound.place(&context.queue, &kernel, rows, 0);
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut encoder = device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            bound.encode(&mut pass, rows);
        }
        let start = Instant::now();
        let i = context.queue.submit([encoder.finish()]);
        device.poll(wgpu::PollType::Wait { submission_index: Some(i), timeout: None }).unwrap();
        times.push(start.elapsed().as_secs_f64());
    }
    times.sort_by(f64::total_cmp);
    // Check
    let back = device.create_buffer(&wgpu::BufferDescriptor {
        label: None,
        size: records.size(),
        usage: wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::MAP_READ,
        mapped_at_creation: false,
    });
    let mut encoder = device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(&records, 0, &back, 0, records.size());
    let i = context.queue.submit([encoder.finish()]);
    back.slice(..).map_async(wgpu::MapMode::Read, |_| {});
    device.poll(wgpu::PollType::Wait { submission_index: Some(i), timeout: None }).unwrap();
    let view = back.slice(..).get_mapped_range().unwrap();
    let got: &[f32] = bytemuck::cast_slice(&view);
    let mut worst = 0f64;
    if element == Element::F32 && !dense {
        for r in (0..rows).step_by(rows.div_ceil(500)) {
            let row = &values[r * classes..][..classes];
            let s: f64 = row.iter().map(|&x| f64::from(x).exp()).sum();
            let want = s.ln() - f64::from(row[labels[r] as usize]);
            worst = worst.max((f64::from(got[r * wanted.fields() as usize]) - want).abs() / want);
        }
    }
    let bytes = n as f64 * (element.bytes() as f64 + if dense { 4.0 } else { 0.0 } + if wanted.gradient { 4.0 } else { 0.0 });
    (bytes / times[2] / 1e9, worst)
}

#[test]
fn timing() {
    let context = pollster::block_on(crate::gpu::open(&crate::gpu::Choice { name: None, software: true })).unwrap();
    let list = std::env::var("CLASSES").unwrap_or("2,10,100,1000,8192,32000,128256".into());
    let modes = std::env::var("MODES").unwrap_or("f".into());
    for mode in modes.split(',') {
        for classes in list.split(',').map(|c| c.parse::<usize>().unwrap()) {
            let wanted = Wanted { ranks: mode.contains('r'), gradient: mode.contains('g'), ..Wanted::default() };
            let element = if mode.contains('h') {
                Element::F16
            } else if mode.contains('b') {
                Element::Bf16
            } else {
                Element::F32
            };
            let (gbs, worst) = time(classes, element, wanted, mode.contains('d'), &context);
            println!("{mode:>4} {classes:>7}: {gbs:.3} GB/s  worst {worst:.2e} {:?}", plan::scheme(classes, &context.limits));
            if let Some(e) = context.failure() {
                println!("FAILURE {e}");
            }
        }
    }
}
