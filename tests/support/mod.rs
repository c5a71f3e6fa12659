//! What the integration tests measure against: a float64 oracle that shares no code with the library, the tolerances by
//! name, the golden cases of other libraries, rows of every kind, and the backends under test, which a browser cannot wait for.

#![allow(dead_code, unreachable_pub, reason = "every test binary compiles this module for itself and uses a part of it")]

pub mod agreement;
pub mod answers;
pub mod arrays;
#[cfg(not(target_family = "wasm"))]
pub mod backends;
#[cfg(not(target_family = "wasm"))]
pub mod device;
pub mod golden;
pub mod kinds;
pub mod losses;
pub mod moderate;
pub mod oracle;
pub mod tolerance;
