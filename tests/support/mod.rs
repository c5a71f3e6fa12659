//! What the integration tests measure against: a float64 oracle that shares no code with the library, the tolerances by
//! name, and the golden cases of other libraries.

#![allow(dead_code, unreachable_pub, reason = "every test binary compiles this module for itself and uses a part of it")]

pub mod golden;
pub mod oracle;
pub mod tolerance;
