//! The adapters of real servers, held to the contract suites and to faults, each server in one
//! container for the whole run.
//!
//! `cargo test --test backends -- NAME` runs the scenarios whose name contains NAME; `--list` says
//! what there is. A backend is a file beside this one with its scenarios; [`support::run`] starts
//! its server if one of them is wanted, and [`support::server`] says which image that is. Needs
//! Docker: `scripts/docker-start`.
//!
//! `cargo test --test backends -- around COMMAND` starts the four servers of a stack, runs the
//! command, and removes them: `around cargo test --test it one_process` holds the stack over them to
//! the scenarios that it is held to over files.

#![allow(unreachable_pub, missing_docs, reason = "nothing here is used from elsewhere")]
#![allow(clippy::unwrap_used, reason = "what goes wrong here fails the scenario")]
#![allow(clippy::print_stdout, reason = "the report is what this program is for")]
#![allow(clippy::disallowed_methods, reason = "the servers are in the real world")]

mod cassandra;
mod postgres;
mod proxy;
mod redis;
mod roles;
mod s3;
mod sns_sqs;
mod support;
mod up;

use std::{process::ExitCode, time::Duration};

use support::{
    run::Run,
    server,
    servers::{SHARED, Servers},
};

/// The first argument that asks for servers around a command.
const AROUND: &str = "around";

/// How long what still runs may take to end once a run was told to stop.
const STOP_MAX: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let clean = runtime.block_on(async {
        tokio::select! {
            biased;
            () = told_to_stop() => {
                println!("backends: stopped");
                false
            }
            clean = async {
                match arguments.split_first() {
                    Some((first, command)) if first == AROUND => around(command).await,
                    _ => everything().await,
                }
            } => clean,
        }
    });
    runtime.shutdown_timeout(STOP_MAX);
    server::remove_all();
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a command while the four servers run, and tells it where they are.
async fn around(command: &[String]) -> bool {
    server::sweep();
    let started = async {
        let servers = Servers::start().await?;
        servers.ports().answer().await.map(|()| servers)
    };
    let servers = match started.await {
        Ok(servers) => servers,
        Err(why) => {
            println!("backends: {why}");
            return false;
        }
    };
    let Some((program, arguments)) = command.split_first() else { return false };
    let mut command = tokio::process::Command::new(program);
    command.args(arguments).env(SHARED, servers.ports().to_string()).kill_on_drop(true);
    command.status().await.is_ok_and(|status| status.success())
}

async fn everything() -> bool {
    let mut run = Run::of_arguments();
    server::sweep();
    let proxy = run.begin_alone("proxy", proxy::SCENARIOS);
    let cassandra = run.begin(cassandra::SCENARIOS);
    let postgres = run.begin(postgres::SCENARIOS);
    let redis = run.begin(redis::SCENARIOS);
    let s3 = run.begin(s3::SCENARIOS);
    let sns_sqs = run.begin(sns_sqs::SCENARIOS);
    let roles = run.begin_alone("roles", roles::SCENARIOS);
    let up = run.begin_alone("up", up::SCENARIOS);
    run.play(proxy).await;
    run.play(postgres).await;
    run.play(redis).await;
    run.play(cassandra).await;
    run.play(s3).await;
    run.play(sns_sqs).await;
    run.play(roles).await;
    run.play(up).await;
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
