//! Deterministic fault simulation: the real services, a virtual clock, everything breaks, everything
//! is checked.
//!
//! One [`run`](run::run) is one seed: users sign up and follow each other in a whole world, then come
//! epochs. In each, users post, delete, follow, unfollow, block and read while stores, bus, caches,
//! network, clocks and nodes fail; then all is healed, queues drain, and every user's timelines are
//! compared with what the history of the clients says. Nothing but the seed decides what happens.
//!
//! | file | what lives there |
//! |---|---|
//! | [`knobs`] | how a seed is set up |
//! | [`cluster`], [`nemesis`] | the deployment, and what is done to it |
//! | [`client`], [`workload`] | users |
//! | [`history`], [`expect`] | what they know, and what follows from it |
//! | [`check`], [`audit`], [`violation`] | rules for every page, for the end of an epoch, and their names |
//! | [`bounds`] | how many answers must be whole while everything fails |
//! | [`mutants`] | bugs built in on purpose |
//! | [`campaign`] | many seeds |

pub mod audit;
pub mod bounds;
pub mod campaign;
pub mod check;
pub mod client;
pub mod cluster;
pub mod expect;
pub mod history;
pub mod knobs;
pub mod mutants;
pub mod nemesis;
pub mod run;
pub mod violation;
pub mod workload;

#[cfg(test)]
mod tests;
