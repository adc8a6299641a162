//! A running stack with a data folder of its own, on free ports; gone when it is dropped. What then
//! still runs has to be well: no message is parked, every process ends cleanly, and no run file stays.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use chirp::{config::Config, stack::data_dir::RunFile, wire::routes::Role};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{Actor, Client, backends::servers::Ports, beneath, patience, within};

/// A stack over servers waits for its tables: many are made at once, by one Cassandra.
const READY_MAX: Duration = Duration::from_mins(3);

/// How many processes the stack has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// `chirp up`.
    OneProcess,
    /// `chirp serve`, once per role.
    PerRole,
}

/// Settings of every test: cheap hashing, and limits that nobody meets by accident.
const ENV: [(&str, &str); 5] = [
    ("CHIRP_AUTH_ARGON2_MEMORY_KIB", "8"),
    ("CHIRP_AUTH_ARGON2_PASSES", "1"),
    ("CHIRP_HTTP_USER_CALLS_PER_MINUTE", "1000000"),
    ("CHIRP_HTTP_ADDRESS_CALLS_PER_MINUTE", "1000000"),
    ("CHIRP_HTTP_ADDRESS_LOGINS_PER_MINUTE", "1000000"),
];

/// Bounds of a stack over servers that many scenarios share: far above what any of them needs.
const PATIENT: [(&str, &str); 12] = [
    ("CHIRP_UP_READY_TIMEOUT_MS", "180000"),
    ("CHIRP_HTTP_REQUEST_TIMEOUT_MS", "30000"),
    ("CHIRP_GATEWAY_ATTEMPT_TIMEOUT_MS", "25000"),
    ("CHIRP_POSTGRES_ACQUIRE_MS", "10000"),
    ("CHIRP_POSTGRES_STATEMENT_MS", "10000"),
    ("CHIRP_POSTGRES_LOCK_MS", "9000"),
    ("CHIRP_POSTGRES_CALL_MS", "20000"),
    ("CHIRP_CASSANDRA_CONNECT_TIMEOUT_MS", "10000"),
    ("CHIRP_CASSANDRA_CALL_MS", "10000"),
    ("CHIRP_REDIS_READ_TIMEOUT_MS", "5000"),
    ("CHIRP_REDIS_WRITE_TIMEOUT_MS", "5000"),
    ("CHIRP_AWS_ATTEMPT_MS", "10000"),
];

/// A running stack.
pub struct TestApp {
    pub shape: Shape,
    pub client: Client,
    /// The gateway.
    pub address: SocketAddr,
    /// The admin listener of the gateway's process.
    pub admin: SocketAddr,
    folder: TempDir,
    children: Vec<(&'static str, Child)>,
    env: Vec<(&'static str, String)>,
    /// Servers that scenarios share, and the name of this stack in them.
    servers: Option<(Ports, String)>,
    may_park: bool,
}

/// With this variable all scenarios run over data sets of one fan-out strategy.
const STRATEGY: &str = "CHIRP_TEST_STRATEGY";

/// The program, with nothing of the surrounding environment that concerns it.
pub fn chirp(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHIRP_") {
            command.env_remove(name);
        }
    }
    command.args(args).stdin(Stdio::null());
    command
}

/// Runs the program to its end, in `folder`.
pub fn run_in(folder: &Path, args: &[&str]) -> Output {
    chirp(args).current_dir(folder).output().unwrap()
}

impl TestApp {
    /// A stack with the settings of tests.
    pub async fn start(shape: Shape) -> Self {
        Self::start_with(shape, &[]).await
    }

