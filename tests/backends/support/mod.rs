//! What every backend's scenarios are written with; `tests/matrix` and `tests/it` use it
//! too.

#![allow(dead_code, unused_imports, unused_macros, reason = "each of the programs uses a part")]

pub mod proxy;
pub mod run;
pub mod server;
pub mod servers;
pub mod tls;
