//! Simulation: the real services on a virtual clock over fakes of every port.
//!
//! Everything follows from a [`seed`]; everything that happens goes into a [`trace`], whose hash two
//! runs of one seed share. Start with [`faults`], then [`world`].

#![allow(
    clippy::disallowed_methods,
    reason = "the simulator makes the runtime that others must use"
)]

pub mod faults;
pub mod net;
pub mod runtime;
pub mod seed;
pub mod trace;
pub mod world;
