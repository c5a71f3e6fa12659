//! Trains a network of 64, 48 and 10 units on scans of digits, all of it on the GPU: this file's own matrix shader, and
//! the loss with its gradient from the crate. One submission a step; only losses that are drawn come back.
//! `cargo run --release --example train_digits`.
#![expect(clippy::print_stdout, reason = "an example prints")]

use std::error::Error;

use wgpu::util::DeviceExt;
use xent::gpu::{Bindings, Bound, Cache, Kernel, KernelDescriptor, KernelOutputs, TotalsWords};
use xent::{CategoricalCrossEntropy, Gradient, Input, Loss, Reduction, wgpu};

/// Pixels and hidden units, each with a constant 1 after them, whose weights are the biases; classes.
const PIXELS: u32 = 65;
const HIDDEN: u32 = 49;
const CLASSES: u32 = 10;

/// A product of matrices of any strides, and what becomes of it.
const SHADER: &str = "
struct Task {
    rows: u32, columns: u32, inner: u32, kind: u32,
    a_row: u32, a_column: u32, b_row: u32, b_column: u32, out_row: u32,
}
@group(0) @binding(0) var<uniform> task: Task;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> extra: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn multiply(@builtin(global_invocation_id) id: vec3<u32>) {
    let row = id.x / task.columns;
    let column = id.x % task.columns;
    if row >= task.rows { return; }
    var sum = 0.0;
    for (var k = 0u; k < task.inner; k++) {
        sum += a[row * task.a_row + k * task.a_column] * b[k * task.b_row + column * task.b_column];
    }
    let at = row * task.out_row + column;
    switch task.kind {
        case 0u: { out[at] = sum; }
        // A hidden unit, and its derivative.
        case 1u: { out[at] = max(sum, 0.0); }
        case 2u: { out[at] = select(0.0, sum, extra[at] > 0.0); }
        // A step of gradient descent with momentum.
        default: {
            extra[at] = 0.9 * extra[at] + sum;
            out[at] -= 1.0 * extra[at];
        }
    }
}";

/// What training came to.
pub(crate) struct Outcome {
    /// The mean loss over the training scans, every fifth step.
    pub(crate) losses: Vec<f32>,
    /// The share of the other scans that are told right.
    pub(crate) accuracy: f32,
}

/// What the application has of a device.
struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipeline: wgpu::ComputePipeline,
    nothing: wgpu::Buffer,
}

/// One dispatch of the shader.
struct Product {
    group: wgpu::BindGroup,
    workgroups: u32,
}

impl Gpu {
    fn new() -> Result<Self, Box<dyn Error>> {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()))?;
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor::default()))?;
        let source = wgpu::ShaderSource::Wgsl(SHADER.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("matrices"),
            layout: None,
            module: &module,
            entry_point: Some("multiply"),
            compilation_options: wgpu::PipelineCompilationOptions::default(),
            cache: None,
        });
        let usage = wgpu::BufferUsages::STORAGE;
        let nothing = device.create_buffer(&wgpu::BufferDescriptor { label: None, size: 16, usage, mapped_at_creation: false });
        Ok(Self { device, queue, pipeline, nothing })
    }

    /// Values, followed by zeros up to a whole word of 16 bytes.
    fn buffer<T: bytemuck::Pod>(&self, values: &[T]) -> wgpu::Buffer {
        let mut contents = bytemuck::cast_slice(values).to_vec();
        contents.resize(contents.len().next_multiple_of(16), 0);
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::UNIFORM;
        let descriptor = wgpu::util::BufferInitDescriptor { label: None, contents: &contents, usage };
        self.device.create_buffer_init(&descriptor)
    }

    /// `task` is rows, columns, inner, kind, and the strides of a, b and out.
    fn product(&self, task: [u32; 9], [a, b, extra, out]: [&wgpu::Buffer; 4]) -> Product {
        let uniform = self.buffer(&task);
        let entries: Vec<_> = (0..)
            .zip([&uniform, a, b, extra, out])
            .map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.as_entire_binding() })
            .collect();
        let layout = self.pipeline.get_bind_group_layout(0);
        let group =
            self.device.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &layout, entries: &entries });
        Product { group, workgroups: (task[0] * task[1]).div_ceil(64) }
    }

    fn encode(&self, pass: &mut wgpu::ComputePass<'_>, products: &[Product]) {
        for product in products {
            pass.set_pipeline(&self.pipeline);
            pass.set_bind_group(0, &product.group, &[]);
            pass.dispatch_workgroups(product.workgroups, 1, 1);
        }
    }

    fn totals(&self, buffer: &wgpu::Buffer) -> Result<TotalsWords, Box<dyn Error>> {
        let (sender, receiver) = std::sync::mpsc::channel();
        wgpu::util::DownloadBuffer::read_buffer(&self.device, &self.queue, &buffer.slice(..), move |bytes| {
            let _ = sender.send(bytes.map(|bytes| bytemuck::pod_read_unaligned(&bytes[..size_of::<TotalsWords>()])));
        });
        self.device.poll(wgpu::PollType::wait_indefinitely())?;
        Ok(receiver.recv()??)
    }
}

