//! `chirp down`: stops what runs on the data folder.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    context::{Context, block_on, not_running},
    exit::{Exit, Failure},
};
use crate::stack::{
    DataDir, StackError, containers::Containers, data_dir::Running, kind::Known, purge::Purged,
};

/// What a stop may take on top of the time for requests in work.
const MARGIN: Duration = Duration::from_secs(15);
/// A process that has just taken the folder is given this long to write down who it is.
const UNKNOWN_MAX: Duration = Duration::from_secs(5);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(20);

/// Flags of `down`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Remove all data too, with containers that were kept
    #[arg(long)]
    purge: bool,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let config = context.load(Vec::new())?.config;
    let dir = DataDir::at(&config.up.data_dir);
    let told = stop(&dir, config.serve.drain_delay() + config.up.drain() + MARGIN)?;
    if !told.is_empty() {
        context.printer.talk("chirp is down");
    }
    let removed = match containers(&dir, args.purge) {
        // The stack has removed them itself, and whatever it could not is removed by the next `up`.
        Err(failure) if !told.is_empty() && !args.purge => {
            context
                .printer
                .talk(&format!("whether containers are left is unknown: {}", failure.sentence));
            0
        }
        removed => removed?,
    };
    if removed > 0 {
        context.printer.talk(&format!("removed {removed} containers"));
    }
    if told.is_empty() && removed == 0 && !args.purge {
        return Err(not_running(&dir));
    }
    let containers = |known: Known| known.kept && known.kind == "containers";
    let kept = !args.purge && dir.known()?.is_some_and(containers);
    if kept {
        context.printer.talk("its containers stay with their data; `down --purge` removes them");
    }
    if args.purge {
        purge(context, &dir)?;
        if config.backends.external() {
            context.printer.talk("what the servers of `[backends]` keep is left as it is");
        }
    }
    Ok(Exit::Ok)
}

/// Tells every process that holds the folder to stop, also one that is still starting, and waits
/// until nobody does. Gives whom it told.
fn stop(dir: &DataDir, limit: Duration) -> Result<BTreeSet<u32>, Failure> {
    let began = Instant::now();
    let mut told = BTreeSet::new();
    while dir.running() != Running::Nothing {
        for holder in dir.holders() {
            if told.insert(holder)
                && let Some(pid) = i32::try_from(holder).ok().and_then(Pid::from_raw)
            {
                // One that has just ended by itself is stopped as well.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        if told.is_empty() && began.elapsed() > UNKNOWN_MAX {
            let holder = "a process that does not say which it is".to_owned();
            return Err(StackError::Locked { path: dir.root().to_owned(), holder }.into());
        }
        if began.elapsed() > limit {
            let left = dir.holders();
            let left: Vec<String> =
                if left.is_empty() { &told } else { &left }.iter().map(u32::to_string).collect();
            let left = left.join(" ");
            let sentence = format!("not stopped after {} s: {left} still run", limit.as_secs());
            let hint = format!("`kill -9 {left}` ends them; no data is lost");
            return Err(Failure::new(Exit::Timeout, sentence, hint));
        }
        std::thread::sleep(LOOK);
    }
    Ok(told)
}

/// Removes what a killed stack left, or with `kept` also what was to stay. Gives how many.
fn containers(dir: &DataDir, kept: bool) -> Result<usize, Failure> {
    if dir.known()?.is_none_or(|known| known.kind != "containers") {
        return Ok(0);
    }
    // Against another `up` in this instant, whose containers they are then.
    let _lock = dir.lock_all()?;
    Ok(block_on(Containers::remove_of(dir, kept))??)
}

fn purge(context: &Context, dir: &DataDir) -> Result<(), Failure> {
    let purged = dir.purge().map_err(|error| StackError::other("remove the data folder", error))?;
    let shown = dir.root().display();
    let nothing = match purged {
        Purged::Done => {
            context.printer.talk(&format!("removed the data in `{shown}`"));
            return Ok(());
        }
        Purged::Absent => format!("there is no data folder `{shown}`: nothing was removed"),
        Purged::Foreign => format!("`{shown}` is no data folder of chirp: nothing was removed"),
    };
    Err(Failure::new(Exit::NotRunning, nothing, "name the folder with `--data-dir`"))
}
