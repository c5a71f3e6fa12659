//! The CPU backend: the hooks of each loss over SIMD lanes, rows over threads.

mod costs;
mod evaluate;
mod explain;
mod folding;
mod gradients;
pub(crate) mod isa;
pub(crate) mod lanes;
mod losses;
pub(crate) mod math;
mod parts;
mod pending;
mod rank;
mod rows;
pub(crate) mod source;
mod steps;
mod targets;
mod terms;
mod tile;

pub(crate) use evaluate::{Memory, Task, evaluate};
pub(crate) use explain::explain;
