//! How long passes take on a GPU.

use std::time::{Duration, Instant};

use super::device::Device;
use super::report::Clock;
use crate::error::{Error, Result};

/// What records dispatches into a pass.
pub(super) type Work<'a> = &'a dyn Fn(&mut wgpu::ComputePass<'_>);

/// Passes that are timed in one submission, at most.
const PASSES: u32 = 64;
/// How long the dispatches of a pass have to take together, so that what a pass costs by itself is little beside them: by the
/// GPU's own clock,
const TIMESTAMPS_LEAST: f64 = 1e-3;
/// and by the host's, which sees the way to the GPU and back as well.
const WALL_LEAST: f64 = 20e-3;
/// How long a device is kept busy before anything counts.
const WARM: Duration = Duration::from_secs(1);
/// Dispatches of a pass, at most.
const MOST: u32 = 256;

/// Takes the time of passes, by the GPU's own clock where it has one.
pub(super) struct Stopwatch {
    timestamps: Option<Timestamps>,
}

struct Timestamps {
    set: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    /// Seconds of a tick.
    period: f64,
}

impl Stopwatch {
    pub(super) fn new(device: &Device) -> Result<Self> {
        if !device.gpu().features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(Self { timestamps: None });
        }
        let timestamps = device.guarded(|gpu, queue| Timestamps {
            set: gpu.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("xent timestamps"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * PASSES,
            }),
            resolved: gpu.create_buffer(&wgpu::BufferDescriptor {
                label: Some("xent timestamps"),
                size: 2 * u64::from(PASSES) * u64::from(wgpu::QUERY_SIZE),
                usage: wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC,
                mapped_at_creation: false,
            }),
            period: f64::from(queue.get_timestamp_period()) * 1e-9,
        })?;
        Ok(Self { timestamps: Some(timestamps) })
    }

    pub(super) fn clock(&self) -> Clock {
        if self.timestamps.is_some() { Clock::Timestamps } else { Clock::Wall }
    }

    /// How often a pass has to do its work for its time to mean something.
    pub(super) fn repetitions(&self, device: &Device, work: Work<'_>) -> Result<u32> {
        let least = if self.timestamps.is_some() { TIMESTAMPS_LEAST } else { WALL_LEAST };
        // Once for nothing.
        let seconds = self.time(device, &[(work, 1), (work, 1)])?[1];
        Ok(((least / seconds.max(1e-9)).ceil() as u32).clamp(1, MOST))
    }

    /// Keeps the device busy until its clocks are up: at rest, GPUs go at a fraction of their speed, and take tenths of a second
    /// to find out that there is work.
    pub(super) fn warm_up(&self, device: &Device, (work, times): (Work<'_>, u32)) -> Result<()> {
        let started = Instant::now();
        while started.elapsed() < WARM {
            self.time(device, &[(work, times); PASSES as usize])?;
        }
        Ok(())
    }

    /// The seconds of each work. A pass does its work so many times; they are the share of one.
    pub(super) fn time(&self, device: &Device, works: &[(Work<'_>, u32)]) -> Result<Vec<f64>> {
        let mut seconds = Vec::with_capacity(works.len());
        for works in works.chunks(PASSES as usize) {
            match &self.timestamps {
                Some(timestamps) => seconds.extend(timestamps.time(device, works)?),
                None => {
                    for &work in works {
                        seconds.push(by_the_wall(device, work)?);
                    }
                }
            }
        }
        Ok(seconds)
    }
}

impl Timestamps {
    fn time(&self, device: &Device, works: &[(Work<'_>, u32)]) -> Result<Vec<f64>> {
        let count = works.len() as u32;
        let bytes = 2 * u64::from(count) * u64::from(wgpu::QUERY_SIZE);
        device.run(|encoder| {
            for ((work, times), first) in works.iter().zip((0..).step_by(2)) {
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: Some("xent timed"),
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set: &self.set,
                        beginning_of_pass_write_index: Some(first),
                        end_of_pass_write_index: Some(first + 1),
                    }),
                });
                (0..*times).for_each(|_| work(&mut pass));
            }
            encoder.resolve_query_set(&self.set, 0..2 * count, &self.resolved, 0);
        })?;
        let mut ticks = Vec::new();
        device.read(&self.resolved, bytes, |_, bytes| ticks.extend_from_slice(bytemuck::cast_slice::<u8, u64>(bytes)))?;
        let seconds = ticks.chunks_exact(2).zip(works).map(|(ends, (_, times))| {
            let seconds = ends[1].saturating_sub(ends[0]) as f64 * self.period / f64::from(*times);
            // A clock that stands still, or went back, says nothing.
            (seconds > 0.0).then_some(seconds)
        });
        seconds.collect::<Option<_>>().ok_or_else(|| Error::Gpu { row: 0, reason: "its timestamps do not advance".into() })
    }
}

fn by_the_wall(device: &Device, (work, times): (Work<'_>, u32)) -> Result<f64> {
    let mut started = None;
    device.run(|encoder| {
        let mut pass =
            encoder.begin_compute_pass(&wgpu::ComputePassDescriptor { label: Some("xent timed"), timestamp_writes: None });
        (0..times).for_each(|_| work(&mut pass));
        started = Some(Instant::now());
    })?;
    Ok(started.map_or(f64::NAN, |started| started.elapsed().as_secs_f64()) / f64::from(times))
}
