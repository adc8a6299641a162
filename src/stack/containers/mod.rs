//! `PostgreSQL`, Redis, Cassandra and an emulator of AWS in containers, for as long as a stack runs.
//!
//! [`start`] brings them up side by side on free ports of 127.0.0.1, waits until each answers its
//! protocol, and gives the configuration that leads to them. They are found again and removed by
//! label ([`docker`]): by the stack at its end, by the [`reaper`] if it was killed, by the next `up`
//! or `down` if both were. With `up.reuse` they stay, with their data, for the next start.

pub mod answers;
pub mod docker;
pub mod images;
pub mod reaper;
mod trouble;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use parking_lot::Mutex;
use testcontainers::{ImageExt as _, runners::AsyncRunner as _};

pub use docker::{Container, Engine};
pub use trouble::Trouble;

use self::{images::Image, reaper::Reaper};
use super::{
    DataDir, StackError,
    kind::Known,
    up::{Phase, Progress},
};
use crate::{
    adapters::{endpoint::Endpoint, postgres::server::create_databases},
    config::{self, Config, Secret},
    rt::{Shutdown, tokio_rt::TokioRuntime},
};

/// The pause between two questions to a server that does not answer yet.
const PAUSE: Duration = Duration::from_millis(100);
/// After so many questions it is looked whether the container still runs.
const QUESTIONS: u32 = 10;
/// Without whose data nothing begins: the others' are derived from it, but for pictures.
const TRUTH: &str = "postgres";
/// How often another port is tried when the free one was taken before the engine had it.
const PORTS_MAX: u32 = 3;
/// How much of what an ended container said last is told, in bytes.
const LAST_WORDS_MAX: usize = 300;

/// The containers of a running stack.
#[derive(Debug)]
pub struct Containers {
    engine: Engine,
    stack: String,
    pid: String,
    kept: bool,
    /// Absent if they are kept.
    reaper: Option<Reaper>,
}

/// What a start goes by.
struct Plan<'a> {
    engine: Engine,
    config: &'a Config,
    progress: &'a Progress<'a>,
    known: Known,
    folder: String,
    pid: String,
    began: Instant,
    /// Who does not answer yet.
    waiting: Mutex<Vec<&'static str>>,
}

/// A server that answers.
struct Ready {
    server: &'static str,
    port: u16,
}

/// Starts the four servers for the folder `dir`, whose backends are `known`; `program` is this one.
/// Gives them with the configuration that leads to them.
///
/// # Errors
/// [`StackError::Containers`] or [`StackError::Stopped`]; what was started is removed, but for what an
/// earlier start has kept.
pub async fn start(
    config: &Config,
    dir: &DataDir,
    known: Known,
    program: &Path,
    progress: &Progress<'_>,
    told: &Shutdown,
) -> Result<(Containers, Config), StackError> {
    let began = Instant::now();
    let engine = Engine::ask().await?;
    let folder = place(dir);
    let pid = docker::own_pid();
    engine.refuse_copy(&known.stack, &folder).await?;
    engine.sweep(&known.stack, &folder).await?;
    let reaper = (!known.kept).then(|| Reaper::start(program, &known.stack, &pid)).transpose()?;
    let about = format!("{}, Docker {}", images::SERVERS.join(", "), engine.version);
    progress(Phase { name: "containers", about, took: began.elapsed() });
    let plan = Plan {
        engine: engine.clone(),
        config,
        progress,
        known: known.clone(),
        folder,
        pid: pid.clone(),
        began,
        waiting: Mutex::new(images::SERVERS.to_vec()),
    };
    let limit = config.up.containers_timeout();
    let all = told.run_until_cancelled(tokio::time::timeout(limit, plan.all())).await;
    let ended = match all {
        None => Err(StackError::Stopped),
        Some(Err(_)) => {
            let servers = plan.waiting.lock().clone();
            Err(Trouble::Late { servers, after: limit }.into())
        }
        Some(Ok(ended)) => ended.map_err(StackError::from),
    };
    let ended = ended.and_then(|config| dir.claim_made(&plan.known).map(|()| config));
    let containers = Containers { engine, stack: known.stack, pid, kept: known.kept, reaper };
    match ended {
        Ok(config) => Ok((containers, config)),
        Err(error) => {
            containers.take_back().await;
            Err(error)
        }
    }
}

