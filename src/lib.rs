//! chirp: a Twitter-like feed system in one binary.
//!
//! The rooms, from the outside inwards; imports run only downwards in this list, and
//! `tests/architecture.rs` holds them to it.
//!
//! | room | what lives there |
//! |---|---|
//! | [`cli`] | one file per verb; the only room that prints |
//! | [`load`] | open-loop load of a running system, and whether all was right |
//! | [`stack`], [`sim`] | composition: a real stack, a simulated one |
//! | [`services`], [`adapters`] | what the roles do; what fills their ports |
//! | [`ports`], [`wire`] | what services need of the world; what leaves the process |
//! | [`domain`], [`graph`] | the rules; who follows whom, at real size: both pure |
//! | [`rt`], [`config`], [`telemetry`] | runtime facade, configuration, logs and metrics |

#![cfg_attr(
    test,
    allow(
        clippy::disallowed_methods,
        reason = "tests make the runtimes that the program must use"
    )
)]

pub mod adapters;
pub mod cli;
pub mod config;
pub mod domain;
pub mod graph;
pub mod load;
pub mod ports;
pub mod rt;
pub mod services;
pub mod sim;
pub mod stack;
pub mod telemetry;
pub mod wire;
