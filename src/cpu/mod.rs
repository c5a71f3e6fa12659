//! The CPU backend: the hooks of each loss over SIMD lanes, rows over threads.

mod evaluate;
mod explain;
mod gradients;
pub(crate) mod isa;
pub(crate) mod lanes;
pub(crate) mod math;
mod rank;
mod rows;
pub(crate) mod source;
mod targets;
mod terms;

pub(crate) use evaluate::{Task, evaluate};
pub(crate) use explain::explain;
