//! The adapters of real servers, held to the contract suites and to faults, each server in one
//! container for the whole run.
//!
//! `cargo test --test backends -- NAME` runs the scenarios whose name contains NAME. A backend is a
//! file beside this one with its scenarios; [`support::run`] starts its server if one of them is
//! wanted, and [`support::server`] says which image that is. Needs Docker: `scripts/docker-start`.

#![allow(unreachable_pub, missing_docs, reason = "nothing here is used from elsewhere")]
#![allow(clippy::unwrap_used, reason = "what goes wrong here fails the scenario")]
#![allow(clippy::print_stdout, reason = "the report is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "the servers are in the real world")]

mod postgres;
mod support;

use std::process::ExitCode;

use support::run::Run;

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let clean = runtime.block_on(async {
        tokio::select! {
            biased;
            // The containers are dropped on the way out, as after any other end.
            () = told_to_stop() => {
                println!("backends: stopped");
                false
            }
            clean = everything() => clean,
        }
    });
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn everything() -> bool {
    let mut run = Run::of_arguments();
    run.backend(postgres::SCENARIOS).await;
    run.report()
}

async fn told_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).unwrap();
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