/// Where the folder is, as its containers carry it.
fn place(dir: &DataDir) -> String {
    let root = std::fs::canonicalize(dir.root()).unwrap_or_else(|_| dir.root().to_owned());
    root.to_string_lossy().into_owned()
}

impl Containers {
    /// What there is, as the engine sees it.
    ///
    /// # Errors
    /// [`Trouble`].
    pub async fn list(dir: &DataDir) -> Result<Vec<Container>, StackError> {
        let Some(known) = dir.known()? else { return Ok(Vec::new()) };
        if known.kind != "containers" {
            return Ok(Vec::new());
        }
        Ok(Engine::ask().await?.find(&[(docker::STACK, &known.stack)]).await?)
    }

    /// Removes what belongs to a folder on which nothing runs: with `kept` also what stays after the
    /// end. Gives how many there were.
    ///
    /// # Errors
    /// [`Trouble`], also if there is nothing to remove but the engine does not answer.
    pub async fn remove_of(dir: &DataDir, kept: bool) -> Result<usize, StackError> {
        let Some(known) = dir.known()?.filter(|known| known.kind == "containers") else {
            return Ok(0);
        };
        let engine = Engine::ask().await?;
        if matches!(engine.refuse_copy(&known.stack, &place(dir)).await, Err(Trouble::Copy { .. }))
        {
            return Ok(0);
        }
        let mut all = engine.find(&[(docker::STACK, &known.stack)]).await?;
        all.retain(|container| kept || !container.kept);
        Ok(engine.remove(&all).await?)
    }

    /// Removes them, unless they are kept.
    pub async fn end(self) {
        if self.kept {
            return;
        }
        self.take_back().await;
    }

    /// Removes what this process made, also if it was to be kept: the start has failed.
    pub(super) async fn take_back(self) {
        let own = [(docker::STACK, &*self.stack), (docker::PID, &*self.pid)];
        let removed = match self.engine.find(&own).await {
            Ok(own) => self.engine.remove(&own).await.map(|_| own.len()),
            Err(trouble) => Err(trouble),
        };
        match removed {
            Err(trouble) => {
                // The reaper tries once more when this process ends; what it cannot remove either is
                // removed by the next `up` or `down` on the folder.
                tracing::warn!(%trouble, stack = %self.stack, "containers could not be removed");
            }
            Ok(count) if count == images::SERVERS.len() => {
                let Some(reaper) = self.reaper else { return };
                drop(tokio::task::spawn_blocking(|| reaper.done()).await);
            }
            // A start that was cut off: one may still be being made. The reaper's pipe closes now.
            Ok(_) => {}
        }
    }
}

