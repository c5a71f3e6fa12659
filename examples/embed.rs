//! The smallest program that embeds a loss: its own device, encoder and buffers. `cargo run --release --example embed`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use wgpu::util::DeviceExt;
use xent::gpu::{Bindings, Cache, Kernel, KernelDescriptor, KernelOutputs, StatusWords, TotalsWords, optional_features};
use xent::{CategoricalCrossEntropy, Gradient, Input, Loss, Reduction, wgpu};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // What the loss wants of a device: for large batches, larger bindings than WebGPU's default of 128 MiB.
    let descriptor = KernelDescriptor {
        loss: Loss::from(CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }),
        classes: 3,
        outputs: KernelOutputs {
            gradient: Some(Gradient::Of(Reduction::Mean)),
            totals: Some(Reduction::Mean),
            status: true,
            ..Default::default()
        },
        ..Default::default()
    };

    // The application's own device, with what the loss wants beside what the application needs itself.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
    let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
        required_features: adapter.features() & optional_features(),
        required_limits: wgpu::Limits::default().or_better_values_from(&descriptor.required_limits(2)?),
        ..Default::default()
    }))?;

    // Two rows of three logits with their labels; room for the gradient, the totals and the status.
    let input = |contents: &[u8]| {
        let usage = wgpu::BufferUsages::STORAGE;
        device.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents, usage })
    };
    let output = |size: u64| {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC;
        device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    };
    // Words of 16 bytes: 6 logits take two of them, 2 labels one.
    let logits = input(bytemuck::cast_slice(&[1.0_f32, 2.0, 0.5, 0.0, -1.0, 3.0, 0.0, 0.0]));
    let labels = input(bytemuck::cast_slice(&[1_u32, 2, 0, 0]));
    let (gradient, totals, status) = (output(32), output(32), output(20));

    // The loss, compiled once for the device and bound once to the buffers…
    let kernel = Kernel::new_blocking(&device, &Cache::default(), &descriptor)?;
    let bindings = Bindings {
        gradient: Some(gradient.slice(..)),
        totals: Some(totals.slice(..)),
        status: Some(status.slice(..)),
        ..Bindings::new(logits.slice(..), labels.slice(..))
    };
    let bound = kernel.bind(&device, &bindings, 2)?;

    // … and recorded wherever the application records its own passes.
    let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
    bound.encode(&mut encoder);
    queue.submit([encoder.finish()]);

    // Only for printing does anything come back.
    let read = |buffer: &wgpu::Buffer| -> Result<Vec<u8>, Box<dyn std::error::Error>> {
        let (sender, receiver) = std::sync::mpsc::channel();
        wgpu::util::DownloadBuffer::read_buffer(&device, &queue, &buffer.slice(..), move |bytes| {
            let _ = sender.send(bytes.map(|bytes| bytes.to_vec()));
        });
        device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(receiver.recv()??)
    };
    let sums: TotalsWords = bytemuck::pod_read_unaligned(&read(&totals)?);
    let seen: StatusWords = bytemuck::pod_read_unaligned(&read(&status)?);
    let slopes: Vec<f32> = bytemuck::pod_collect_to_vec(&read(&gradient)?);
    println!("loss {} over {} rows, {} bad labels", sums.loss, sums.rows, seen.bad_labels);
    println!("gradient {:?}", &slopes[..6]);
    Ok(())
}
