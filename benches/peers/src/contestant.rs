//! What is asked of each library.

use crate::data::Data;

/// What is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pass {
    /// The mean loss.
    Forward,
    /// The mean loss, and its gradient by the logits.
    Both,
}

impl Pass {
    pub const ALL: [Self; 2] = [Self::Forward, Self::Both];

    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Both => "both",
        }
    }

    /// Bytes that have to move: a logit once, twice with a gradient, and 4 for a label.
    pub fn bytes(self, data: &Data) -> usize {
        let times = match self {
            Self::Forward => 1,
            Self::Both => 2,
        };
        times * data.bytes() + 4 * data.rows
    }
}

/// What goes wrong in another library: its own message.
pub type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// A library on a device.
pub trait Contestant {
    /// Its name in Cargo.lock.
    fn name(&self) -> &'static str;

    /// What it runs on.
    fn device(&self) -> &str;

    /// Brings the data to where the library wants it. What this does is not timed.
    fn load<'a>(&'a self, data: &'a Data, pass: Pass) -> Result<Box<dyn Loaded + 'a>>;
}

/// Data in place.
pub trait Loaded {
    /// Computes once, until results are there to be used: what is timed.
    fn run(&mut self) -> Result<()>;

    /// The mean loss that was computed. The next run may have to prepare things anew.
    fn mean(&mut self) -> Result<f64>;

    /// The gradient, in the logits' order.
    fn gradient(&mut self) -> Result<Vec<f32>>;
}
