//! Open-loop load that proves correctness: a pure HTTP client of the system.
//!
//! [`profile`] says what is run, [`population`] who acts: [`schedule`] makes of both what is due when
//! ([`rates`], [`mix`]), the same for ever for a seed. [`worker`] hands it to the connections as it
//! becomes due and never waits for an answer; [`act`] does one request, and writes into the [`ledger`] what
//! was asked and answered. [`live`] judges pages as they come, [`probe`] follows posts to their readers,
//! [`audit`] reads everything once nothing is on its way. [`stats`] adds up, [`verdict`] makes the
//! [`report`]; [`run`] is all of it, from the first call to the last.

#![allow(clippy::disallowed_methods, reason = "a driver measures the real world")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

pub mod act;
pub mod admin;
pub mod alarm;
pub mod api;
pub mod audit;
pub mod connection;
pub mod host;
pub mod ledger;
pub mod live;
#[cfg(test)]
mod live_tests;
pub mod mix;
pub mod population;
pub mod probe;
pub mod profile;
pub mod rates;
pub mod report;
pub mod restore;
pub mod run;
pub mod schedule;
pub mod seen;
pub mod slo;
pub mod stats;
pub mod verdict;
pub mod violation;
pub mod worker;