/// Scans on the GPU, what the network makes of them, and the loss.
struct Scans {
    pixels: wgpu::Buffer,
    hidden: wgpu::Buffer,
    gradient: wgpu::Buffer,
    totals: wgpu::Buffer,
    rows: u32,
    forward: [Product; 2],
    loss: Bound,
}

impl Scans {
    fn new(gpu: &Gpu, kernel: &Kernel, images: &[f32], labels: &[u32], weights: [&wgpu::Buffer; 2]) -> xent::Result<Self> {
        let rows = labels.len() as u32;
        let with_one = |row: &[f32]| row.iter().map(|pixel| pixel / 16.0).chain([1.0]).collect::<Vec<_>>();
        let pixels = gpu.buffer(&images.chunks(64).flat_map(with_one).collect::<Vec<_>>());
        let hidden = gpu.buffer(&vec![1.0_f32; (rows * HIDDEN) as usize]);
        let logits = gpu.buffer(&vec![0.0_f32; (rows * CLASSES) as usize]);
        let gradient = gpu.buffer(&vec![0.0_f32; (rows * CLASSES) as usize]);
        let totals = gpu.buffer(&[0_u32; 8]);
        let labels = gpu.buffer(labels);
        let forward = [
            gpu.product(
                [rows, HIDDEN - 1, PIXELS, 1, PIXELS, 1, HIDDEN - 1, 1, HIDDEN],
                [&pixels, weights[0], &gpu.nothing, &hidden],
            ),
            gpu.product(
                [rows, CLASSES, HIDDEN, 0, HIDDEN, 1, CLASSES, 1, CLASSES],
                [&hidden, weights[1], &gpu.nothing, &logits],
            ),
        ];
        let bindings = Bindings {
            gradient: Some(gradient.slice(..)),
            totals: Some(totals.slice(..)),
            ..Bindings::new(logits.slice(..), labels.slice(..))
        };
        let loss = kernel.bind(&gpu.device, &bindings, rows as usize)?;
        Ok(Self { pixels, hidden, gradient, totals, rows, forward, loss })
    }

    fn encode(&self, gpu: &Gpu, pass: &mut wgpu::ComputePass<'_>) {
        gpu.encode(pass, &self.forward);
        self.loss.encode_in(pass);
    }
}

/// Weights between −r and r, r² = 6 / (units before and after), the same in every run.
fn weights(before: u32, after: u32) -> Vec<f32> {
    let range = (6.0 / (before + after) as f32).sqrt();
    let mut state = before;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        ((state >> 8) as f32 / (1 << 23) as f32 - 1.0) * range
    };
    (0..before * after).map(next).collect()
}

/// The elements of a `.npy` file of format 1: what follows its header, `N` bytes each.
fn elements<const N: usize, T>(file: &[u8], element: fn([u8; N]) -> T) -> Vec<T> {
    let header = usize::from(u16::from_le_bytes([file[8], file[9]]));
    file[10 + header..].as_chunks().0.iter().copied().map(element).collect()
}

