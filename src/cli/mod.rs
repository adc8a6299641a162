//! The command line: one file per verb; the only room that prints and knows clap.
//!
//! A verb has `Args` and `run`. Start with [`main`]; [`exit`] has the one table of exit codes.

#![allow(clippy::disallowed_methods, reason = "the command line reads clock and environment")]

mod completions;
mod config;
mod context;
mod doctor;
mod down;
mod exit;
mod graph;
mod load;
mod logs;
mod migrate;
mod printer;
mod reap;
mod replay;
mod seed;
mod serve;
mod sim;
mod status;
mod up;

use std::{path::PathBuf, process::ExitCode};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand as MissingSubcommand,
};

use context::Context;
use exit::Failure;
use printer::Printer;

use crate::config::env;

/// A Twitter-like feed system in one binary.
#[derive(Debug, Parser)]
#[command(name = "chirp", version, about, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

/// Flags of every verb.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Configuration file [default: chirp.toml if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Folder of everything that is kept [default: .chirp]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the whole stack; a second `up` on the same data folder is `status`
    Up(up::Args),
    /// Stop what runs on the data folder
    Down(down::Args),
    /// Show what runs on the data folder
    Status(status::Args),
    /// Show the logs of `chirp up`
    Logs(logs::Args),
    /// Run single roles, over a data folder that they share or over servers
    Serve(serve::Args),
    /// Check the surroundings, the data folder and what runs
    Doctor(doctor::Args),
    /// Fill an empty data set with people who follow each other and have tweeted
    Seed(seed::Args),
    /// Drive a running chirp, and prove that nothing was lost, doubled, misordered or leaked
    Load(Box<load::Args>),
    /// Publish again everything that was committed since a time: the one repair tool
    Replay(replay::Args),
    /// Bring the schemas of the stores up to date, or say what they lack
    Migrate(migrate::Args),
    /// Simulate the system on a virtual clock
    Sim(sim::Args),
    /// Show the effective configuration
    Config(config::Args),
    /// Print completions for a shell
    Completions(completions::Args),
    /// Remove containers once their stack has gone
    #[command(name = "__reap", hide = true)]
    Reap(reap::Args),
}

/// Parses, dispatches, and gives the exit code.
pub fn main() -> ExitCode {
    let matches = command().try_get_matches().and_then(|m| Cli::from_arg_matches(&m));
    let cli = match matches {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, and are no errors.
            let failure = if !error.use_stderr() || error.kind() == MissingSubcommand {
                let code = u8::try_from(error.exit_code()).unwrap_or(2);
                match printer::written(error.print()) {
                    Ok(()) => return ExitCode::from(code),
                    Err(failure) => failure,
                }
            } else {
                Failure::from(error)
            };
            Printer::new(std::env::var_os(env::NO_COLOR).is_some()).fail(&failure);
            return ExitCode::from(failure.exit.code());
        }
    };
    let context = Context::new(cli.global);
    let result = match cli.verb {
        Verb::Up(args) => up::run(&context, &args),
        Verb::Down(args) => down::run(&context, &args),
        Verb::Status(args) => status::run(&context, &args),
        Verb::Logs(args) => logs::run(&context, &args),
        Verb::Serve(args) => serve::run(&context, &args),
        Verb::Doctor(args) => doctor::run(&context, &args),
        Verb::Seed(args) => seed::run(&context, &args),
        Verb::Load(args) => load::run(&context, &args),
        Verb::Replay(args) => replay::run(&context, &args),
        Verb::Migrate(args) => migrate::run(&context, &args),
        Verb::Sim(args) => sim::run(&context, &args),
        Verb::Config(args) => config::run(&context, &args),
        Verb::Reap(args) => reap::run(&args),
        Verb::Completions(args) => completions::run(&context, &args, command()),
    };
    let exit = result.unwrap_or_else(|failure: Failure| {
        context.printer.fail(&failure);
        failure.exit
    });
    ExitCode::from(exit.code())
}

fn command() -> clap::Command {
    Cli::command().after_long_help(exit::table())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command().debug_assert();
    }
}