impl Plan<'_> {
    /// Starts all, waits for all, and makes the databases.
    async fn all(&self) -> Result<Config, Trouble> {
        self.look_what_is_left().await?;
        let ports = free_ports().map_err(|why| no_port(images::SERVERS[0], &why))?;
        let servers = images::SERVERS.into_iter().zip(ports);
        let ready = try_join_all(servers.map(|(server, port)| self.one(server, port))).await?;
        let config = ready.iter().fold(self.config.clone(), |config, ready| ready.leads(config));
        let postgres = Endpoint::configured(&TokioRuntime::handle(), &config.postgres);
        create_databases(&postgres)
            .await
            .map_err(|error| Trouble::Start { server: "postgres", why: error.to_string() })?;
        Ok(config)
    }

    /// Refuses to begin with empty truth beside what was derived from another, and tells of other
    /// containers that were kept and are gone.
    async fn look_what_is_left(&self) -> Result<(), Trouble> {
        if !self.known.made {
            return Ok(());
        }
        let left = self.engine.find(&[(docker::STACK, &self.known.stack)]).await?;
        let gone = |server: &str| left.iter().all(|one| one.server != server);
        if gone(TRUTH) {
            return Err(Trouble::Gone { server: TRUTH });
        }
        for name in images::SERVERS.into_iter().filter(|server| gone(server)) {
            let about = match name {
                "redis" => "a new one fills as it is read",
                "ministack" => "pictures are lost; `chirp replay` fills the queues",
                _ => "a new one is empty until `chirp replay`",
            };
            let about = format!("was kept and is gone: {about}");
            (self.progress)(Phase { name, about, took: self.began.elapsed() });
        }
        Ok(())
    }

    async fn one(&self, server: &'static str, port: u16) -> Result<Ready, Trouble> {
        let began = Instant::now();
        let image = images::pinned(server);
        let (id, name, port, how) = match self.kept(server, &image).await? {
            Some(found) => (found.id, found.image, found.port.unwrap_or(port), "kept, "),
            None => self.make(server, &image, port).await?,
        };
        self.until_it_answers(server, &id, port).await?;
        self.waiting.lock().retain(|waiting| *waiting != server);
        let name = name.rsplit('/').next().unwrap_or(&name);
        let about = format!("{how}{name} on {port} answers {}", answers::question(server));
        (self.progress)(Phase { name: server, about, took: began.elapsed() });
        Ok(Ready { server, port })
    }

    /// The container of `server` that an earlier start has kept, running.
    async fn kept(
        &self,
        server: &'static str,
        image: &Image,
    ) -> Result<Option<Container>, Trouble> {
        if !self.known.kept {
            return Ok(None);
        }
        let labels = [(docker::STACK, &*self.known.stack), (docker::SERVER, server)];
        let Some(found) = self.engine.find(&labels).await?.into_iter().next() else {
            return Ok(None);
        };
        let chosen = images::named(&self.config.image, server);
        if found.recipe != image.recipe(server) || !image.is_one(&found.image, chosen) {
            return Err(Trouble::Changed { server });
        }
        let docker = self.engine.docker();
        let started = match &*found.state {
            "running" => Ok(()),
            "paused" => docker.unpause_container(&found.id).await,
            _ => docker.start_container(&found.id, None).await,
        };
        match started {
            Ok(()) => Ok(Some(found)),
            Err(error) => Err(Trouble::Start { server, why: error.to_string() }),
        }
    }

    /// Makes and starts the container of `server`: its id, its image, its port, and nothing to add.
    async fn make(
        &self,
        server: &'static str,
        image: &Image,
        port: u16,
    ) -> Result<(String, String, u16, &'static str), Trouble> {
        let chosen = images::named(&self.config.image, server);
        let pulling = |name: &str| {
            let about = format!("pulls {name}");
            (self.progress)(Phase { name: server, about, took: self.began.elapsed() });
        };
        let chosen = image.choose(self.engine.docker(), server, chosen, pulling).await?;
        let mut port = port;
        for attempt in 1.. {
            let request = image
                .request(server, &chosen, port)
                .with_label(docker::STACK, &self.known.stack)
                .with_label(docker::FOLDER, &self.folder)
                .with_label(docker::PID, &self.pid)
                .with_label(docker::SERVER, server)
                .with_label(docker::PORT, port.to_string())
                .with_label(docker::RECIPE, image.recipe(server))
                .with_label(docker::KEPT, self.known.kept.to_string());
            match request.start().await {
                Ok(container) => {
                    let id = container.id().to_owned();
                    // Its drop would remove it, holding up a thread; labels do that everywhere.
                    std::mem::forget(container);
                    return Ok((id, chosen, port, ""));
                }
                Err(error) => {
                    let trouble = Trouble::of_start(server, &error);
                    if !trouble.is_port_taken() || attempt == PORTS_MAX {
                        return Err(trouble);
                    }
                }
            }
            let labels = [
                (docker::STACK, &*self.known.stack),
                (docker::PID, &*self.pid),
                (docker::SERVER, server),
            ];
            self.engine.remove(&self.engine.find(&labels).await?).await?;
            [port, ..] = free_ports().map_err(|why| no_port(server, &why))?;
        }
        unreachable!("the last attempt returns")
    }

    async fn until_it_answers(
        &self,
        server: &'static str,
        id: &str,
        port: u16,
    ) -> Result<(), Trouble> {
        loop {
            for _ in 0..QUESTIONS {
                if answers::answers(server, port).await {
                    return Ok(());
                }
                tokio::time::sleep(PAUSE).await;
            }
            self.engine.must_run(server, id).await?;
        }
    }
}