    /// A stack with some variables of the environment changed.
    pub async fn start_with(shape: Shape, changed: &[(&'static str, &str)]) -> Self {
        let mut app = Self::prepare(shape, changed);
        app.launch().await;
        app
    }

    /// The same before its start, for those who put something into the data folder first.
    pub fn prepare(shape: Shape, changed: &[(&'static str, &str)]) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mut env: Vec<(&'static str, String)> =
            ENV.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        env.retain(|(name, _)| changed.iter().all(|(other, _)| other != name));
        env.extend(changed.iter().map(|(name, value)| (*name, (*value).to_owned())));
        let pinned = env.iter().any(|(name, _)| *name == "CHIRP_FANOUT_STRATEGY");
        if let Some(strategy) = std::env::var(STRATEGY).ok().filter(|_| !pinned) {
            env.push(("CHIRP_FANOUT_STRATEGY", strategy));
            // What is only read at read time, streams come to know by looking.
            env.push(("CHIRP_TIMELINE_STREAM_POLL_MS", "500".to_owned()));
        }
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let servers = Ports::shared().map(|ports| {
            let number = MADE.fetch_add(1, Ordering::Relaxed);
            (ports, format!("it_{}_{number}", std::process::id()))
        });
        if let Some((ports, name)) = &servers {
            env.extend(ports.environment(name));
            env.extend(PATIENT.map(|(name, value)| (name, value.to_owned())));
        }
        Self {
            shape,
            client: Client::default(),
            address: nowhere,
            admin: nowhere,
            folder: tempfile::tempdir().unwrap(),
            children: Vec::new(),
            env,
            servers,
            may_park: false,
        }
    }

    /// This scenario sends what cannot be understood: messages may be parked at its end.
    pub fn may_park(&mut self) {
        self.may_park = true;
    }

    /// Whether it has its data on servers instead of in files.
    pub fn over_servers(&self) -> bool {
        self.servers.is_some()
    }

    /// What leads to its servers, with time for everything.
    pub(super) fn beneath(&self) -> Option<Config> {
        let (ports, name) = self.servers.as_ref()?;
        let mut config = ports.config(name);
        config.cassandra.call_ms = READY_MAX.as_millis() as u64;
        config.postgres.call_ms = READY_MAX.as_millis() as u64;
        config.postgres.statement_ms = READY_MAX.as_millis() as u64;
        config.postgres.lock_ms = READY_MAX.as_millis() as u64;
        config.postgres.acquire_ms = READY_MAX.as_millis() as u64;
        Some(config)
    }

    /// The data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Runs a verb of the command line on this stack's data folder.
    pub fn runs(&self, args: &[&str]) -> Output {
        let data = self.data_dir();
        let all = [args, &["--data-dir", data.to_str().unwrap()]].concat();
        let mut command = chirp(&all);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path()).output().unwrap()
    }

    /// Ends every process as a power failure would, and starts them again.
    pub async fn crashes_and_comes_back(&mut self) {
        self.kill();
        self.launch().await;
    }

    /// Somebody signs up.
    pub async fn signs_up(&self, handle: &str) -> Actor {
        Actor::signs_up(self, handle).await
    }

    /// Where a role listens: public, admin. In one process there is only the gateway's.
    pub fn listeners(&self, role: Role) -> (SocketAddr, SocketAddr) {
        let data = self.data_dir();
        let file = match self.shape {
            Shape::OneProcess => data.join("run.json"),
            Shape::PerRole => data.join(format!("run/{role}.json")),
        };
        let run: RunFile = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        (run.address, run.admin)
    }

    /// The public listeners at which a route of `role` can be called.
    pub fn doors(&self, role: Role) -> Vec<SocketAddr> {
        match self.shape {
            Shape::OneProcess => vec![self.address],
            Shape::PerRole => vec![self.address, self.listeners(role).0],
        }
    }

    /// The admin listener of every process.
    pub fn admins(&self) -> Vec<SocketAddr> {
        match self.shape {
            Shape::OneProcess => vec![self.admin],
            Shape::PerRole => Role::ALL.iter().map(|role| self.listeners(*role).1).collect(),
        }
    }

    /// The sum of a metric over every process.
    pub async fn metric(&self, name: &str) -> u64 {
        let mut sum = 0;
        for admin in self.admins() {
            let answer = self.client.get(admin, "/metrics").await.unwrap().expect(200);
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            sum += values.map(|value| value.parse::<u64>().unwrap()).sum::<u64>();
        }
        sum
    }

    /// Asks every process to end, as `kill` does.
    pub fn asks_to_stop(&self) {
        for (_, child) in &self.children {
            kill_process(Pid::from_child(child), Signal::TERM).unwrap();
        }
    }

    /// Waits until every process has ended after [`Self::asks_to_stop`], well.
    pub async fn has_stopped(&mut self) {
        for (role, mut child) in self.children.drain(..) {
            let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
            let status = tokio::time::timeout(patience(), ended).await.expect("it ends").unwrap();
            assert!(status.success(), "{role}: {status}");
        }
    }

    pub async fn launch(&mut self) {
        self.has_databases().await;
        let roles: &[&'static str] = match self.shape {
            Shape::OneProcess => &["up"],
            Shape::PerRole => &["gateway", "user", "tweet", "timeline"],
        };
        for role in roles {
            let child = self.spawn(role);
            self.children.push((role, child));
        }
        let data = self.data_dir();
        let (file, pid) = match self.shape {
            Shape::OneProcess => (data.join("run.json"), self.children[0].1.id()),
            Shape::PerRole => (data.join("run/gateway.json"), self.children[0].1.id()),
        };
        let limit = if self.over_servers() { READY_MAX } else { patience() };
        let (file, folder, children) = (&file, self.folder.path(), &mut self.children);
        let run = within(limit, "the stack says where it is", || {
            for (role, child) in children.iter_mut() {
                // One that was refused says so at once.
                if child.try_wait().unwrap().is_some() {
                    let said = fs::read_to_string(folder.join(format!("{role}.stderr")));
                    panic!("`{role}` ended: {}", said.unwrap());
                }
            }
            async move {
                let run: RunFile = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
                (run.pid == pid).then_some(run)
            }
        });
        let run = run.await;
        (self.address, self.admin) = (run.address, run.admin);
        let client = self.client.clone();
        within(limit, "the stack is ready", || async {
            let answer = client.get(run.admin, "/readyz").await.ok()?;
            (answer.status == 200).then_some(())
        })
        .await;
    }

    /// Makes the databases of a stack over servers.
    pub async fn has_databases(&self) {
        if let Some((ports, name)) = &self.servers {
            ports.databases(name).await.unwrap();
        }
    }

    fn spawn(&self, role: &str) -> Child {
        let data = self.data_dir();
        let data = data.to_str().unwrap();
        let mut command = match role {
            "up" => chirp(&["up", "--port", "0", "--admin-port", "0", "--data-dir", data]),
            role => chirp(&["serve", "--role", role, "--port", "0", "--data-dir", data]),
        };
        let talk = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{role}.stderr")))
            .unwrap();
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(self.folder.path()).stdout(Stdio::null()).stderr(talk).spawn().unwrap()
    }

    fn kill(&mut self) {
        for (_, child) in &mut self.children {
            drop(child.kill());
        }
        for (_, mut child) in self.children.drain(..) {
            drop(child.wait());
        }
    }

    /// Which lanes have parked messages, if the queues can be asked at all.
    fn parked(&self) -> Vec<String> {
        let status: Value =
            serde_json::from_slice(&self.runs(&["status", "--json"]).stdout).unwrap_or_default();
        let processes = status["processes"].as_array().into_iter().flatten();
        let lanes: Vec<&Value> = processes
            .filter_map(|process| process["queues"]["lanes"].as_array())
            .flatten()
            .collect();
        if lanes.is_empty() {
            return vec![format!("no queue could be asked: {status}")];
        }
        let parked = lanes.iter().filter(|lane| lane["parked"] != 0);
        parked.map(|lane| format!("messages are parked: {lane}")).collect()
    }

    /// Ends every process as a signal does. Gives what did not end well, and what it left.
    fn ends(&mut self) -> Vec<String> {
        self.asks_to_stop();
        let began = Instant::now();
        let mut wrong = Vec::new();
        for (role, child) in &mut self.children {
            let mut ended = child.try_wait().unwrap();
            while ended.is_none() && began.elapsed() < patience() {
                std::thread::sleep(Duration::from_millis(5));
                ended = child.try_wait().unwrap();
            }
            if !ended.is_some_and(|status| status.success()) {
                wrong.push(format!("{role} did not end well: {ended:?}"));
            }
        }
        self.kill();
        let runs = Role::ALL.map(|role| format!("run/{role}.json"));
        let files = runs.iter().map(String::as_str).chain(["run.json"]);
        let left = files.filter(|file| self.data_dir().join(file).exists());
        wrong.extend(left.map(|file| format!("`{file}` is left")));
        wrong
    }

    /// Removes its keyspace: a server that holds those of every scenario is slow.
    fn leaves_its_servers(&self) {
        if let Some(config) = self.beneath() {
            // In a thread of its own, as a runtime blocks nobody who is in another.
            let drops = || {
                let runtime =
                    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(beneath::drop_keyspace(&config.cassandra));
            };
            std::thread::scope(|scope| drop(scope.spawn(drops).join()));
        }
    }

    /// What a failed scenario was told last.
    fn tells(&self) {
        let log = self.data_dir().join("logs/chirp.log");
        let talks = self.children.iter().map(|(role, _)| format!("{role}.stderr"));
        let files = talks.map(|name| self.folder.path().join(name)).chain([log]);
        for file in files {
            let text = fs::read_to_string(&file).unwrap_or_default();
            let last: Vec<&str> = text.lines().rev().take(30).collect();
            eprintln!("--- the end of {}", file.display());
            last.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tells();
            self.kill();
            return self.leaves_its_servers();
        }
        if self.children.is_empty() {
            return self.leaves_its_servers();
        }
        let mut wrong = if self.may_park { Vec::new() } else { self.parked() };
        wrong.extend(self.ends());
        self.leaves_its_servers();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