/// Trains for so many steps over all of the training scans, and tries the others.
///
/// # Errors
/// Where there is no adapter, or the device fails.
pub(crate) fn train(steps: usize) -> Result<Outcome, Box<dyn Error>> {
    let gpu = Gpu::new()?;
    let descriptor = KernelDescriptor {
        label: Some("digits"),
        loss: Loss::from(CategoricalCrossEntropy { input: Input::Logits, ..Default::default() }),
        classes: CLASSES as usize,
        outputs: KernelOutputs {
            gradient: Some(Gradient::Of(Reduction::Mean)),
            totals: Some(Reduction::Mean),
            accuracy: true,
            ..Default::default()
        },
        ..Default::default()
    };
    let kernel = Kernel::new_blocking(&gpu.device, &Cache::default(), &descriptor)?;
    let label = |bytes| i64::from_le_bytes(bytes) as u32;
    let first = gpu.buffer(&weights(PIXELS, HIDDEN - 1));
    let second = gpu.buffer(&weights(HIDDEN, CLASSES));
    let scans = |images: &[u8], labels: &[u8]| {
        let (images, labels) = (elements(images, f32::from_le_bytes), elements(labels, label));
        Scans::new(&gpu, &kernel, &images, &labels, [&first, &second])
    };
    let training = scans(include_bytes!("digits/train_images.npy"), include_bytes!("digits/train_labels.npy"))?;
    let others = scans(include_bytes!("digits/images.npy"), include_bytes!("digits/labels.npy"))?;

    // Backwards: derivatives of the hidden units, then a step of each layer's weights.
    let rows = training.rows;
    let slopes = gpu.buffer(&vec![0.0_f32; (rows * HIDDEN) as usize]);
    let momentum = [PIXELS * (HIDDEN - 1), HIDDEN * CLASSES].map(|size| gpu.buffer(&vec![0.0_f32; size as usize]));
    let backward = [
        gpu.product(
            [rows, HIDDEN - 1, CLASSES, 2, CLASSES, 1, 1, CLASSES, HIDDEN],
            [&training.gradient, &second, &training.hidden, &slopes],
        ),
        gpu.product(
            [HIDDEN, CLASSES, rows, 3, 1, HIDDEN, CLASSES, 1, CLASSES],
            [&training.hidden, &training.gradient, &momentum[1], &second],
        ),
        gpu.product(
            [PIXELS, HIDDEN - 1, rows, 3, 1, PIXELS, HIDDEN, 1, HIDDEN - 1],
            [&training.pixels, &slopes, &momentum[0], &first],
        ),
    ];
    let submit = |record: &dyn Fn(&mut wgpu::ComputePass<'_>)| {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        gpu.queue.submit([encoder.finish()]);
    };
    let mut losses = Vec::new();
    for step in 0..steps {
        submit(&|pass| {
            training.encode(&gpu, pass);
            gpu.encode(pass, &backward);
        });
        if step % 5 == 0 {
            losses.push(gpu.totals(&training.totals)?.loss);
        }
    }
    submit(&|pass| others.encode(&gpu, pass));
    let totals = gpu.totals(&others.totals)?;
    Ok(Outcome { losses, accuracy: totals.correct as f32 / totals.kept as f32 })
}

/// A curve of bars of eight heights, a line of text for each power of two below the first value.
fn draw(losses: &[f32]) -> String {
    const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let top = losses.first().copied().unwrap_or(1.0).log2();
    let line = |number: usize| {
        let floor = top - number as f32 - 1.0;
        let bar = |loss: &f32| BARS[((loss.log2() - floor) * 8.0).clamp(0.0, 8.0) as usize];
        format!("{:7.3} │{}\n", floor.exp2(), losses.iter().map(bar).collect::<String>())
    };
    (0..6).map(line).collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let outcome = train(300)?;
    print!("{}", draw(&outcome.losses));
    println!("accuracy on scans that were not trained on: {:.2} %", 100.0 * outcome.accuracy);
    Ok(())
}
