//! Simulation: the real services on a virtual clock over fakes of every port.

pub mod world;
