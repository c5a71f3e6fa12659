//! The CPU backend: the hooks of each loss over SIMD lanes, rows over threads.

mod isa;
pub(crate) mod math;
mod rank;
mod rows;
mod targets;
mod terms;

pub(crate) use isa::Isa;
pub(crate) use rows::{evaluate, explain};
