//! The GPU backend on wgpu.

mod device;
mod kernel;
mod stream;

pub use device::{AdapterSummary, adapters, adapters_blocking};
pub(crate) use device::{Choice, Context, open};
#[cfg(test)]
pub(crate) use kernel::{Key, source};
pub(crate) use stream::Session;
