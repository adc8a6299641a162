//! Four servers, each behind a proxy, and every role as processes of its own over them.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chirp::{config::Postgres, stack::data_dir::RunFile, wire::routes::Role};
use tempfile::TempDir;

use crate::{
    judge::api::Api,
    support::{
        proxy::Proxy,
        server::{Container, free_ports},
        servers::{Ports, Servers},
    },
    table::Store,
};

/// A process that is not ready after this has failed: the first waits for Cassandra and its tables.
const READY_MAX: Duration = Duration::from_mins(3);
const LOOK: Duration = Duration::from_millis(50);
/// The name of the stack's databases, keys and topics.
const NAME: &str = "matrix";

/// How many processes each role has: what one of two cannot answer, the other does.
const PROCESSES: [(Role, usize); 4] =
    [(Role::Gateway, 1), (Role::User, 2), (Role::Tweet, 2), (Role::Timeline, 2)];

/// Settings of the processes: cheap hashing, limits that nobody meets by accident, and fan-outs of
/// many parts for an author with few followers.
const ENV: [(&str, &str); 8] = [
    ("CHIRP_AUTH_ARGON2_MEMORY_KIB", "8"),
    ("CHIRP_AUTH_ARGON2_PASSES", "1"),
    ("CHIRP_HTTP_USER_CALLS_PER_MINUTE", "100000000"),
    ("CHIRP_HTTP_ADDRESS_CALLS_PER_MINUTE", "100000000"),
    ("CHIRP_HTTP_ADDRESS_LOGINS_PER_MINUTE", "100000000"),
    ("CHIRP_FANOUT_INLINE_FOLLOWERS", "100"),
    ("CHIRP_FANOUT_CHUNK_FOLLOWERS", "50"),
    ("CHIRP_FANOUT_PAGE_FOLLOWERS", "50"),
];

/// Proxies between the processes and the servers.
pub struct Proxies {
    postgres: Proxy,
    redis: Proxy,
    cassandra: Proxy,
    ministack: Proxy,
}

/// Everything. Dropped, processes are killed and containers removed.
pub struct Stack {
    processes: Vec<(Role, Child)>,
    pub servers: Servers,
    proxies: Proxies,
    folder: TempDir,
    /// The gateway is always found at the same place.
    pub address: SocketAddr,
    /// Past the proxy.
    pub postgres: Postgres,
}

impl Stack {
    /// Starts everything and waits until every process is ready.
    pub async fn start() -> Result<Self, String> {
        let servers = Servers::start().await?;
        let before = Proxy::before;
        let ports = servers.ports();
        let proxies = Proxies {
            postgres: before(ports.postgres),
            redis: before(ports.redis),
            cassandra: before(ports.cassandra),
            ministack: before(ports.ministack),
        };
        let postgres = ports.databases(NAME).await?;
        let mut stack = Self {
            processes: Vec::new(),
            servers,
            proxies,
            folder: tempfile::Builder::new().prefix("chirp-matrix-").tempdir().unwrap(),
            address: SocketAddr::from(([127, 0, 0, 1], free_ports(1)[0])),
            postgres,
        };
        for (role, count) in PROCESSES {
            (0..count).for_each(|_| stack.spawn(role));
        }
        stack.ready().await?;
        Ok(stack)
    }

    pub fn container(&self, store: Store) -> &Container {
        match store {
            Store::Postgres => &self.servers.postgres,
            Store::Redis => &self.servers.redis,
            Store::Cassandra => &self.servers.cassandra,
            Store::Ministack => &self.servers.ministack,
        }
    }

    pub fn proxy(&self, store: Store) -> &Proxy {
        match store {
            Store::Postgres => &self.proxies.postgres,
            Store::Redis => &self.proxies.redis,
            Store::Cassandra => &self.proxies.cassandra,
            Store::Ministack => &self.proxies.ministack,
        }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A command of the program on this stack's folder.
    fn chirp(&self, args: &[&str]) -> Command {
        let proxies = &self.proxies;
        let ports = Ports {
            postgres: proxies.postgres.port,
            redis: proxies.redis.port,
            cassandra: proxies.cassandra.port,
            ministack: proxies.ministack.port,
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHIRP_") {
                command.env_remove(name);
            }
        }
        command.args(args).arg("--data-dir").arg(self.data());
        command.envs(ENV).envs(ports.environment(NAME)).stdin(Stdio::null());
        command
    }

    /// Starts one more process of `role`.
    pub fn spawn(&mut self, role: Role) {
        let port = if role == Role::Gateway { self.address.port() } else { 0 };
        let talk = self.folder.path().join(format!("{role}.stderr"));
        let talk = File::options().create(true).append(true).open(talk).unwrap();
        let args = ["serve", "--role", role.as_str(), "--port", &port.to_string()];
        let child = self.chirp(&args).stdout(Stdio::null()).stderr(talk).spawn().unwrap();
        self.processes.push((role, child));
    }

    /// SIGKILL to one process of `role`.
    pub fn kill(&mut self, role: Role) {
        let at = self.processes.iter().position(|(other, _)| *other == role).unwrap();
        let (_, mut child) = self.processes.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Publishes again what was committed since `since_ms`.
    pub async fn replay(&self, since_ms: u64) -> Result<(), String> {
        let mut command = self.chirp(&["replay", "--since", &since_ms.to_string()]);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("replay: {said}")) }
    }

    /// The admin listener of every process that says where it is.
    pub fn admins(&self) -> Vec<SocketAddr> {
        let ours: BTreeSet<u32> = self.processes.iter().map(|(_, child)| child.id()).collect();
        let files = fs::read_dir(self.data().join("run")).into_iter().flatten().flatten();
        let runs = files.filter(|file| file.path().extension().is_some_and(|e| e == "json"));
        let runs =
            runs.filter_map(|file| serde_json::from_slice(&fs::read(file.path()).ok()?).ok());
        runs.filter(|run: &RunFile| ours.contains(&run.pid)).map(|run| run.admin).collect()
    }

    /// Waits until every process is ready.
    pub async fn ready(&mut self) -> Result<(), String> {
        let began = Instant::now();
        let mut last = String::new();
        while began.elapsed() < READY_MAX {
            let mut ended = self.processes.iter_mut();
            let ended = ended.find_map(|(role, child)| Some((*role, child.try_wait().unwrap()?)));
            if let Some((role, status)) = ended {
                return Err(format!("{role} ended with {status}: {}", self.last_words(role)));
            }
            let admins = self.admins();
            let mut ready = admins.len() == self.processes.len();
            for admin in admins {
                if let Err(why) = Api::new(admin).get("/readyz", "").await {
                    (ready, last) = (false, format!("{why:?}"));
                }
            }
            if ready {
                return Ok(());
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!("not ready after {READY_MAX:?}: {last}"))
    }

    fn last_words(&self, role: Role) -> String {
        let text = fs::read_to_string(self.folder.path().join(format!("{role}.stderr")));
        let text = text.unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(4).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }

    /// Leaves the folder where it is, for whoever looks into a failure.
    pub fn keep(mut self) -> PathBuf {
        self.folder.disable_cleanup(true);
        self.folder.path().to_owned()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for (_, child) in &mut self.processes {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
