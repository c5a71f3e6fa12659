//! Adapters: which there are, which one is taken, and the device opened on it.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::gpu::pipelines::Pipelines;
use crate::plan::DeviceLimits;

/// An adapter of this machine.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AdapterSummary {
    /// What the driver calls the device; of several of the same name each has its number behind it, from the second on.
    pub name: String,
    /// `vulkan`, `metal`, `dx12` or `webgpu`.
    pub api: String,
    /// The driver, with its version.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `software`, or `other` where the driver does not say (a browser never does).
    pub kind: &'static str,
    /// Bytes of the largest storage binding.
    pub max_binding: u64,
    /// Bytes of the largest buffer.
    pub max_buffer: u64,
    /// The smallest and the largest subgroup; 0 where there are none.
    pub subgroup_sizes: (u32, u32),
    /// What the adapter has of the features that this crate makes use of: subgroups in kernels, memory that host and device share, and
    /// timestamps to measure by.
    pub features: Vec<&'static str>,
    /// Whether [`BackendChoice::Auto`](crate::BackendChoice::Auto) takes this one.
    pub auto: bool,
}

/// What is asked of an adapter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// The adapter's name or part of it, in any case.
    pub name: Option<String>,
    /// Software adapters are welcome too.
    pub software: bool,
    /// The adapter with this place in the drivers' order, whatever else is said.
    pub place: Option<usize>,
}

/// A device with its queue, its pipelines and what became of it.
pub(crate) struct Context {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub limits: DeviceLimits,
    pub name: String,
    pub driver: String,
    pub pipelines: Arc<Pipelines>,
    /// Why the device is gone, or what it said outside of any error scope.
    failure: Arc<Mutex<Option<String>>>,
}

impl Context {
    /// What went wrong with the device, if anything did.
    pub(crate) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Vulkan, Metal, DX12 or WebGPU, as the target has them.
fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        // Validation layers print; our tests validate the shaders, and error scopes the calls.
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

/// The adapters of an instance. Mesa's software driver leaves a handler behind that runs when the process exits, and
/// crashes if the driver is unloaded by then: so where there is such a driver, one instance keeps it in memory.
async fn enumerate() -> Vec<wgpu::Adapter> {
    let instance = instance();
    let all = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    #[cfg(target_os = "linux")]
    if all.iter().any(|adapter| adapter.get_info().device_type == wgpu::DeviceType::Cpu) {
        static KEPT: std::sync::OnceLock<wgpu::Instance> = std::sync::OnceLock::new();
        KEPT.get_or_init(|| instance);
    }
    all
}

/// Adapters with names of their own: of equal ones the second is called `NAME (2)`.
fn distinct(infos: impl Iterator<Item = wgpu::AdapterInfo>) -> Vec<wgpu::AdapterInfo> {
    let mut seen = HashSet::new();
    infos
        .map(|mut info| {
            let (name, mut number) = (info.name.clone(), 1);
            while !seen.insert(info.name.clone()) {
                number += 1;
                info.name = format!("{name} ({number})");
            }
            info
        })
        .collect()
}

/// Which of these names mean one that is called `text`, in any case: the whole name, if there is such a one, else part of it.
pub(crate) fn called<'a>(names: impl Iterator<Item = &'a str> + Clone, text: &str) -> Vec<bool> {
    let text = text.to_lowercase();
    let whole: Vec<bool> = names.clone().map(|name| name.to_lowercase() == text).collect();
    if whole.contains(&true) { whole } else { names.map(|name| name.to_lowercase().contains(&text)).collect() }
}

/// How much an adapter is preferred, lowest first.
fn preference(kind: wgpu::DeviceType) -> u8 {
    match kind {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    }
}

/// The adapter that `choice` means, by index.
fn choose(adapters: &[wgpu::AdapterInfo], choice: &Choice) -> Result<usize> {
    let names = adapters.iter().map(|info| info.name.as_str());
    let named = choice.name.as_ref().map(|name| called(names, name));
    let mut fitting: Vec<usize> = (0..adapters.len())
        .filter(|&i| {
            named.as_ref().is_none_or(|named| named[i]) && (choice.software || adapters[i].device_type != wgpu::DeviceType::Cpu)
        })
        .collect();
    // Stable: among equals the driver's own order decides.
    fitting.sort_by_key(|&i| preference(adapters[i].device_type));
    fitting.first().copied().ok_or_else(|| {
        let names: Vec<_> = adapters.iter().map(|info| info.name.as_str()).collect();
        Error::NoAdapter(match (names.as_slice(), &choice.name) {
            ([], _) => {
                "no driver offers one (for Vulkan without a GPU, Debian's mesa-vulkan-drivers has a software adapter)".into()
            }
            (_, Some(name)) => format!("none is called {name:?}; there are: {}", names.join(", ")),
            (_, None) => format!("only software adapters are there: {}", names.join(", ")),
        })
    })
}

