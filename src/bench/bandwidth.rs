//! What a GPU's memory can do when it is only read or only copied: the yardsticks of the GPUs.

use super::device::Device;
use super::measure::median;
use super::stopwatch::{Stopwatch, Work};
use crate::error::Result;

/// Lanes of a workgroup that are tried.
const LANES: [u32; 2] = [64, 256];
/// Workgroups that are tried, which loop; the last is one for each block, as far as a dispatch goes.
const GRIDS: [u32; 4] = [256, 1024, 4096, 65_535];
/// Bytes that a lane takes at a time.
const LANE_BYTES: u64 = 64;
/// Times each form is tried before one is chosen.
const TRIALS: usize = 3;

/// A read and a copy on a device, each in the form that is the fastest there.
pub(super) struct Bandwidth {
    group: wgpu::BindGroup,
    read: Form,
    copy: Form,
}

#[derive(Clone)]
struct Form {
    pipeline: wgpu::ComputePipeline,
    lanes: u32,
    workgroups: u32,
    /// Dispatches in a pass.
    times: u32,
}

impl Form {
    fn encode(&self, group: &wgpu::BindGroup, pass: &mut wgpu::ComputePass<'_>) {
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, group, &[]);
        pass.dispatch_workgroups(self.workgroups, 1, 1);
    }

    fn name(&self) -> String {
        format!("{} workgroups of {} lanes", self.workgroups, self.lanes)
    }
}

impl Bandwidth {
    /// Between two buffers of `bytes` bytes.
    pub(super) fn new(
        device: &Device,
        stopwatch: &Stopwatch,
        source: &wgpu::Buffer,
        destination: &wgpu::Buffer,
        bytes: u64,
    ) -> Result<Self> {
        let (layout, group) = bound(device, source, destination, bytes)?;
        let plain =
            Form { pipeline: pipeline(device, &layout, "read_all", LANES[1])?, lanes: LANES[1], workgroups: 1024, times: 1 };
        stopwatch.warm_up(device, (&|pass: &mut wgpu::ComputePass<'_>| plain.encode(&group, pass), plain.times))?;
        let fastest = |entry: &str| -> Result<Form> {
            let pipelines = [pipeline(device, &layout, entry, LANES[0])?, pipeline(device, &layout, entry, LANES[1])?];
            let mut best = (f64::INFINITY, Form { pipeline: pipelines[0].clone(), lanes: LANES[0], workgroups: 1, times: 1 });
            for (lanes, pipeline) in LANES.into_iter().zip(&pipelines) {
                let blocks = bytes.div_ceil(u64::from(lanes) * LANE_BYTES).clamp(1, GRIDS[3].into()) as u32;
                for (i, &grid) in GRIDS.iter().enumerate() {
                    if i > 0 && GRIDS[i - 1] >= blocks {
                        // The one before had one workgroup for each block already.
                        break;
                    }
                    let mut form = Form { pipeline: pipeline.clone(), lanes, workgroups: grid.min(blocks), times: 1 };
                    let encode = |pass: &mut wgpu::ComputePass<'_>| form.encode(&group, pass);
                    let work: Work<'_> = &encode;
                    let times = stopwatch.repetitions(device, work)?;
                    let seconds = median(stopwatch.time(device, &[(work, times); TRIALS])?);
                    form.times = times;
                    if seconds < best.0 {
                        best = (seconds, form);
                    }
                }
            }
            Ok(best.1)
        };
        let (read, copy) = (fastest("read_all")?, fastest("copy_all")?);
        Ok(Self { group, read, copy })
    }

    /// The work of a read or a copy, and how often a pass has to do it.
    pub(super) fn work(&self, copy: bool) -> (impl Fn(&mut wgpu::ComputePass<'_>), u32) {
        let form = if copy { &self.copy } else { &self.read };
        (|pass: &mut wgpu::ComputePass<'_>| form.encode(&self.group, pass), form.times)
    }

    pub(super) fn names(&self) -> [String; 2] {
        [self.read.name(), self.copy.name()]
    }
}

/// Two buffers, as far as `bytes` bytes, in the places that the shader has for them.
fn bound(
    device: &Device,
    source: &wgpu::Buffer,
    destination: &wgpu::Buffer,
    bytes: u64,
) -> Result<(wgpu::BindGroupLayout, wgpu::BindGroup)> {
    let size = wgpu::BufferSize::new(bytes.next_multiple_of(16));
    let binding = |binding, buffer| wgpu::BindGroupEntry {
        binding,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size }),
    };
    device.guarded(|device, _| {
        let storage = |binding, read_only| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only },
                has_dynamic_offset: false,
                min_binding_size: None,
            },
            count: None,
        };
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("xent bandwidth"),
            entries: &[storage(0, true), storage(1, false)],
        });
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("xent bandwidth"),
            layout: &layout,
            entries: &[binding(0, source), binding(1, destination)],
        });
        (layout, group)
    })
}

