//! `chirp up`: the whole stack in one process.

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use clap::builder::PossibleValuesParser;
use rustix::process::{Pid, Signal, kill_process, setsid};

use super::{
    context::{Context, block_on, block_on_all_cores, call_me, enough_files},
    exit::{Exit, Failure, quoted},
    status,
};
use crate::{
    config::{Config, KINDS, Override, env},
    graph::PRESETS,
    rt::{Shutdown, tokio_rt::TokioRuntime},
    stack::{
        DataDir, StackError,
        containers::Engine,
        crash_marks::CrashMarks,
        data_dir::{RunFile, Running},
        processes::Program,
        seed::Order,
        signals::Signals,
        up::{Phase, Prepared, Progress},
    },
    telemetry::logs,
};

/// How often the parent of a detached stack looks whether it is ready.
const LOOK: Duration = Duration::from_millis(20);

/// The longest that filling the data set may take in the background: a million users took minutes.
const SEED_MAX: Duration = Duration::from_hours(1);

/// Flags of `up`.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[expect(clippy::doc_markdown, reason = "it is the help that people read")]
pub(crate) struct Args {
    /// What fills the ports: files of the data folder (`embedded`); PostgreSQL, Redis, Cassandra and an
    /// emulator of AWS in containers (`containers`); containers where Docker answers, else files
    /// (`auto`); or the servers of the configuration (`external`) [default: embedded]
    #[arg(long, value_name = "KIND", value_parser = KINDS)]
    backends: Option<String>,
    /// Keep containers, and what is in them, for the next `up`; without it they go with the stack. Once
    /// kept they stay until `down --purge`
    #[arg(long)]
    reuse: bool,
    /// Run every replica of a role as a process of its own, with a log file of its own, that is started
    /// again if it dies. Over embedded stores, which have one owner each, a role has one
    #[arg(long)]
    processes: bool,
    /// Fill the data set first, unless it was filled with the same before: see `chirp seed`
    #[arg(long, value_name = "PROFILE", value_parser = PossibleValuesParser::new(PRESETS.map(|p| p.0)))]
    seed: Option<String>,
    /// Give the terminal back once the stack is ready
    #[arg(long, short)]
    detach: bool,
    /// Port of page and API; 0 takes any free one [default: 8080]
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Port of the admin listener; 0 takes any free one [default: 8081]
    #[arg(long, value_name = "N")]
    admin_port: Option<u16>,
    /// Replicas of a role, such as `timeline=3`; may be repeated [default: 2 of each,
    /// but one gateway]
    #[arg(long, value_name = "ROLE=N", value_parser = replicas)]
    replicas: Vec<(&'static str, u64)>,
    /// Leave the terminal's session: the child of `--detach`
    #[arg(long, hide = true)]
    detached: bool,
}

impl Args {
    fn overrides(&self) -> Vec<Override> {
        let number = |flag, key, value: Option<u16>| {
            value.map(|value| Override { flag, key, value: value.to_string() })
        };
        let mut all: Vec<Override> = [
            number("--port", "up.port", self.port),
            number("--admin-port", "up.admin_port", self.admin_port),
        ]
        .into_iter()
        .flatten()
        .collect();
        if let Some(kind) = &self.backends {
            all.push(Override { flag: "--backends", key: "backends.kind", value: kind.clone() });
        }
        if self.processes {
            let value = "true".to_owned();
            all.push(Override { flag: "--processes", key: "up.processes", value });
        }
        if self.reuse {
            all.push(Override { flag: "--reuse", key: "up.reuse", value: "true".to_owned() });
        }
        for (key, count) in &self.replicas {
            all.push(Override { flag: "--replicas", key, value: count.to_string() });
        }
        all
    }
}

fn replicas(text: &str) -> Result<(&'static str, u64), String> {
    let (role, count) = text.split_once('=').ok_or("it must look like `timeline=3`")?;
    let key = match role {
        "user" => "up.user_replicas",
        "tweet" => "up.tweet_replicas",
        "timeline" => "up.timeline_replicas",
        _ => return Err("the role must be `user`, `tweet` or `timeline`".to_owned()),
    };
    let count = count.parse().map_err(|_| "the number of replicas must be a whole number")?;
    Ok((key, count))
}

/// Runs the verb.
pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let mut config = context.load(args.overrides())?.config;
    let dir = DataDir::at(&config.up.data_dir);
    if is_up(&dir) {
        return already_up(context, &dir);
    }
    enough_files()?;
    if args.detach {
        let fill = if args.seed.is_some() { SEED_MAX } else { Duration::ZERO };
        return block_on(detach(context, &config, &dir, fill))?;
    }
    if config.backends.kind == "auto" {
        let (kind, why) = block_on(automatic(&dir))??;
        context.printer.talk(&format!("{kind} backends, as {why}"));
        config.backends.kind = kind;
    }
    if args.detached {
        // Fails only for a leader of a group, which nobody but `--detach` starts us as.
        let _ = setsid();
    }
    match block_on_all_cores(until_told(context, args, config))?? {
        Some(exit) => Ok(exit),
        None => already_up(context, &dir),
    }
}

