//! What fills the ports, one folder per backend, and decorators that any backend may wear.

#![allow(clippy::disallowed_methods, reason = "files and connections live on real time")]
#![allow(clippy::disallowed_types, reason = "maps here have fixed hashers")]

pub(crate) mod aws;
pub mod cassandra;
pub mod circuit;
mod clock_map;
pub mod embedded;
pub mod endpoint;
pub mod near;
pub mod postgres;
pub mod proof;
pub mod redis;
pub mod rpc;
pub mod s3;
pub mod sns_sqs;
mod sql;