/// The shader, which the library's own kernels are no better off than: the same checks, and those alone.
fn pipeline(device: &Device, layout: &wgpu::BindGroupLayout, entry: &str, lanes: u32) -> Result<wgpu::ComputePipeline> {
    device.guarded(|device, _| {
        let descriptor = wgpu::ShaderModuleDescriptor {
            label: Some("xent bandwidth"),
            source: wgpu::ShaderSource::Wgsl(include_str!("../../shaders/bandwidth.wgsl").into()),
        };
        let checks = wgpu::ShaderRuntimeChecks { force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() };
        #[expect(unsafe_code, reason = "the check that bounds loops costs more than these loops do")]
        // SAFETY: each loop of the shader counts up to the words of a buffer, under 2^28 of them, by a step of at least 1 and
        // under 2^27: it ends, and its counter does not wrap. All other checks stay on.
        let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("xent bandwidth"),
            bind_group_layouts: &[Some(layout)],
            immediate_size: 0,
        });
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some("xent bandwidth"),
            layout: Some(&layout),
            module: &module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants: &[("LANES", f64::from(lanes))],
                ..wgpu::PipelineCompilationOptions::default()
            },
            cache: None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the shader's read would not come upon in noise.
    const SIGN: [u32; 4] = [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a];
    const WORD: u64 = 16;

    /// The destination's words after an entry's pass over source words in grids of so many workgroups.
    fn after(device: &Device, entry: &str, lanes: u32, workgroups: u32, words: &[[u32; 4]]) -> Vec<[u32; 4]> {
        let source = device.upload("source", bytemuck::cast_slice(words)).expect("there is memory");
        let poison = vec![[u32::MAX; 4]; words.len().max(lanes as usize)];
        let destination = device.upload("destination", bytemuck::cast_slice(&poison)).expect("there is memory");
        let (layout, group) = bound(device, &source, &destination, WORD * words.len() as u64).expect("they can be bound");
        let pipeline = pipeline(device, &layout, entry, lanes).expect("the shader compiles");
        let form = Form { pipeline, lanes, workgroups, times: 1 };
        let pass = |encoder: &mut wgpu::CommandEncoder| {
            form.encode(&group, &mut encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()));
        };
        device.run(pass).expect("the device is there");
        let mut found = Vec::new();
        let take = |_, bytes: &[u8]| found.extend(bytemuck::pod_collect_to_vec::<u8, [u32; 4]>(bytes));
        device.read(&destination, WORD * words.len() as u64, take).expect("the device is there");
        found
    }

    /// Every word in its turn is the one that a lane finds, if it reads this and no other twice.
    #[test]
    fn every_word_is_read_once_and_copied() {
        let device = Device::open(0).expect("these tests need an adapter");
        for lanes in LANES {
            let block = 4 * lanes as usize;
            for (workgroups, count) in [(1, block), (1, 2 * block + 1), (3, 7 * block - 1), (3, 2 * lanes as usize + 5)] {
                let context = format!("{count} words by {workgroups} workgroups of {lanes} lanes");
                let noise: Vec<[u32; 4]> = (0..count as u32).map(|i| [i, !i, i << 7, i.wrapping_mul(0x9e37_79b9)]).collect();
                assert_eq!(after(&device, "copy_all", lanes, workgroups, &noise), noise, "{context}");
                // Each border of a block, and of a lane's words in it.
                for place in (0..count).filter(|place| (place + 1) % lanes as usize <= 1 || place + 1 == count) {
                    let mut words = vec![[0; 4]; count];
                    words[place] = SIGN;
                    let found = after(&device, "read_all", lanes, workgroups, &words);
                    let written: Vec<_> = found.iter().filter(|word| **word != [u32::MAX; 4]).collect();
                    assert_eq!(written, [&SIGN], "{context}: word {place}");
                }
            }
        }
    }
}
