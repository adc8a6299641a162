//! What fills the ports, one folder per backend, and decorators that any backend may wear.

pub mod embedded;
pub mod near;
pub mod rpc;