/// What `auto` means for a folder, and why.
async fn automatic(dir: &DataDir) -> Result<(String, String), StackError> {
    if let Some(kind) = dir.kind()? {
        return Ok((kind, format!("`{}` has its data there", dir.root().display())));
    }
    Ok(match Engine::ask().await {
        Ok(engine) => ("containers".to_owned(), format!("Docker {} answers", engine.version)),
        Err(trouble) => ("embedded".to_owned(), trouble.to_string()),
    })
}

pub(super) fn own_program() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe();
    own.map_err(|error| StackError::other("find this program's file", error).into())
}

fn is_up(dir: &DataDir) -> bool {
    matches!(dir.running(), Running::Up(_)) || dir.supervised().is_some()
}

fn already_up(context: &Context, dir: &DataDir) -> Result<Exit, Failure> {
    context.printer.talk("chirp is already up on this data folder");
    status::show(context, dir, true)
}

/// Takes the folder; `None` if another `up`, which was starting in this instant, is ready by now.
async fn prepare(
    config: &Arc<Config>,
    progress: &Progress<'_>,
) -> Result<Option<Prepared>, StackError> {
    let dir = DataDir::at(&config.up.data_dir);
    let limit = config.up.ready_timeout() + config.up.containers_timeout();
    let began = Instant::now();
    loop {
        let locked = match Prepared::new(Arc::clone(config), progress).await {
            Err(error @ StackError::Locked { .. }) => error,
            other => return other.map(Some),
        };
        while dir.running() == Running::Starting && began.elapsed() < limit {
            tokio::time::sleep(LOOK).await;
        }
        match dir.running() {
            _ if is_up(&dir) => return Ok(None),
            // The other one has failed, or stopped: it is our turn.
            Running::Nothing | Running::Up(_) => {}
            Running::Starting | Running::Roles(_) => return Err(locked),
        }
    }
}

/// Runs the stack; `None` if there is one already.
async fn until_told(
    context: &Context,
    args: &Args,
    config: Config,
) -> Result<Option<Exit>, Failure> {
    let began = Instant::now();
    let mut signals =
        Signals::catch().map_err(|error| StackError::other("catch signals", error))?;
    let marks = context.env(env::CRASH_MARKS).map(|path| CrashMarks::open(path.as_ref()));
    let marks = marks.transpose().map_err(|error| StackError::other("write marks", error))?;
    let rt = TokioRuntime::with_points(marks.as_ref().map(CrashMarks::hook));

    let progress = |phase: Phase| {
        let line =
            format!("  {:<12}{:<44} {:>5} ms", phase.name, phase.about, phase.took.as_millis());
        context.printer.talk(&context.printer.dim(&line));
    };
    let config = Arc::new(config);
    let prepared = tokio::select! {
        biased;
        () = signals.next() => return Ok(Some(stopped_early(context))),
        prepared = prepare(&config, &progress) => prepared?,
    };
    let Some(prepared) = prepared else { return Ok(None) };
    let _last_lines = LastLines(log_to_file(&prepared.dir().log_file(), &config)?);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), pid = std::process::id(), "starting");
    let told = Shutdown::new();
    let program = Program { path: own_program()?, forget: context.own_variables() };
    let seed = args.seed.as_deref().map(Order::of);
    let start = prepared.start(rt, &program, seed.as_ref(), &progress, &told);
    let mut start = std::pin::pin!(start);
    let started = tokio::select! {
        biased;
        () = signals.next() => None,
        started = &mut start => Some(started),
    };
    let Some(started) = started else {
        told.cancel();
        signals.next_one_kills();
        match start.await {
            // It became ready in the instant in which it was told.
            Ok(stack) => stack.stop().await,
            Err(StackError::Stopped) => {}
            Err(error) => return Err(error.into()),
        }
        return Ok(Some(stopped_early(context)));
    };
    let stack = started?;
    if let Some(marks) = &marks {
        marks.write("idle");
    }
    tracing::info!(address = %stack.run_file().address, "ready");
    if !args.detached {
        ready_block(context, stack.dir(), stack.run_file(), Some(began.elapsed()));
    }

    signals.next().await;
    signals.next_one_kills();
    context.printer.talk("stopping: requests in work may finish (Ctrl-C again ends at once)");
    tracing::info!("stopping");
    stack.stop().await;
    tracing::info!("stopped");
    Ok(Some(Exit::Ok))
}

/// The end of a start that was told to stop.
pub(super) fn stopped_early(context: &Context) -> Exit {
    context.printer.talk("stopped before it was ready");
    Exit::Ok
}

/// Sees that what was logged is written before the process ends.
pub(super) struct LastLines(pub(super) logs::Lines);

