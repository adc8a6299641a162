//! `chirp doctor`: checks the surroundings, the data folder and what runs; a hint for each trouble.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;

use super::{
    context::{Context, ask, block_on, enough_files},
    exit::{Exit, Failure},
};
use crate::{
    config::Config,
    rt::tokio_rt::TokioRuntime,
    stack::{
        DataDir, StackError,
        admin::Queues,
        containers::{Container, Containers, Engine, images},
        data_dir::Running,
        listen::bind,
        migrate,
        offline::{self, Look},
    },
    wire::routes::Role,
};

/// Free bytes below which a warning is given: a day of a busy small instance.
const FREE_WARN: u64 = 1 << 30;
/// Free bytes below which a stack should not be started.
const FREE_FAIL: u64 = 64 << 20;
/// Open files below which a warning is given: connections, stores and logs need them.
const FILES_WARN: u64 = 1_024;
/// A message or an outbox row that waits longer than this, in milliseconds, is worth a warning.
const LAG_WARN_MS: u64 = 60_000;
/// 2025-01-01 UTC in milliseconds since the Unix epoch: ids cannot be made before it.
const EPOCH_MS: u128 = 1_735_689_600_000;

/// Flags of `doctor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

enum Finding {
    Ok(String),
    Warn(String, String),
    Fail(String, String),
}

use Finding::{Fail, Warn};

/// Runs the verb.
pub(crate) fn run(context: &Context, _args: &Args) -> Result<Exit, Failure> {
    let config = context.load(Vec::new())?.config;
    let dir = DataDir::at(&config.up.data_dir);
    let mut findings = vec![
        ("program", Finding::Ok(format!("chirp {}", env!("CARGO_PKG_VERSION")))),
        ("clock", clock()),
        ("open files", open_files()),
        ("data folder", data_folder(&dir)),
        ("free disk", free_disk(dir.root())),
    ];
    findings.extend(block_on(docker(&config, &dir))?);
    findings.extend(block_on(state(&config, &dir))?);
    let mut bad = 0;
    for (name, finding) in &findings {
        let p = context.printer;
        let (mark, text, hint) = match finding {
            Finding::Ok(text) => (p.green("ok  "), text, None),
            Warn(text, hint) => (p.yellow("warn"), text, Some(hint)),
            Fail(text, hint) => (p.red("fail"), text, Some(hint)),
        };
        bad += usize::from(matches!(finding, Fail(..)));
        p.data(&format!("{mark} {name:<12} {text}"))?;
        if let Some(hint) = hint {
            p.data(&format!("     {:<12} hint: {hint}", ""))?;
        }
    }
    Ok(if bad == 0 { Exit::Ok } else { Exit::Failure })
}

fn clock() -> Finding {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    if now >= EPOCH_MS {
        return Finding::Ok("after 2025-01-01".to_owned());
    }
    Fail("is before 2025-01-01, where ids begin".to_owned(), "set the system's clock".to_owned())
}

fn open_files() -> Finding {
    use rustix::process::{Resource, getrlimit};
    if let Err(failure) = enough_files() {
        return Fail(failure.sentence, failure.hint);
    }
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < FILES_WARN => {
            let hint = format!("raise it: `ulimit -n {FILES_WARN}`");
            Warn(format!("at most {limit}"), hint)
        }
        Some(limit) => Finding::Ok(format!("at most {limit}")),
        None => Finding::Ok("no limit".to_owned()),
    }
}

/// The folder itself, or the nearest one above it that exists.
fn existing(path: &Path) -> &Path {
    let mut folder = path;
    while !folder.exists() {
        match folder.parent() {
            Some(parent) if parent.as_os_str().is_empty() => return Path::new("."),
            Some(parent) => folder = parent,
            None => break,
        }
    }
    folder
}

fn data_folder(dir: &DataDir) -> Finding {
    let folders = dir.folders();
    for folder in folders.iter().map(|folder| existing(folder)) {
        if let Err(error) = tempfile_in(folder) {
            return Fail(
                format!("`{}` cannot be written: {error}", folder.display()),
                "choose another folder with `--data-dir`".to_owned(),
            );
        }
    }
    let shown = dir.root().display();
    if dir.root().exists() {
        Finding::Ok(format!("`{shown}` can be written"))
    } else {
        Finding::Ok(format!("`{shown}` is not there yet, and can be made"))
    }
}

fn tempfile_in(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".chirp-doctor-{}", std::process::id()));
    std::fs::write(&probe, b"probe")?;
    std::fs::remove_file(&probe)
}