impl Engine {
    /// Refuses a container that does not run.
    async fn must_run(&self, server: &'static str, id: &str) -> Result<(), Trouble> {
        let found = self.docker().inspect_container(id, None).await;
        let state = found.map_err(|error| Trouble::of_docker(&error))?.state.unwrap_or_default();
        if state.running == Some(true) {
            return Ok(());
        }
        let last = self.last_words(id).await;
        let code = state.exit_code.unwrap_or_default();
        let why = if last.is_empty() { format!("exit code {code}") } else { last };
        Err(Trouble::Ended { server, why })
    }

    /// The end of what a container has said.
    async fn last_words(&self, id: &str) -> String {
        use futures_util::StreamExt as _;
        use testcontainers::bollard::query_parameters::LogsOptionsBuilder;
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("5").build();
        let said: Vec<_> = self.docker().logs(id, Some(options)).collect().await;
        let said: Vec<String> = said.into_iter().flatten().map(|line| line.to_string()).collect();
        let said = said.concat();
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        let begin = words.len().saturating_sub(LAST_WORDS_MAX);
        words[words.ceil_char_boundary(begin)..].to_owned()
    }
}

impl Ready {
    /// `config`, leading to this server.
    fn leads(&self, mut config: Config) -> Config {
        let port = self.port;
        "external".clone_into(&mut config.backends.kind);
        match self.server {
            "postgres" => {
                let environment = images::pinned("postgres").environment;
                let of = |key: &str| environment.get(key).cloned().unwrap_or_default();
                config.postgres = config::Postgres {
                    host: "127.0.0.1".to_owned(),
                    port,
                    user: of("POSTGRES_USER"),
                    password: Secret(of("POSTGRES_PASSWORD")),
                    password_file: PathBuf::new(),
                    // On this machine's loopback, and the images have no certificate.
                    tls: "disable".to_owned(),
                    ..config.postgres
                };
            }
            "redis" => {
                config.redis = config::Redis {
                    addresses: format!("127.0.0.1:{port}"),
                    cluster: false,
                    tls: false,
                    username: String::new(),
                    password: Secret::default(),
                    password_file: PathBuf::new(),
                    wait_replicas: 0,
                    ..config.redis
                };
            }
            "cassandra" => {
                config.cassandra = config::Cassandra {
                    addresses: format!("127.0.0.1:{port}"),
                    tls: false,
                    username: String::new(),
                    password: Secret::default(),
                    password_file: PathBuf::new(),
                    ..config.cassandra
                };
            }
            _ => {
                config.aws = config::Aws {
                    endpoint: format!("http://127.0.0.1:{port}"),
                    // The pair that it knows: it refuses a URL that was signed with another.
                    access_key_id: "test".to_owned(),
                    access_key_secret: Secret("test".to_owned()),
                    ..config.aws
                };
            }
        }
        config
    }
}

fn no_port(server: &'static str, why: &std::io::Error) -> Trouble {
    Trouble::Start { server, why: format!("no port is free: {why}") }
}

/// Ports that are free now, all different. Another process may take one before the engine does.
fn free_ports() -> std::io::Result<[u16; 4]> {
    let held: Vec<TcpListener> = images::SERVERS
        .iter()
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<std::io::Result<_>>()?;
    let mut ports = [0; 4];
    for (port, held) in ports.iter_mut().zip(&held) {
        *port = held.local_addr()?.port();
    }
    Ok(ports)
}
