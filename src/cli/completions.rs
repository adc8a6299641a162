//! `chirp completions SHELL`.

use clap_complete::Shell;

use super::{
    context::Context,
    exit::{Exit, Failure},
};

/// Flags of `completions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// For which shell
    shell: Shell,
}

/// Runs the verb.
pub(crate) fn run(
    context: &Context,
    args: &Args,
    mut command: clap::Command,
) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "chirp", &mut script);
    context.printer.raw(&script)?;
    Ok(Exit::Ok)
}
