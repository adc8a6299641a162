//! What fills the ports, one folder per backend, and decorators that any backend may wear.

mod clock_map;
pub mod embedded;
pub mod near;
pub mod rpc;
