//! The backends under test, each built directly and never by the automatic choice, and what is asked of all of them.

use std::sync::{Mutex, OnceLock, PoisonError};

use xent::{Backend, BackendChoice, Evaluator, EvaluatorDescriptor, Instructions, Outputs};

#[allow(unused_imports, reason = "not every test binary draws types of labels")]
pub use super::arrays::{Arrays, LABEL_TYPES};
#[allow(unused_imports, reason = "not every test binary asks for all of this")]
pub use super::losses::{TOP_K, all_of, compare, compare_losses, everything, loss, part};
use super::oracle::Problem;

/// A backend under test.
pub struct Tested {
    /// For messages.
    pub name: &'static str,
    /// One with windows as memory allows, made once.
    pub evaluator: Evaluator,
    /// One with windows so short that most problems of a test take several.
    pub windowed: Evaluator,
}

impl Tested {
    fn new(name: &'static str, evaluator: Evaluator) -> Self {
        Self { name, windowed: evaluator.clone().with_window_rows(Some(97)), evaluator }
    }
}

/// Devices that tests share, so that few pipelines are compiled twice. More than one: a software device compiles in one thread.
const DEVICES: usize = 4;

/// The device of a thread, as few others' as can be.
struct Lease(usize);

/// How many threads have each device.
static LEASES: Mutex<[usize; DEVICES]> = Mutex::new([0; DEVICES]);

impl Lease {
    fn take() -> Self {
        let mut leases = LEASES.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (0..DEVICES).min_by_key(|&place| leases[place]).expect("there are devices");
        leases[place] += 1;
        Self(place)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        LEASES.lock().unwrap_or_else(PoisonError::into_inner)[self.0] -= 1;
    }
}

/// The place of this thread's device.
fn place() -> usize {
    thread_local!(static LEASE: Lease = Lease::take());
    LEASE.with(|lease| lease.0)
}

/// Every backend, and the CPU with each of the instruction sets that this processor has; the GPU as [`gpu`] has it.
///
/// # Panics
/// Where there is no adapter: a test that skipped the GPU would say that it works.
pub fn all() -> &'static [Tested] {
    static ALL: [OnceLock<Vec<Tested>>; DEVICES] = [const { OnceLock::new() }; DEVICES];
    ALL[place()].get_or_init(|| {
        let cpu = |set: &Instructions| {
            let (backend, instructions) = (BackendChoice::Cpu, Some(*set));
            let descriptor = EvaluatorDescriptor { backend, instructions, ..EvaluatorDescriptor::default() };
            Tested::new(set.name(), open_as(&descriptor))
        };
        let sets = Instructions::ALL.iter().filter(|instructions| instructions.is_available());
        sets.map(cpu).chain([Tested::new("GPU", gpu())]).collect()
    })
}

/// The CPU with the first instruction set, and the GPU: for what takes one backend after the other.
///
/// # Panics
/// Where there is no adapter.
pub fn cpu_and_gpu() -> [&'static Tested; 2] {
    let [cpu, .., gpu] = all() else { unreachable!("the portable instruction set and the GPU are always there") };
    assert_eq!([cpu, gpu].map(|tested| tested.evaluator.backend() == Backend::Cpu), [true, false]);
    [cpu, gpu]
}

/// The GPU: one of few devices that the tests of a process share.
///
/// # Panics
/// Where there is no adapter.
pub fn gpu() -> Evaluator {
    static GPU: [OnceLock<Evaluator>; DEVICES] = [const { OnceLock::new() }; DEVICES];
    GPU[place()].get_or_init(|| open(BackendChoice::Gpu)).clone()
}

/// An evaluator of this backend, with a device of its own.
///
/// # Panics
/// Where there is no adapter for the GPU.
pub fn open(backend: BackendChoice) -> Evaluator {
    open_as(&EvaluatorDescriptor { backend, ..EvaluatorDescriptor::default() })
}

/// An evaluator as described.
///
/// # Panics
/// Where there is no adapter for the GPU.
pub fn open_as(descriptor: &EvaluatorDescriptor) -> Evaluator {
    Evaluator::new_blocking(descriptor).unwrap_or_else(|error| {
        panic!("{error}; these tests need an adapter, and Debian's mesa-vulkan-drivers has one for any machine")
    })
}

/// Says what any backend answers wrongly, if anything.
///
/// # Errors
/// With the backend's name, the row or total, and both numbers.
pub fn verdict(problem: &Problem, arrays: &Arrays) -> Result<(), String> {
    let truth = problem.truth();
    let (loss, batch) = (loss(problem), arrays.batch());
    for tested in all() {
        // Short windows: most problems then take several, and buffers made anew for each of them are small.
        let evaluation = tested.windowed.evaluate_blocking(&loss, &batch, &all_of(problem));
        let evaluation = evaluation.map_err(|error| format!("{}: {error}", tested.name))?;
        compare(&evaluation, problem, &truth).map_err(|why| format!("{}: {why}", tested.name))?;
        if tested.evaluator.backend() == Backend::Cpu {
            // Where nothing else is wanted, rows take a way of their own.
            let alone = Outputs { losses: true, accuracy: false, ..Outputs::default() };
            let evaluation = tested.evaluator.evaluate_blocking(&loss, &batch, &alone);
            let evaluation = evaluation.map_err(|error| format!("{}, losses alone: {error}", tested.name))?;
            compare_losses(&evaluation, problem, &truth).map_err(|why| format!("{}, losses alone: {why}", tested.name))?;
        }
    }
    Ok(())
}

/// [`verdict`] that panics.
///
/// # Panics
/// When a backend is wrong, with `context` in the message.
#[track_caller]
pub fn check(problem: &Problem, context: &str) {
    if let Err(why) = verdict(problem, &Arrays::of(problem)) {
        panic!("{context}: {why}");
    }
}
