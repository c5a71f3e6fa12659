//! The GPU: the backend for host data, and kernels for the buffers of other programs.
//!
#![doc = include_str!("../../docs/embedding.md")]

mod batch;
mod completion;
mod device;
mod embed;
mod kernel;
mod pipelines;
#[cfg(not(target_family = "wasm"))]
mod pruned;
mod resident;
mod session;
mod slot;
mod stretches;
#[cfg(test)]
mod strided;

pub use crate::layout::Step;
pub use batch::{StatusWords, TotalsWords};
#[cfg(all(feature = "threads", not(target_family = "wasm")))]
pub(crate) use completion::Scopes;
#[cfg(all(feature = "threads", not(target_family = "wasm")))]
pub(crate) use completion::{OUT_OF_MEMORY, poll};
#[cfg(not(target_family = "wasm"))]
pub use device::adapters_blocking;
#[cfg(all(feature = "threads", not(target_family = "wasm")))]
pub(crate) use device::called;
pub use device::{AdapterSummary, adapters};
pub(crate) use device::{Choice, Context, open};
pub use embed::{Bindings, Bound, Cache, Kernel, KernelDescriptor, KernelOutputs, TargetKind, optional_features};
#[cfg(test)]
pub(crate) use kernel::LABEL_BITS;
#[cfg(all(feature = "threads", not(target_family = "wasm")))]
pub(crate) use kernel::{Bound as BoundRows, Kernel as RowKernel, KernelDescriptor as RowKernelDescriptor, Rows, Sources};
#[cfg(test)]
pub(crate) use pipelines::{Key, Recipe, source};
#[cfg(all(test, not(target_family = "wasm")))]
pub(crate) use pruned::pruned;
pub use resident::Resident;
pub(crate) use resident::evaluate as evaluate_resident;
pub(crate) use session::{Session, SessionDescriptor};
