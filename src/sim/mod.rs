//! Simulation: the real services on a virtual clock over fakes of every port.
//!
//! Everything follows from a [`seed`]; everything that happens goes into a [`trace`], whose hash two
//! runs of one seed share. Start with [`world`].

pub mod seed;
pub mod trace;
pub mod world;