/// The adapters of this machine, in the order in which drivers list them.
pub async fn adapters() -> Vec<AdapterSummary> {
    let all = enumerate().await;
    let infos = distinct(all.iter().map(wgpu::Adapter::get_info));
    let auto = choose(&infos, &Choice::default()).ok();
    all.iter().zip(infos).enumerate().map(|(i, (adapter, info))| summary(adapter, info, auto == Some(i))).collect()
}

/// As [`adapters`], waiting for the drivers.
#[cfg(not(target_family = "wasm"))]
pub fn adapters_blocking() -> Vec<AdapterSummary> {
    pollster::block_on(adapters())
}

fn summary(adapter: &wgpu::Adapter, info: wgpu::AdapterInfo, auto: bool) -> AdapterSummary {
    let (limits, features) = (adapter.limits(), adapter.features());
    let helpful = [
        (wgpu::Features::SUBGROUP, "subgroups"),
        (wgpu::Features::TIMESTAMP_QUERY, "timestamp-query"),
        (wgpu::Features::MAPPABLE_PRIMARY_BUFFERS, "mappable-primary-buffers"),
    ];
    AdapterSummary {
        api: info.backend.to_string(),
        driver: driver(&info),
        kind: match info.device_type {
            wgpu::DeviceType::DiscreteGpu => "discrete",
            wgpu::DeviceType::IntegratedGpu => "integrated",
            wgpu::DeviceType::VirtualGpu => "virtual",
            wgpu::DeviceType::Cpu => "software",
            wgpu::DeviceType::Other => "other",
        },
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        subgroup_sizes: if features.contains(wgpu::Features::SUBGROUP) {
            (info.subgroup_min_size, info.subgroup_max_size)
        } else {
            (0, 0)
        },
        features: helpful.into_iter().filter(|(feature, _)| features.contains(*feature)).map(|(_, name)| name).collect(),
        auto,
        name: info.name,
    }
}

fn driver(info: &wgpu::AdapterInfo) -> String {
    [info.driver.as_str(), info.driver_info.as_str()].iter().filter(|s| !s.is_empty()).copied().collect::<Vec<_>>().join(" ")
}

/// What a device is asked for where its adapter has it: lanes that shuffle, and times of its own.
const HELPFUL: wgpu::Features = wgpu::Features::SUBGROUP.union(wgpu::Features::TIMESTAMP_QUERY);

/// Whether kernels may work on what the host has mapped: the device can, and its memory is the host's.
pub(super) fn shares_memory(device: &wgpu::Device) -> bool {
    let mappable = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS;
    helpful_on(device.adapter_info().device_type).contains(mappable) && device.features().contains(mappable)
}

/// What a device is asked for besides where its memory is the host's. Elsewhere kernels would reach over a bus for what they
/// read.
fn helpful_on(kind: wgpu::DeviceType) -> wgpu::Features {
    match kind {
        wgpu::DeviceType::IntegratedGpu | wgpu::DeviceType::Cpu => HELPFUL | wgpu::Features::MAPPABLE_PRIMARY_BUFFERS,
        _ => HELPFUL,
    }
}

/// Vulkan and DX12 bind at most 2^31 − 1 bytes, whatever the limits say.
const MAX_BINDING: u64 = (1 << 31) - 4;

