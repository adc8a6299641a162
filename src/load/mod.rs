//! Open-loop load that proves correctness: a pure HTTP client of the system.

pub mod report;
