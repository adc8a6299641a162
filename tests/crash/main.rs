//! Kill -9 under load, again and again: nothing acknowledged is lost, nothing is there twice.
//!
//! `CHIRP_TEST_KILLS` says how often (default 25). The loop of [`run`]: load `chirp up` with more
//! than fifty concurrent writers, kill it where the histogram has a gap ([`server`]), start it
//! again, settle what the clients do not know ([`judge::settle`]), and hold every answer that anybody was
//! given against what can be read now ([`judge::audit`]). After a few kills the same audit is run on
//! copies of the data that were tampered with ([`tamper`]), and must find each fault.
//!
//! On a violation the evidence is printed, the data folder is kept and the exit code is 1.

#![allow(unreachable_pub, missing_docs, reason = "nothing here is used from elsewhere")]
#![allow(clippy::unwrap_used, reason = "what cannot go wrong here ends the run if it does")]
#![allow(clippy::print_stdout, reason = "the report is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "the loop runs in the real world")]

#[path = "../judge/mod.rs"]
mod judge;
mod load;
mod report;
mod run;
mod seed;
mod server;
mod tamper;

use std::process::ExitCode;

fn main() -> ExitCode {
    // The flags of test harnesses mean nothing here, but for a name that is not ours.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let named = arguments.iter().find(|argument| !argument.starts_with('-'));
    if arguments.iter().any(|argument| argument == "--list") || named.is_some_and(|n| n != "crash")
    {
        println!("crash loop: 0 passed, 0 failed, 1 skipped");
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, default: u64| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} must be a whole number")),
        Err(_) => default,
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let plan = run::Plan {
        kills: number("CHIRP_TEST_KILLS", 25).max(1) as usize,
        seed: number("CHIRP_TEST_CRASH_SEED", now.as_nanos() as u64),
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let clean = runtime.block_on(async {
        tokio::select! {
            biased;
            // What runs and lies about is dropped on the way out, as after any other end.
            () = told_to_stop() => {
                println!("crash loop: stopped");
                false
            }
            clean = run::run(&plan) => clean,
        }
    });
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
