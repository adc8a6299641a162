//! `chirp __reap`: the child that removes containers when their stack is killed; nobody types it.

use super::{
    context::block_on,
    exit::{Exit, Failure},
};
use crate::stack::containers::reaper::reap;

/// Arguments of `__reap`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The name of the data folder
    stack: String,
    /// The process whose end is waited for
    pid: String,
}

/// Runs the verb.
pub(crate) fn run(args: &Args) -> Result<Exit, Failure> {
    block_on(reap(&args.stack, &args.pid))??;
    Ok(Exit::Ok)
}
