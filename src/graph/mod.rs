//! Who follows whom, at real size: made from a seed, or read from a file.
//!
//! Start with [`Shape`] (what a graph is like, with the published figures) and [`generate`] (how it is
//! made). [`Graph`] has each edge in both directions, in rows; [`edges`] reads and writes lists of
//! edges; [`stats`] says what came of it. All of it is pure, but for the reader and writer it is given.

pub mod edges;
pub mod stats;

mod alias;
mod generate;
mod random;
mod rows;
mod shape;

pub use generate::generate;
pub use random::Random;
pub use rows::{Graph, Rows};
pub use shape::{Invalid, PRESETS, Shape};
