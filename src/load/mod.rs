//! Open-loop load that proves correctness: a pure HTTP client of the system.
//!
//! [`profile`] says what is run, [`population`] who acts: [`schedule`] makes of both what is due when
//! ([`rates`], [`mix`]), the same for ever for a seed. [`worker`] hands it to the connections as it
//! becomes due and never waits for an answer; [`act`] does one request, and writes into the [`ledger`] what
//! was asked and answered. [`live`] judges pages as they come, [`probe`] follows posts to their readers,
//! [`audit`] reads everything once nothing is on its way. [`stats`] adds up, [`verdict`] makes the
//! [`report`]; [`run`] is all of it, from the first call to the last. [`find_max`] makes many runs, as
//! [`search`] asks for rates; [`runs`] are several of one profile, held against a [`baseline`];
//! [`calibrate`] tells what each operation costs, [`chaos`] breaks things meanwhile, [`usage`] is what the parts of the target use.
//! [`strategies`] are runs against data sets that differ in how tweets fan out.

#![allow(clippy::disallowed_methods, reason = "a driver measures the real world")]
#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

pub mod act;
pub mod admin;
pub mod alarm;
pub mod api;
pub mod audit;
pub mod baseline;
pub mod calibrate;
pub mod chaos;
pub mod connection;
pub mod find_max;
pub mod host;
pub mod ledger;
pub mod live;
#[cfg(test)]
mod live_tests;
pub mod mix;
pub mod population;
pub mod prices;
pub mod probe;
pub mod profile;
pub mod rates;
pub mod report;
pub mod restore;
pub mod run;
pub mod runs;
pub mod schedule;
pub mod search;
pub mod seen;
pub mod slo;
pub mod stats;
pub mod strategies;
pub mod usage;
pub mod verdict;
pub mod violation;
pub mod worker;
