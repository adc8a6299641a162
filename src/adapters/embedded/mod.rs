//! The embedded backend: one `SQLite` file per service, caches in the process. Nothing to install.

pub mod cache;
pub mod hints;
pub mod limiter;
