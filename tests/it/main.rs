//! Scenarios over HTTP and on the command line, against the real program.
//!
//! Start with `support`: a [`support::TestApp`] is a running stack with a data folder of its own,
//! and an [`support::Actor`] is somebody who uses it.

#![allow(unreachable_pub, missing_docs, reason = "nothing here is used from elsewhere")]
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test that fails says why")]
#![allow(clippy::print_stdout, reason = "what starts servers reports it")]
#![allow(clippy::disallowed_methods, reason = "scenarios run in the real world")]

mod auth;
mod commands;
mod fanout;
mod graph;
mod input;
mod inside;
mod lifecycle;
mod limits;
mod load;
mod media;
mod no_docker;
mod page;
mod processes;
mod reading;
mod seed;
mod sessions;
mod simulation;
mod strategies;
mod support;
mod surface;
mod verbs;
