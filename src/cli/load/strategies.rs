//! `chirp load --compare`: for each strategy a data set and a stack of its own, the same load, and an end.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{
    super::{
        context::{Context, block_on_all_cores},
        exit::{Exit, Failure},
    },
    Args,
    at::{At, order, population, running},
    live::Live,
    out::write_out,
    stopper,
};
use crate::{
    domain::fanout::Strategy,
    load::{
        connection::Target,
        profile::Profile,
        report::html,
        run::Progress,
        slo::Slo,
        strategies::{Compared, Side, parse, summary},
    },
    rt::tokio_rt::TokioRuntime,
    stack::{DataDir, containers::Containers, seed::credentials::FILE},
};

/// What a stack is told by, beside its flags.
const STRATEGY: &str = "CHIRP_FANOUT_STRATEGY";
/// Lines of a stack that did not start which are shown.
const LINES_MAX: usize = 5;

/// Runs each strategy and tells.
pub(super) fn run(
    context: &Context,
    args: &Args,
    list: &str,
    (mut profile, slo): (Profile, Vec<Slo>),
    live: &Live,
) -> Result<Exit, Failure> {
    let usage = |sentence: String| Failure::new(Exit::Usage, sentence, "see docs/load.md");
    let strategies = parse(list).map_err(|why| usage(format!("`--compare {list}`: {why}")))?;
    if args.audit_sample.is_none() {
        // The final timelines of all are what is compared.
        profile.audit_readers = usize::MAX;
    }
    let root = Folder::new()?;
    let sides = block_on_all_cores(async {
        let stop = stopper()?;
        let mut sides = Vec::new();
        for strategy in strategies {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            let name = strategy.as_str();
            live.show(&Progress::Trial(format!("{name}: fills a data set with {}", args.fill)));
            let stack = Stack::start(root.0.join(name), strategy, args)?;
            let order = order(args, (profile.clone(), slo.clone()), stack.at(&profile).await?);
            live.show(&Progress::Trial(format!("{name}: runs")));
            let report = order.run(Arc::clone(&stop), &|progress| live.show(&progress)).await?;
            sides.push(Side { strategy: name.to_owned(), report });
            drop(stack);
        }
        Ok::<_, Failure>(sides)
    })??;
    live.end();
    let compared = Compared::new(sides);
    let json = serde_json::to_string_pretty(&compared).expect("it has only string keys");
    let page = compared.sides.last().map(|side| html::page(&side.report));
    write_out(context.printer, args, &json, page.as_deref(), &summary(&compared))?;
    Ok(Exit::of_load(compared.exit))
}

/// A folder that is removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self, Failure> {
        let name = format!("chirp-compare-{:016x}", TokioRuntime::handle().random_u64());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).map_err(|error| {
            let sentence = format!("cannot make the folder `{}`: {error}", path.display());
            Failure::new(Exit::Unwritable, sentence, "TMPDIR names another place for it")
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A stack that runs on a data folder of its own, and is removed with it.
struct Stack {
    program: PathBuf,
    folder: PathBuf,
}

impl Stack {
    fn start(folder: PathBuf, strategy: Strategy, args: &Args) -> Result<Self, Failure> {
        let failed = |why: &str| {
            let sentence = format!("the stack of `{}` did not start: {why}", strategy.as_str());
            Failure::new(Exit::Failure, sentence, "`chirp doctor` looks at what it needs")
        };
        let program = std::env::current_exe().map_err(|error| failed(&error.to_string()))?;
        let stack = Self { program, folder };
        let output = stack
            .command(&["up", "--detach", "--port", "0", "--admin-port", "0"])
            .args(["--backends", &args.backends, "--seed", &args.fill])
            .env(STRATEGY, strategy.as_str())
            .output()
            .map_err(|error| failed(&error.to_string()))?;
        if !output.status.success() {
            let told = String::from_utf8_lossy(&output.stderr);
            let lines: Vec<&str> = told.lines().collect();
            let last = &lines[lines.len().saturating_sub(LINES_MAX)..];
            return Err(failed(&last.join("\n  ")));
        }
        Ok(stack)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(words).arg("--data-dir").arg(&self.folder).stdin(Stdio::null());
        command
    }

    /// What is driven.
    async fn at(&self, profile: &Profile) -> Result<At, Failure> {
        let dir = DataDir::at(&self.folder);
        let (address, admins) = running(&dir)?;
        let target = Target::of(address);
        let length = Duration::from_secs_f64(profile.rates.length_s());
        let population = Arc::new(population(&dir.root().join(FILE), length)?);
        let containers = Containers::list(&dir).await?;
        Ok(At { named: format!("http://{address}"), target, admins, containers, population })
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let mut down = self.command(&["down", "--purge"]);
        // What cannot be removed is found by `docker ps` and the next start; the figures are there.
        drop(down.stdout(Stdio::null()).stderr(Stdio::null()).status());
    }
}
