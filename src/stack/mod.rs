//! Composition: builds roles from configuration and runs a whole stack.
//!
//! Start with [`up`] (every role in one process) or [`serve`] (single roles). Both are made of the
//! same parts: [`data_dir`] (locks, token, run files), [`listen`] (listeners), `backends` (stores
//! and caches), `roles` (services out of both), `node` (loops, readiness, a clean end) and
//! [`admin`]; of `serve` also `home` (the folder, or none) and `find` (where the others are).

#![allow(clippy::disallowed_methods, reason = "here the real world is put together")]

pub mod admin;
mod backends;
pub mod client;
pub mod containers;
pub mod crash_marks;
pub mod data_dir;
pub mod error;
mod find;
mod home;
pub mod kind;
pub mod listen;
pub mod migrate;
mod node;
pub mod offline;
mod pictures;
pub mod processes;
pub mod purge;
mod roles;
pub mod seed;
pub mod serve;
pub mod signals;
pub mod strategy;
pub mod token;
pub mod up;
pub mod waits;

pub use data_dir::DataDir;
pub use error::StackError;
