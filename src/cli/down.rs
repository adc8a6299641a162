//! `chirp down`: stops what runs on the data folder.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    context::{Context, not_running},
    exit::{Exit, Failure},
};
use crate::stack::{DataDir, StackError, data_dir::Running};

/// What a stop may take on top of the time for requests in work.
const MARGIN: Duration = Duration::from_secs(15);
/// A process that is just starting is given this long to say who it is.
const STARTING_MAX: Duration = Duration::from_secs(5);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Flags of `down`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all data too
    #[arg(long)]
    purge: bool,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let up = context.load(Vec::new())?.config.up;
    let dir = DataDir::at(&up.data_dir);
    let pids = pids(&dir)?;
    if pids.is_empty() && !args.purge {
        return Err(not_running(&dir));
    }
    for pid in &pids {
        // One that has just ended by itself is stopped as well.
        if let Some(pid) = i32::try_from(*pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    let limit = up.drain() + MARGIN;
    let began = Instant::now();
    while dir.running() != Running::Nothing {
        if began.elapsed() > limit {
            let sentence = format!("not stopped after {} s: {pids:?} still run", limit.as_secs());
            return Err(Failure::new(
                Exit::Timeout,
                sentence,
                "`kill -9` ends them; no data is lost",
            ));
        }
        std::thread::sleep(LOOK);
    }
    if !pids.is_empty() {
        context.printer.talk("chirp is down");
    }
    if args.purge {
        dir.purge().map_err(|error| StackError::other("remove the data folder", error))?;
        context.printer.talk(&format!("removed the data in `{}`", dir.root().display()));
    }
    Ok(Exit::Ok)
}

fn pids(dir: &DataDir) -> Result<BTreeSet<u32>, Failure> {
    let began = Instant::now();
    loop {
        match dir.running() {
            Running::Nothing => return Ok(BTreeSet::new()),
            Running::Up(run) => return Ok(BTreeSet::from([run.pid])),
            Running::Roles(runs) => return Ok(runs.iter().map(|(_, run)| run.pid).collect()),
            Running::Starting if began.elapsed() < STARTING_MAX => std::thread::sleep(LOOK),
            Running::Starting => {
                let (path, holder) = (dir.root().to_owned(), "a process that starts".to_owned());
                return Err(StackError::Locked { path, holder }.into());
            }
        }
    }
}
