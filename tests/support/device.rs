//! A device as an application has it, with buffers to embed kernels in.

use xent::wgpu;

/// A caller's device and queue. What wgpu has to say of a call is a panic, as it is by default.
pub struct Application {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
}

impl Application {
    /// On this machine's first adapter, with these limits and features.
    pub fn with(required_limits: wgpu::Limits, required_features: wgpu::Features) -> Self {
        // Keeps the software adapter's driver in memory until the process has ended.
        let adapters = xent::adapters_blocking();
        assert!(!adapters.is_empty(), "GPU tests need an adapter: on Debian, apt-get install mesa-vulkan-drivers");
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
            backends: wgpu::Backends::PRIMARY,
            ..wgpu::InstanceDescriptor::new_without_display_handle()
        });
        let adapter = pollster::block_on(instance.request_adapter(&wgpu::RequestAdapterOptions::default()));
        let adapter = adapter.expect("there is an adapter");
        let (device, queue) = pollster::block_on(adapter.request_device(&wgpu::DeviceDescriptor {
            required_limits,
            required_features,
            ..wgpu::DeviceDescriptor::default()
        }))
        .expect("the adapter gives a device");
        Self { device, queue }
    }

    /// With WebGPU's default limits and no features.
    pub fn plain() -> Self {
        Self::with(wgpu::Limits::default(), wgpu::Features::empty())
    }

    /// A buffer of these bytes, and then of poison up to `size`.
    pub fn buffer(&self, bytes: &[u8], size: u64) -> wgpu::Buffer {
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::UNIFORM
            | wgpu::BufferUsages::COPY_SRC
            | wgpu::BufferUsages::COPY_DST;
        let size = size.max(bytes.len() as u64).next_multiple_of(4);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let mut all = vec![POISON; size as usize];
        all[..bytes.len()].copy_from_slice(bytes);
        self.queue.write_buffer(&buffer, 0, &all);
        buffer
    }

    /// Submits what `record` records.
    pub fn submit(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) {
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        record(&mut encoder);
        self.queue.submit([encoder.finish()]);
    }

    /// The bytes of a buffer.
    pub fn read(&self, buffer: &wgpu::Buffer) -> Vec<u8> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let size = buffer.size();
        let readback =
            self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        self.submit(|encoder| encoder.copy_buffer_to_buffer(buffer, 0, &readback, 0, size));
        readback.slice(..).map_async(wgpu::MapMode::Read, |mapped| mapped.expect("the buffer is mapped"));
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
        readback.slice(..).get_mapped_range().expect("it was waited for").to_vec()
    }
}

/// What outputs hold before a kernel writes them: float32 of it are NaN.
pub const POISON: u8 = 0xff;
