//! Redis: one server, and a cluster.

mod contract;
mod faults;
mod hints;
mod moves;
mod ring;
mod server;