fn free_disk(path: &Path) -> Finding {
    let stat = match rustix::fs::statvfs(existing(path)) {
        Ok(stat) => stat,
        Err(error) => return Warn(format!("cannot be read: {error}"), "look with `df`".to_owned()),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let text = format!("{} MiB", free >> 20);
    let hint = || "make room, or choose another disk with `--data-dir`".to_owned();
    match free {
        ..FREE_FAIL => Fail(text, hint()),
        FREE_FAIL..FREE_WARN => Warn(text, hint()),
        _ => Finding::Ok(text),
    }
}

/// Whether containers could be started. Whoever does not use them needs no Docker.
async fn docker(config: &Config, dir: &DataDir) -> Vec<(&'static str, Finding)> {
    let kind = match dir.kind() {
        Ok(kind) => kind.unwrap_or_else(|| config.backends.kind.clone()),
        Err(error) => {
            let failure = Failure::from(error);
            return vec![("backends", Fail(failure.sentence, failure.hint))];
        }
    };
    let needed = kind == "containers";
    let engine = match Engine::ask().await {
        Ok(engine) => engine,
        Err(trouble) if needed => {
            let failure = Failure::from(StackError::from(trouble));
            return vec![("docker", Fail(failure.sentence, failure.hint))];
        }
        Err(trouble) => {
            let text = format!("{trouble} (only `--backends containers` needs it)");
            return vec![("docker", Finding::Ok(text))];
        }
    };
    let mut findings = vec![("docker", Finding::Ok(format!("{} answers", engine.version)))];
    let mut missing = Vec::new();
    for server in images::SERVERS {
        let image = images::pinned(server);
        let chosen = images::named(&config.image, server);
        if image.present(engine.docker(), chosen).await.is_none() {
            missing.push(server);
        }
    }
    findings.push((
        "images",
        match &*missing {
            [] => Finding::Ok("all are here".to_owned()),
            missing => Finding::Ok(format!("{} would be pulled", missing.join(", "))),
        },
    ));
    if needed {
        findings.push((
            "containers",
            match Containers::list(dir).await {
                Ok(all) => servers_in(&all, &dir.running()),
                Err(error) => {
                    let failure = Failure::from(error);
                    Fail(failure.sentence, failure.hint)
                }
            },
        ));
    }
    findings
}

/// Whether there is what a stack needs, if one runs, and nothing that a killed one left, if not.
fn servers_in(all: &[Container], running: &Running) -> Finding {
    let runs = matches!(running, Running::Up(_) | Running::Roles(_));
    let each: Vec<String> = all.iter().map(|one| format!("{} {}", one.server, one.state)).collect();
    let each = if all.is_empty() { "none".to_owned() } else { each.join(", ") };
    let is_up =
        |server: &&str| all.iter().any(|one| one.server == *server && one.state == "running");
    let lacking: Vec<&str> = images::SERVERS.into_iter().filter(|server| !is_up(server)).collect();
    if runs && !lacking.is_empty() {
        let text = format!("{each}; not running: {}", lacking.join(", "));
        let hint = if all.iter().any(|one| one.kept) {
            "`docker start` or `chirp down` and `chirp up` bring back what was kept"
        } else {
            "`docker start` brings one back; `chirp down` removes all of them with their data"
        };
        return Fail(text, hint.to_owned());
    }
    if *running == Running::Nothing && all.iter().any(|one| !one.kept) {
        let text = format!("{each}, and nothing runs that uses them");
        return Warn(text, "`chirp down` removes what a killed stack left".to_owned());
    }
    Finding::Ok(each)
}

async fn state(config: &Config, dir: &DataDir) -> Vec<(&'static str, Finding)> {
    let mut findings = instances(config, dir).await;
    let used_with = dir.kind().ok().flatten();
    let kind = config.backends.kind.as_str();
    match (used_with.as_deref(), config.backends.external()) {
        // What `--backends` said, which is asked above.
        (Some("containers"), false) => {}
        (Some(found), external) if found != kind && (external || found == "external") => {
            if let Err(error) = dir.check_kind(kind) {
                let failure = Failure::from(error);
                findings.push(("stores", Fail(failure.sentence, failure.hint)));
            }
        }
        (_, true) => findings.extend(servers(config).await),
        (_, false) if dir.running() == Running::Nothing => {
            findings.push(("stores", stores(dir).await));
        }
        (_, false) => {}
    }
    findings
}

async fn instances(config: &Config, dir: &DataDir) -> Vec<(&'static str, Finding)> {
    match dir.running() {
        Running::Nothing => {
            let mut findings = vec![("instance", Finding::Ok("nothing runs".to_owned()))];
            for (name, address, port) in [
                ("port", config.up.address, config.up.port),
                ("admin port", Ipv4Addr::LOCALHOST.into(), config.up.admin_port),
            ] {
                let port = u16::try_from(port).unwrap_or(u16::MAX);
                findings.push((name, free_port(SocketAddr::new(address, port)).await));
            }
            findings
        }
        Running::Starting => {
            let hint = "ask again in a moment".to_owned();
            vec![("instance", Warn("starts or stops".to_owned(), hint))]
        }
        Running::Up(run) => instance("chirp up", run.admin).await,
        Running::Roles(runs) => {
            let lacking = dir.lacking(&runs);
            let asked = runs.iter().map(|(role, run)| instance(role.as_str(), run.admin));
            let mut findings: Vec<_> = join_all(asked).await.into_iter().flatten().collect();
            findings.extend(lacking.into_iter().map(|(role, count)| {
                let text = format!("{count} of the processes of `{}` do not run", role.as_str());
                ("instance", Fail(text, "`chirp logs` may say why".to_owned()))
            }));
            findings
        }
    }
}

/// Whether the servers of the configuration answer, with schemas that this program knows.
async fn servers(config: &Config) -> Vec<(&'static str, Finding)> {
    let schemas = [("users", Role::User), ("tweets", Role::Tweet), ("cassandra", Role::Timeline)];
    let schemas =
        join_all(schemas.map(|(name, role)| async move { (name, schema(config, role).await) }));
    let (mut findings, others) = futures_util::join!(schemas, offline::look(config));
    findings.extend(others.into_iter().map(|(name, look)| (name, other(config, name, look))));
    findings
}

async fn schema(config: &Config, role: Role) -> Finding {
    match Box::pin(migrate::check(config, &TokioRuntime::handle(), &[role])).await {
        Ok(behind) if behind.is_empty() => {
            Finding::Ok("answers, with the schema of this version".to_owned())
        }
        Ok(behind) => {
            let names: Vec<String> = behind.into_iter().map(|lacking| lacking.store).collect();
            let text = format!("the schema is behind: {}", names.join(", "));
            if config.backends.migrate {
                let hint = "the next start takes the steps, or `chirp migrate`".to_owned();
                return Warn(text, hint);
            }
            Fail(text, "`chirp migrate` takes the steps".to_owned())
        }
        Err(error) => {
            let failure = Failure::from(error);
            Fail(failure.sentence, failure.hint)
        }
    }
}

/// What the answer of the caches, the bus or the bucket means for a start.
fn other(config: &Config, name: &str, look: Look) -> Finding {
    match look {
        Look::Ready => Finding::Ok("answers".to_owned()),
        Look::Unmade if !config.aws.ensure => {
            let hint = "make what it lacks, or set `aws.ensure`".to_owned();
            Fail("answers, and lacks what roles need".to_owned(), hint)
        }
        Look::Unmade if name == "bucket" && !config.backends.migrate => {
            let hint = "`chirp migrate` makes it".to_owned();
            Warn("is not there, and no start makes it".to_owned(), hint)
        }
        Look::Unmade => Finding::Ok("answers; what it lacks is made by the first start".to_owned()),
        Look::Untold => {
            let hint = "who may list it may ask; roles need only its objects".to_owned();
            Warn("may not be asked whether it is there".to_owned(), hint)
        }
        Look::Refused(why) => {
            Fail(why, "`chirp config show` says where it is looked for, and as whom".to_owned())
        }
    }
}

async fn stores(dir: &DataDir) -> Finding {
    match Box::pin(offline::check(dir)).await {
        Ok(true) => Finding::Ok("open, whole, and of this version".to_owned()),
        Ok(false) => Finding::Ok("are made by the first start".to_owned()),
        Err(error) => {
            let failure = Failure::from(error);
            Fail(failure.sentence, failure.hint)
        }
    }
}

async fn free_port(address: SocketAddr) -> Finding {
    match bind(address).await {
        Ok(_) => Finding::Ok(format!("{address} is free")),
        Err(error) => {
            let failure = Failure::from(error);
            Warn(failure.sentence, failure.hint)
        }
    }
}

async fn instance(name: &str, admin: SocketAddr) -> Vec<(&'static str, Finding)> {
    let silent = |failure: Failure| {
        vec![("instance", Fail(format!("`{name}`: {}", failure.sentence), failure.hint))]
    };
    let ready = match ask(admin, "/readyz").await {
        Ok(answer) => answer,
        Err(failure) => return silent(failure),
    };
    let instance = if ready.status == 200 {
        Finding::Ok(format!("`{name}` is ready, admin on {admin}"))
    } else {
        let text = String::from_utf8_lossy(&ready.body).trim().to_owned();
        Warn(format!("`{name}`: {text}"), "`chirp logs` may say why".to_owned())
    };
    let queues: Option<Queues> = match ask(admin, "/queues").await {
        Ok(answer) => answer.json(),
        Err(failure) => return silent(failure),
    };
    let queues = queues.map_or_else(
        || Fail("cannot be read".to_owned(), "`chirp logs` may say why".to_owned()),
        |queues| queue_health(&queues),
    );
    vec![("instance", instance), ("queues", queues)]
}

fn queue_health(queues: &Queues) -> Finding {
    let parked: u64 = queues.lanes.iter().map(|lane| lane.parked).sum();
    if parked > 0 {
        let hint = "`curl -X POST` the admin listener's /redrive once their cause is mended";
        return Warn(format!("{parked} messages are parked"), hint.to_owned());
    }
    let lanes = queues.lanes.iter().map(|lane| lane.oldest_ms);
    let oldest = lanes.chain(queues.outboxes.iter().map(|outbox| outbox.lag_ms)).max();
    match oldest.unwrap_or(0) {
        late if late > LAG_WARN_MS => {
            let hint = "`chirp logs` may say what a worker cannot reach".to_owned();
            Warn(format!("the oldest message waits for {} s", late / 1000), hint)
        }
        _ => Finding::Ok("nothing is late, nothing is parked".to_owned()),
    }
}
