//! `chirp status`: what runs on the data folder, and how it is.

use futures_util::future::join_all;
use serde::Serialize;

use super::{
    context::{Context, ask, block_on, not_running},
    exit::{Exit, Failure},
    up,
};
use crate::stack::{
    DataDir,
    admin::Queues,
    containers::{Container, Containers},
    data_dir::{RunFile, Running},
};

/// Flags of `status`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Status {
    processes: Vec<Process>,
    /// Roles of which processes are lacking: they have just ended, or are starting.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lacking: Vec<Lacking>,
    /// Absent unless the data folder has some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    containers: Vec<Container>,
}

#[derive(Debug, Serialize)]
struct Lacking {
    role: &'static str,
    count: usize,
}

#[derive(Debug, Serialize)]
struct Process {
    /// The role of `chirp serve`; absent for `chirp up`.
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(flatten)]
    run: RunFile,
    ready: bool,
    /// Whether its admin listener answers at all.
    answers: bool,
    queues: Option<Queues>,
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let dir = context.data_dir()?;
    if !args.json {
        return show(context, &dir, false);
    }
    let (processes, lacking) = look(&dir)?;
    let containers = block_on(Containers::list(&dir))?.unwrap_or_else(|error| {
        context
            .printer
            .talk(&format!("containers are not shown: {}", Failure::from(error).sentence));
        Vec::new()
    });
    let json = serde_json::to_string(&Status { processes, lacking, containers });
    context.printer.data(&json.expect("a status has only string keys"))?;
    Ok(Exit::Ok)
}

/// Shows what runs, for a person: as data, or as talk if something else was asked for.
pub(crate) fn show(context: &Context, dir: &DataDir, talk: bool) -> Result<Exit, Failure> {
    let p = context.printer;
    let line = |text: &str| {
        if talk {
            p.talk(text);
            return Ok(());
        }
        p.data(text)
    };
    if talk && let Some(run) = dir.supervised() {
        up::ready_block(context, dir, &run, None);
    }
    let (processes, lacking) = look(dir)?;
    for process in processes {
        let state = match (process.ready, process.answers) {
            (true, _) => p.green("ready"),
            (false, true) => p.yellow("not ready"),
            (false, false) => p.red("no answer"),
        };
        match process.role {
            None if process.ready && talk => up::ready_block(context, dir, &process.run, None),
            role => line(&format!(
                "{:<9} {state}  process {}  http://{}  admin http://{}",
                role.unwrap_or("chirp"),
                process.run.pid,
                process.run.address,
                process.run.admin
            ))?,
        }
        let Some(queues) = process.queues else { continue };
        for lane in queues.lanes {
            line(&format!(
                "  {:<18}{:>6} waiting {:>6} in flight {:>6} parked  oldest {} ms",
                format!("lane {}", lane.lane),
                lane.depth,
                lane.in_flight,
                lane.parked,
                lane.oldest_ms
            ))?;
        }
        for outbox in queues.outboxes {
            line(&format!(
                "  {:<18}{:>6} unsent   oldest {} ms",
                format!("outbox {}", outbox.role),
                outbox.unsent,
                outbox.lag_ms
            ))?;
        }
    }
    for Lacking { role, count } in lacking {
        let state = p.red("does not run");
        line(&format!("{role:<9} {state}  {count} of its processes; `chirp logs` may say why"))?;
    }
    // Whoever asks for the stack is told of it also if Docker does not answer.
    match block_on(Containers::list(dir))? {
        Ok(containers) => {
            for container in containers {
                line(&format!(
                    "  {:<20}{}  {}  {}  {}",
                    format!("container {}", container.server),
                    container.state,
                    container.address,
                    container.image,
                    container.name
                ))?;
            }
        }
        Err(error) => line(&format!("  containers          {}", Failure::from(error).sentence))?,
    }
    Ok(Exit::Ok)
}

fn look(dir: &DataDir) -> Result<(Vec<Process>, Vec<Lacking>), Failure> {
    let mut lacking = Vec::new();
    let runs = match dir.running() {
        Running::Nothing => return Err(not_running(dir)),
        Running::Starting => {
            let sentence = "chirp is starting or stopping, and cannot say more yet";
            return Err(Failure::new(Exit::Timeout, sentence, "ask again in a moment"));
        }
        Running::Up(run) => vec![(None, run)],
        Running::Roles(runs) => {
            let found = dir.lacking(&runs).into_iter();
            lacking.extend(found.map(|(role, count)| Lacking { role: role.as_str(), count }));
            runs.into_iter().map(|(role, run)| (Some(role.as_str()), run)).collect()
        }
    };
    let processes = block_on(join_all(runs.into_iter().map(|(role, run)| async move {
        let ready = ask(run.admin, "/readyz").await;
        let queues = match &ready {
            Ok(_) => ask(run.admin, "/queues").await.ok().and_then(|answer| answer.json()),
            Err(_) => None,
        };
        let (answers, ready) = (ready.is_ok(), ready.is_ok_and(|answer| answer.status == 200));
        Process { role, run, ready, answers, queues }
    })))?;
    Ok((processes, lacking))
}
