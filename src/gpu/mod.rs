//! The GPU backend on wgpu.

mod completion;
mod device;
mod kernel;
mod pipelines;
mod slot;
mod stream;
mod stretches;
#[cfg(test)]
mod strided;

#[cfg(all(feature = "threads", not(target_family = "wasm")))]
pub(crate) use completion::Scopes;
pub use device::{AdapterSummary, adapters, adapters_blocking};
pub(crate) use device::{Choice, Context, open};
#[cfg(test)]
pub(crate) use kernel::LABEL_BITS;
#[cfg(all(feature = "threads", not(target_family = "wasm")))]
pub(crate) use kernel::{Bound, Kernel, KernelDescriptor, Rows};
#[cfg(test)]
pub(crate) use pipelines::{Key, source};
pub(crate) use stream::{Session, SessionDescriptor};