impl Drop for LastLines {
    fn drop(&mut self) {
        self.0.flush();
    }
}

/// From now on what is logged goes to the file `path`.
pub(super) fn log_to_file(path: &Path, config: &Config) -> Result<logs::Lines, Failure> {
    let pumped =
        logs::file(path, &config.log).map_err(|error| StackError::unwritable(path, &error))?;
    log_through(pumped, config)
}

/// From now on what is logged goes to a writer, which gets a thread.
pub(super) fn log_through(
    (lines, pump): (logs::Lines, logs::Pump),
    config: &Config,
) -> Result<logs::Lines, Failure> {
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(|| pump.run())
        .map_err(|error| StackError::other("start a thread", error))?;
    logs::install(lines.clone(), &config.log);
    Ok(lines)
}

/// What a newcomer does next.
pub(crate) fn ready_block(context: &Context, dir: &DataDir, run: &RunFile, took: Option<Duration>) {
    let p = context.printer;
    let url = format!("http://{}", run.address);
    let root = std::path::absolute(dir.root()).unwrap_or_else(|_| dir.root().to_owned());
    let logs = root.join("logs").join("chirp.log");
    let took = took.map(|took| format!(" after {} ms", took.as_millis())).unwrap_or_default();
    p.talk(&format!("\n{}{took} (process {})\n", p.green("chirp is ready"), run.pid));
    p.talk(&format!("  page    {}", p.bold(&format!("{url}/"))));
    p.talk(&format!("  API     {url}  (see docs/api.md)"));
    p.talk(&format!("  admin   http://{}/queues, /metrics, /config", run.admin));
    p.talk(&format!("  data    {}", data(dir, &root)));
    let each = if dir.supervised().is_some() { "  (and one of each process)" } else { "" };
    p.talk(&format!("  logs    {}{each}", quoted(&logs)));
    p.talk("\nOpen the page in two browsers, or try:\n");
    p.talk(&format!(
        "  curl -s {url}/users -H 'content-type: application/json' \
         -d '{{\"handle\":\"ada\",\"password\":\"correct horse\"}}'"
    ));
    p.talk(&format!("  {}\n", call_me("status", dir)));
}

/// Where the data is, and how long.
fn data(dir: &DataDir, root: &Path) -> String {
    let root = quoted(root);
    match dir.known() {
        Ok(Some(known)) if known.kind == "external" => {
            "on the servers of the configuration".to_owned()
        }
        Ok(Some(known)) if known.kept => {
            format!("in containers of {root}  (kept; `down --purge` removes it)")
        }
        Ok(Some(_)) => "in containers  (gone when the stack stops; `--reuse` keeps it)".to_owned(),
        _ => format!("{root}  (kept; `down --purge` removes it)"),
    }
}

/// Starts this program again without the terminal, and waits until it is ready. A signal meanwhile ends
/// it, as it ends one in the foreground.
async fn detach(
    context: &Context,
    config: &Config,
    dir: &DataDir,
    fill: Duration,
) -> Result<Exit, Failure> {
    let began = Instant::now();
    let failed = |error| Failure::from(StackError::other("start chirp in the background", error));
    let mut signals = Signals::catch().map_err(failed)?;
    let flags = std::env::args_os().skip(1).filter(|flag| flag != "--detach" && flag != "-d");
    let mut child = Command::new(own_program()?)
        .args(flags)
        .arg("--detached")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let talk = child.stderr.take().map(|said| {
        let printer = context.printer;
        // What it says on the way, and at last why it failed.
        std::thread::spawn(move || {
            BufReader::new(said).lines().map_while(Result::ok).for_each(|line| printer.talk(&line));
        })
    });
    let limit =
        config.up.ready_timeout() + config.up.containers_timeout() + fill + Duration::from_secs(5);
    while began.elapsed() < limit {
        if let Some(status) = child.try_wait().map_err(failed)? {
            if let Some(talk) = talk {
                drop(talk.join());
            }
            let exit = Exit::ALL.into_iter().find(|e| Some(i32::from(e.code())) == status.code());
            return Ok(match exit.unwrap_or(Exit::Failure) {
                // It was told to stop: whoever waits for a stack has none.
                Exit::Ok if !is_up(dir) => Exit::NotRunning,
                exit => exit,
            });
        }
        if let Some(run) = dir.read_run(None).filter(|run| run.pid == child.id()) {
            ready_block(context, dir, &run, Some(began.elapsed()));
            return Ok(Exit::Ok);
        }
        tokio::select! {
            biased;
            () = signals.next() => {
                // It is in a session of its own, where no terminal's Ctrl-C is heard. One that has
                // just ended needs none.
                let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            }
            () = tokio::time::sleep(LOOK) => {}
        }
    }
    drop(child.kill());
    let sentence = format!("not ready after {} s", limit.as_secs());
    Err(Failure::new(Exit::Timeout, sentence, "`chirp logs` may say why"))
}
