//! A GPU that is worked with by calls that wait: buffers in, submissions, buffers out.

use std::sync::mpsc;

use crate::error::{Error, Result};
use crate::gpu::{self, Choice, Context, Scopes, poll};

/// Bytes that go up or come back at a time.
const PART: u64 = 64 << 20;

/// Why a wait comes to no end.
const LOST: &str = "the device was lost";

/// An opened adapter.
pub(super) struct Device {
    pub context: Context,
    staging: wgpu::Buffer,
}

impl Device {
    /// Opens the adapter that has this place among all.
    pub(super) fn open(index: usize) -> Result<Self> {
        let choice = Choice { software: true, place: Some(index), ..Choice::default() };
        let context = pollster::block_on(gpu::open(&choice))?;
        let staging = guarded(&context, |device, _| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("xent staging"),
                size: PART.min(context.limits.binding),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            })
        })?;
        Ok(Self { context, staging })
    }

    pub(super) fn gpu(&self) -> &wgpu::Device {
        &self.context.device
    }

    /// Does what may fail on the device, which then is an error.
    pub(super) fn guarded<T>(&self, work: impl FnOnce(&wgpu::Device, &wgpu::Queue) -> T) -> Result<T> {
        guarded(&self.context, work)
    }

    /// A storage buffer of as many bytes, at least, as `bytes` has, with these in it.
    pub(super) fn upload(&self, label: &str, bytes: &[u8]) -> Result<wgpu::Buffer> {
        let buffer = self.storage(label, bytes.len() as u64)?;
        for (part, first) in bytes.chunks(PART as usize).zip((0..).step_by(PART as usize)) {
            self.guarded(|_, queue| {
                // Copies end at multiples of 4 bytes; only the last part may not.
                let (whole, rest) = part.split_at(part.len() / 4 * 4);
                queue.write_buffer(&buffer, first, whole);
                if !rest.is_empty() {
                    let mut padded = [0; 4];
                    padded[..rest.len()].copy_from_slice(rest);
                    queue.write_buffer(&buffer, first + whole.len() as u64, &padded);
                }
            })?;
            // So that no more than a part is held back on its way.
            self.run(|_| ())?;
        }
        Ok(buffer)
    }

    /// A storage buffer of `bytes` bytes and up to 15 more.
    pub(super) fn storage(&self, label: &str, bytes: u64) -> Result<wgpu::Buffer> {
        self.guarded(|device, _| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size: bytes.next_multiple_of(16).max(16),
                usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            })
        })
    }

    /// Submits what `record` records, and waits until it is done.
    pub(super) fn run(&self, record: impl FnOnce(&mut wgpu::CommandEncoder)) -> Result<()> {
        let waited = self.guarded(|device, queue| {
            let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("xent bench") });
            record(&mut encoder);
            let submission = queue.submit([encoder.finish()]);
            poll(device, wgpu::PollType::Wait { submission_index: Some(submission), timeout: None })
        })?;
        if waited { Ok(()) } else { Err(failed(LOST.into())) }
    }

    /// Reads the first `bytes` bytes of a buffer: `take` gets them part by part, each with its place.
    pub(super) fn read(&self, buffer: &wgpu::Buffer, bytes: u64, mut take: impl FnMut(u64, &[u8])) -> Result<()> {
        let part = self.staging.size();
        for first in (0..bytes).step_by(part as usize) {
            let length = part.min(bytes - first);
            self.run(|encoder| encoder.copy_buffer_to_buffer(buffer, first, &self.staging, 0, length))?;
            let (sender, receiver) = mpsc::channel();
            let slice = self.staging.slice(..length);
            slice.map_async(wgpu::MapMode::Read, move |outcome| drop(sender.send(outcome)));
            if !poll(&self.context.device, wgpu::PollType::wait_indefinitely()) {
                return Err(failed(LOST.into()));
            }
            receiver.recv().map_err(|_| failed("reading back failed".into()))?.map_err(|error| failed(error.to_string()))?;
            take(first, &slice.get_mapped_range().map_err(|error| failed(error.to_string()))?);
            self.staging.unmap();
        }
        Ok(())
    }
}

pub(super) fn failed(reason: String) -> Error {
    Error::Gpu { row: 0, reason }
}

fn guarded<T>(context: &Context, work: impl FnOnce(&wgpu::Device, &wgpu::Queue) -> T) -> Result<T> {
    let scopes = Scopes::push(&context.device);
    let result = work(&context.device, &context.queue);
    match pollster::block_on(scopes.pop()).or_else(|| context.failure()) {
        Some(reason) => Err(failed(reason)),
        None => Ok(result),
    }
}
