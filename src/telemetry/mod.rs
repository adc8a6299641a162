//! Logs and metrics. A registry is handed down, never global, so that nothing a service does
//! depends on who else runs in the process.

pub mod logs;
pub mod metrics;
pub mod process;

pub use metrics::Metrics;
