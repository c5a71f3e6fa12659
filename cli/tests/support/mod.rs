//! What the tests of the program share: folders of files in any type and order, runs of the program among them, its
//! results read back, and the library's own oracle and tolerances to hold them against.

#![allow(dead_code, unreachable_pub, reason = "every test binary compiles this module for itself and uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod arrays;
pub mod digits;
#[path = "../../../tests/support/oracle.rs"]
pub mod oracle;
pub mod program;
pub mod refusals;
#[path = "../../../tests/support/tolerance.rs"]
pub mod tolerance;

/// The backends that every machine with a driver, if only a software one, has.
pub const BACKENDS: [&str; 2] = ["cpu", "gpu"];

/// Numbers that look random and are the same on every run.
pub struct XorShift(pub u64);

impl XorShift {
    /// The next 64 bits (Marsaglia 2003, "Xorshift RNGs").
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A number in [0, 1).
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
