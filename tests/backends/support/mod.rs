//! What every backend's scenarios are written with.

pub mod proxy;
pub mod run;
pub mod server;
