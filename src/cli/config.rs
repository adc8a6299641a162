//! `chirp config show`: the effective configuration, and where each value is from.

use serde_json::json;
use toml::{Table, Value};

use super::{
    context::Context,
    exit::{Exit, Failure},
};
use crate::config::{self, Loaded, Sources, env};

/// Flags of `config`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Every key with its value and where that is from; with --json also the variable that sets it
    Show {
        /// One JSON object on stdout
        #[arg(long)]
        json: bool,
        /// The defaults, whatever file, environment and flags say
        #[arg(long)]
        default: bool,
    },
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let What::Show { json, default } = args.what;
    let loaded =
        if default { config::load(&Sources::default())? } else { context.load(Vec::new())? };
    if json {
        context.printer.data(&as_json(&loaded))?;
    } else {
        for line in as_toml(&loaded) {
            context.printer.data(&line)?;
        }
    }
    Ok(Exit::Ok)
}

fn entries(loaded: &Loaded) -> Vec<(String, Vec<(String, Value)>)> {
    let section = |(name, keys): (String, Value)| {
        let keys = keys.as_table().cloned().unwrap_or_else(Table::new);
        (name, keys.into_iter().collect())
    };
    loaded.config.to_masked_table().into_iter().map(section).collect()
}

fn as_toml(loaded: &Loaded) -> Vec<String> {
    let mut lines = Vec::new();
    for (section, keys) in entries(loaded) {
        lines.push(format!("[{section}]"));
        for (key, value) in keys {
            let origin = &loaded.origins[&format!("{section}.{key}")];
            lines.push(format!("{:<44} # {origin}", format!("{key} = {value}")));
        }
        lines.push(String::new());
    }
    lines.pop();
    lines
}

fn as_json(loaded: &Loaded) -> String {
    let mut all = serde_json::Map::new();
    for (section, keys) in entries(loaded) {
        for (key, value) in keys {
            let name = format!("{section}.{key}");
            let from = loaded.origins[&name].to_string();
            let entry = json!({ "value": value, "from": from, "variable": env::name_of(&name) });
            all.insert(name, entry);
        }
    }
    serde_json::Value::Object(all).to_string()
}
