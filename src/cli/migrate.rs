//! `chirp migrate`: the schemas of the stores, and the fan-out strategy of the data set.

use std::time::{Duration, Instant};

use clap::{Subcommand, builder::PossibleValuesParser};
use parking_lot::Mutex;

use super::{
    context::{Context, block_on, block_on_all_cores},
    exit::{Exit, Failure},
};
use crate::{
    config::Config,
    domain::fanout::Strategy,
    rt::tokio_rt::TokioRuntime,
    stack::{
        migrate::{self, Lacking},
        strategy::{self, Switched, Waiting},
    },
    wire::routes::Role,
};

/// What waits is told this often.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Flags of `migrate`.
///
/// Steps only go forward, and each leaves the release before it working, so that they may be taken
/// while that release runs; several processes may take them at once. Without this verb they are taken
/// by whatever opens the stores, unless `[backends] migrate` is off.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    /// List what is missing and change nothing; ends with 19 if anything is
    #[arg(long)]
    check: bool,
    /// Only the servers of these roles: `user`, `tweet`, `timeline`, with commas; the files of a data
    /// folder go together [default: all]
    #[arg(long, value_name = "ROLE", value_delimiter = ',', value_parser = role)]
    role: Vec<Role>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Switch the data set to another fan-out strategy: what waits is worked off, then caches begin anew
    Strategy(Strategies),
}

/// Flags of `migrate strategy`.
///
/// Nothing may run over the data set; over servers, no role anywhere, as two strategies at once would
/// leave tweets out.
#[derive(Debug, clap::Args)]
struct Strategies {
    /// Push to warm timelines and read large authors (`hybrid`), keep every home timeline (`push`), or
    /// only read (`pull`)
    #[arg(value_name = "STRATEGY",
          value_parser = PossibleValuesParser::new(Strategy::ALL.map(Strategy::as_str)))]
    name: String,
}

fn role(word: &str) -> Result<Role, String> {
    let owns = Role::parse(word).filter(|role| *role != Role::Gateway);
    owns.ok_or_else(|| "the roles with stores are `user`, `tweet` and `timeline`".to_owned())
}

/// Runs the verb. Stdout has a line per step: the store, a tab, the step.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let config = context.load(Vec::new())?.config;
    if let Some(What::Strategy(Strategies { name })) = &args.what {
        return switch(context, &config, Strategy::parse(name).unwrap_or_default());
    }
    let roles = if args.role.is_empty() { Role::ALL.to_vec() } else { args.role.clone() };
    let lacking = block_on(async {
        let rt = TokioRuntime::handle();
        if args.check {
            migrate::check(&config, &rt, &roles).await
        } else {
            migrate::take(&config, &rt, &roles).await
        }
    })??;
    for Lacking { store, steps } in &lacking {
        for step in steps {
            context.printer.data(&format!("{store}\t{step}"))?;
        }
    }
    if args.check && !lacking.is_empty() {
        let stores: Vec<&str> = lacking.iter().map(|lacking| lacking.store.as_str()).collect();
        let sentence = format!("the schema is behind: {}", stores.join(", "));
        return Err(Failure::new(Exit::Schema, sentence, "`chirp migrate` takes the steps"));
    }
    let done =
        if lacking.is_empty() { "every schema is up to date" } else { "these steps were taken" };
    context.printer.talk(done);
    Ok(Exit::Ok)
}

/// Switches, and prints what the data set had, a tab, and what it has.
fn switch(context: &Context, config: &Config, wanted: Strategy) -> Result<Exit, Failure> {
    let told = Mutex::new(Instant::now());
    let progress = |Waiting { unsent, messages }| {
        let mut told = told.lock();
        if told.elapsed() >= PROGRESS_EVERY {
            *told = Instant::now();
            context.printer.talk(&format!("{unsent} events and {messages} messages wait"));
        }
    };
    let rt = TokioRuntime::handle();
    let work = async { strategy::switch(&rt, config, wanted, &progress).await };
    let Switched { before, now } = block_on_all_cores(work)??;
    context.printer.data(&format!("{}\t{}", before.as_str(), now.as_str()))?;
    if before == now {
        context.printer.talk("the data set has this strategy");
    }
    Ok(Exit::Ok)
}
