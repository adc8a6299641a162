//! `chirp migrate`: the schemas of the stores.

use super::{
    context::{Context, block_on},
    exit::{Exit, Failure},
};
use crate::{
    rt::tokio_rt::TokioRuntime,
    stack::migrate::{self, Lacking},
    wire::routes::Role,
};

/// Flags of `migrate`.
///
/// Steps only go forward, and each leaves the release before it working, so that they may be taken
/// while that release runs; several processes may take them at once. Without this verb they are taken
/// by whatever opens the stores, unless `[backends] migrate` is off.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// List what is missing and change nothing; ends with 19 if anything is
    #[arg(long)]
    check: bool,
    /// Only the servers of these roles: `user`, `tweet`, `timeline`, with commas; the files of a data
    /// folder go together [default: all]
    #[arg(long, value_name = "ROLE", value_delimiter = ',', value_parser = role)]
    role: Vec<Role>,
}

fn role(word: &str) -> Result<Role, String> {
    let owns = Role::parse(word).filter(|role| *role != Role::Gateway);
    owns.ok_or_else(|| "the roles with stores are `user`, `tweet` and `timeline`".to_owned())
}

/// Runs the verb. Stdout has a line per step: the store, a tab, the step.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let config = context.load(Vec::new())?.config;
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
