//! The GPU backend on wgpu.

mod device;
mod kernel;
mod stream;

pub use device::{AdapterSummary, adapters};
pub(crate) use device::{Choice, Context, open};
pub(crate) use stream::Session;