/// Opens a device on the adapter that `choice` means.
pub(crate) async fn open(choice: &Choice) -> Result<Context> {
    let mut all = enumerate().await;
    let infos = distinct(all.iter().map(wgpu::Adapter::get_info));
    let index = choice.place.filter(|place| *place < infos.len()).map_or_else(|| choose(&infos, choice), Ok)?;
    let (adapter, info) = (all.swap_remove(index), &infos[index]);
    let available = adapter.limits();
    // WebGPU's defaults suffice; larger buffers, where the adapter has them, mean fewer windows. What it has less of, textures above
    // all, it may not be asked for.
    let required_limits = wgpu::Limits {
        max_storage_buffer_binding_size: available.max_storage_buffer_binding_size,
        max_buffer_size: available.max_buffer_size,
        ..wgpu::Limits::default().or_worse_values_from(&available)
    };
    let (device, queue) = adapter
        .request_device(&wgpu::DeviceDescriptor {
            label: Some("xent"),
            required_features: adapter.features() & helpful_on(info.device_type),
            required_limits,
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..wgpu::DeviceDescriptor::default()
        })
        .await
        .map_err(|error| Error::Refused { adapter: info.name.clone(), reason: one_line(&error.to_string()) })?;

    let context = Context { name: info.name.clone(), ..Context::of(device, queue) };
    let note = |failure: &Arc<Mutex<Option<String>>>, text: String| {
        failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(text);
    };
    context.device.set_device_lost_callback({
        let failure = Arc::clone(&context.failure);
        move |reason, message| note(&failure, format!("the device was lost ({reason:?}): {}", one_line(&message)))
    });
    // Without a handler an error outside of every scope would panic.
    context.device.on_uncaptured_error({
        let failure = Arc::clone(&context.failure);
        Arc::new(move |error: wgpu::Error| note(&failure, one_line(&error.to_string())))
    });
    Ok(context)
}

impl DeviceLimits {
    /// Those of a device that others have opened.
    pub(crate) fn of(device: &wgpu::Device) -> Self {
        let (info, limits) = (device.adapter_info(), device.limits());
        let shuffles = device.features().contains(wgpu::Features::SUBGROUP);
        Self {
            adapter: info.name,
            binding: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size),
            software: info.device_type == wgpu::DeviceType::Cpu,
            subgroups: if shuffles { (info.subgroup_min_size, info.subgroup_max_size) } else { (0, 0) },
        }
    }
}

impl Context {
    /// A device that somebody else has opened, and listens to: what goes wrong outside of our own scopes is theirs to hear.
    pub(crate) fn of(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let (info, limits) = (device.adapter_info(), DeviceLimits::of(&device));
        let limits = DeviceLimits { binding: limits.binding.min(MAX_BINDING), ..limits };
        Self {
            name: info.name.clone(),
            driver: driver(&info),
            limits,
            pipelines: Arc::default(),
            device,
            queue,
            failure: Arc::default(),
        }
    }
}

/// Drivers' messages run over many lines; ours are one.
pub(super) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, kind: wgpu::DeviceType) -> wgpu::AdapterInfo {
        let mut info = wgpu::AdapterInfo::new(kind, wgpu::Backend::Vulkan);
        info.name = name.into();
        info
    }

    fn chosen<'a>(infos: &'a [wgpu::AdapterInfo], name: Option<&str>, software: bool) -> Option<&'a str> {
        let choice = Choice { name: name.map(Into::into), software, place: None };
        choose(infos, &choice).ok().map(|i| infos[i].name.as_str())
    }

    #[test]
    fn real_gpus_come_first_and_software_only_when_welcome() {
        use wgpu::DeviceType::{Cpu, DiscreteGpu, IntegratedGpu};
        let all =
            [info("llvmpipe", Cpu), info("Iris", IntegratedGpu), info("RTX", DiscreteGpu), info("Other RTX", DiscreteGpu)];
        assert_eq!(chosen(&all, None, false), Some("RTX"));
        assert_eq!(chosen(&all, None, true), Some("RTX"));
        assert_eq!(chosen(&all, Some("iris"), false), Some("Iris"));
        assert_eq!(chosen(&all, Some("LLVM"), true), Some("llvmpipe"));
        assert_eq!(chosen(&all, Some("LLVM"), false), None);
        assert_eq!(chosen(&all[..1], None, false), None);
        assert_eq!(chosen(&all[..1], None, true), Some("llvmpipe"));
        assert_eq!(chosen(&[], None, true), None);
    }

    #[test]
    fn equals_are_told_apart() {
        use wgpu::DeviceType::DiscreteGpu;
        let all = distinct(["H100", "RTX", "H100", "H100"].into_iter().map(|name| info(name, DiscreteGpu)));
        assert_eq!(all.iter().map(|info| info.name.as_str()).collect::<Vec<_>>(), ["H100", "RTX", "H100 (2)", "H100 (3)"]);
        assert_eq!(chosen(&all, Some("h100"), false), Some("H100"));
        assert_eq!(chosen(&all, Some("(3)"), false), Some("H100 (3)"));
        let names = all.iter().map(|info| info.name.as_str());
        assert_eq!(called(names.clone(), "h100"), [true, false, false, false], "a whole name means no other");
        assert_eq!(called(names, "100"), [true, false, true, true]);
        let taken = distinct(["A", "A (2)", "A"].into_iter().map(|name| info(name, DiscreteGpu)));
        assert_eq!(taken[2].name, "A (3)");
    }
}
