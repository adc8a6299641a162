//! What the roles do. Every service has the same shape: `mod` (what it needs, its routers and
//! background tasks), `routes` (HTTP in and out), `logic` (decisions), `worker` (background steps),
//! `error` (one enum with its answers).
//!
//! Services see ports, `rt`, `wire`, `domain`, `telemetry` and their configuration: never an
//! adapter, a client library or each other. The simulator runs this code as it is.

pub mod gateway;
pub mod kit;
pub mod timeline;
pub mod tweet;
pub mod user;
