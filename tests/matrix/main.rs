//! The fault matrix: what a stack over real servers does while one of them, or one of its own
//! processes, is stopped, frozen, cut off, filled or emptied, under constant writes and reads.
//!
//! `cargo test --test matrix -- all` runs every row of [`table`]; other words run the rows that have
//! one of them in their name (`redis`, `frozen`); without any nothing is run, and the rows are listed.
//! What each row is expected to do stands in the table before the run. After each, everything that
//! was acknowledged is audited ([`crate::judge`]): nothing lost, nothing doubled, what was hidden
//! stays hidden. Before the first the audit itself is shown faults that were planted ([`plant`]).
//!
//! Needs Docker: `scripts/docker-start`.

#![allow(unreachable_pub, missing_docs, reason = "nothing here is used from elsewhere")]
#![allow(clippy::unwrap_used, reason = "what cannot go wrong here ends the run if it does")]
#![allow(clippy::print_stdout, reason = "the report is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "the servers are in the real world")]

mod act;
#[path = "../judge/mod.rs"]
mod judge;
mod load;
mod plant;
mod report;
mod run;
mod seed;
mod stack;
#[path = "../backends/support/mod.rs"]
mod support;
mod table;

use std::{process::ExitCode, time::Duration};

use support::server;

/// How long what still runs may take to end once a run was told to stop.
const STOP_MAX: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let rows = table::wanted(&words);
    if rows.is_empty() {
        println!("fault matrix: name rows, words of their names, or `all`:");
        for row in table::ROWS {
            println!("    {}", row.name());
        }
        // Words that name nothing are a mistake.
        return if words.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clean = runtime.block_on(async {
        tokio::select! {
            biased;
            () = told_to_stop() => {
                println!("fault matrix: stopped");
                false
            }
            clean = run::run(&rows) => clean,
        }
    });
    runtime.shutdown_timeout(STOP_MAX);
    server::remove_all();
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
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
