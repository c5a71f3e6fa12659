//! What ten thousand recorded calls leave behind: alone in its process, whose memory it watches.

mod support;

use support::device::Application;
use xent::gpu::{Bindings, Cache, Kernel, KernelDescriptor, KernelOutputs, StatusWords, TotalsWords};
use xent::{Gradient, Reduction, wgpu};

/// Kilobytes of the process in memory; nothing where nobody says.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse().expect("a number of kilobytes"))
}

/// How many kilobytes allocators may move on their own.
const NOISE: u64 = 4 << 10;

#[test]
fn ten_thousand_calls_leave_nothing_behind() {
    let app = Application::plain();
    let outputs = KernelOutputs {
        gradient: Some(Gradient::Of(Reduction::Mean)),
        totals: Some(Reduction::Mean),
        status: true,
        ..KernelOutputs::default()
    };
    let descriptor = KernelDescriptor { classes: 4, outputs, ..KernelDescriptor::default() };
    let kernel = Kernel::new_blocking(&app.device, &Cache::default(), &descriptor).expect("the kernel is made");
    let predictions = app.buffer(bytemuck::cast_slice(&[0.25_f32; 32]), 128);
    let targets = app.buffer(bytemuck::cast_slice(&[0, 1, 2, 3, 0, 1, 2, 3_u32]), 32);
    let gradient = app.buffer(&[], 128);
    let (totals, status) = (app.buffer(&[], size_of::<TotalsWords>() as u64), app.buffer(&[], size_of::<StatusWords>() as u64));
    let bindings = Bindings {
        gradient: Some(gradient.slice(..)),
        totals: Some(totals.slice(..)),
        status: Some(status.slice(..)),
        ..Bindings::new(predictions.slice(..), targets.slice(..))
    };
    let bound = kernel.bind(&app.device, &bindings, 8).expect("the buffers are bound");
    let held = || {
        let counters = app.device.get_internal_counters().hal;
        let memory = (counters.buffer_memory.read(), counters.texture_memory.read(), counters.memory_allocations.read());
        (memory, counters.buffers.read(), counters.bind_groups.read(), counters.compute_pipelines.read())
    };
    let calls = |count: usize| {
        for _ in 0..count / 100 {
            app.submit(|encoder| (0..100).for_each(|_| bound.encode(encoder)));
            app.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device answers");
        }
    };
    calls(2000);
    let (before, memory) = (held(), resident());
    assert!(before.1 > 0, "the counters count");
    calls(10_000);
    assert_eq!(held(), before, "memory, buffers, bind groups, pipelines");
    if let (Some(before), Some(after)) = (memory, resident()) {
        assert!(after < before + NOISE, "the host grew from {before} to {after} kB");
    }
    // On Linux somebody says.
    assert_eq!(memory.is_some(), cfg!(target_os = "linux"));
    let found: TotalsWords = bytemuck::pod_read_unaligned(&app.read(&totals));
    assert!((found.loss - 4.0_f32.ln()).abs() < 1e-6 && found.rows == 8, "{found:?}");
}
