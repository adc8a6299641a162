//! The servers of `chirp up --backends containers`, as the engine's own client tells of them.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use chirp::config::{self, Config, Secret};

use crate::cpu::{cpu_s, tree_cpu_s};

/// The database's user and password, as `infra/images.toml` has them.
const POSTGRES: &str = "chirp";
/// Statements of one call that are in work at once while data is loaded.
const LOADED_AT_ONCE: u64 = 128;
/// How long a statement may take while data is loaded, in milliseconds: the server compacts meanwhile.
const LOADED_MS: u64 = 20_000;

/// A server in a container.
#[derive(Clone)]
pub(crate) struct Container {
    /// What runs in it: `postgres`, `redis`, `cassandra`, `ministack`.
    pub(crate) name: String,
    pub(crate) id: String,
    pub(crate) image: String,
    /// Its port on 127.0.0.1.
    pub(crate) port: u16,
    /// Its first process.
    pid: u32,
    /// The engine's processes that pass on what comes to the port.
    proxies: Vec<u32>,
}

/// The servers of a stack.
pub(crate) struct Servers {
    all: Vec<Container>,
    /// Leads to them.
    pub(crate) config: Config,
}

impl Servers {
    /// Those of the stack over the data folder `dir`.
    pub(crate) fn of(dir: &Path) -> Self {
        let dir = dir.canonicalize().unwrap();
        let ours = format!("label=chirp.folder={}", dir.display());
        let found = docker(&["ps", "--no-trunc", "--quiet", "--filter", &ours], &[]);
        let all: Vec<Container> = found.lines().map(Container::of).collect();
        let mut servers = Self { all, config: Config::default() };
        let port = |name: &str| servers.get(name).port;
        let postgres = config::Postgres {
            port: port("postgres"),
            user: POSTGRES.to_owned(),
            password: Secret(POSTGRES.to_owned()),
            tls: "disable".to_owned(),
            ..config::Postgres::default()
        };
        let aws = config::Aws {
            endpoint: format!("http://127.0.0.1:{}", port("ministack")),
            access_key_id: "test".to_owned(),
            access_key_secret: Secret("test".to_owned()),
            ..config::Aws::default()
        };
        let mut config = Config { postgres, aws, ..Config::default() };
        config.redis.addresses = format!("127.0.0.1:{}", port("redis"));
        config.cassandra.addresses = format!("127.0.0.1:{}", port("cassandra"));
        servers.config = config;
        servers
    }

    /// As [`Self::config`], with time for loading much at once.
    pub(crate) fn patient(&self) -> Config {
        let mut config = self.config.clone();
        config.cassandra.call_ms = LOADED_MS;
        config.cassandra.in_flight_max = LOADED_AT_ONCE;
        config
    }

    pub(crate) fn get(&self, name: &str) -> &Container {
        self.all.iter().find(|container| container.name == name).expect("all four run")
    }

    pub(crate) fn all(&self) -> &[Container] {
        &self.all
    }

    /// Bytes that Redis uses.
    pub(crate) fn redis_bytes(&self) -> f64 {
        let info = docker(&["exec", &self.get("redis").id, "redis-cli", "info", "memory"], &[]);
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
        line.trim().parse().unwrap()
    }

    /// Runs `sql` in `database`, with `input` for a `copy`.
    pub(crate) fn sql(&self, database: &str, sql: &str, input: &[u8]) {
        let (password, id) = (format!("PGPASSWORD={POSTGRES}"), &self.get("postgres").id);
        let client = ["psql", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-U", POSTGRES];
        let mut words = vec!["exec", "-i", "-e", &password, id];
        words.extend(client);
        words.extend(["-d", database, "-c", sql]);
        docker(&words, input);
    }
}

impl Container {
    fn of(id: &str) -> Self {
        const SHOWN: &str = "{{.State.Pid}} {{.Config.Image}} \
            {{index .Config.Labels \"chirp.server\"}} {{index .Config.Labels \"chirp.port\"}}";
        let shown = docker(&["inspect", "--format", SHOWN, id], &[]);
        let [pid, image, name, port] = shown.split_whitespace().collect::<Vec<_>>()[..] else {
            panic!("not a container of chirp: {shown}");
        };
        let port = port.parse().unwrap();
        let (name, id, image) = (name.to_owned(), id.to_owned(), image.to_owned());
        Self { name, id, image, port, pid: pid.parse().unwrap(), proxies: proxies(port) }
    }

    /// Processor seconds of its processes so far.
    pub(crate) fn cpu_s(&self) -> f64 {
        tree_cpu_s(self.pid)
    }

    /// Processor seconds of what passes on to its port.
    pub(crate) fn proxy_cpu_s(&self) -> f64 {
        self.proxies.iter().map(|pid| cpu_s(&pid.to_string())).sum()
    }
}

/// The processes that pass on what comes to `port`: none if the kernel does it.
fn proxies(port: u16) -> Vec<u32> {
    let passes_on = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|&byte| byte == 0).collect();
        let port = port.to_string();
        words[0].ends_with(b"docker-proxy")
            && words.windows(2).any(|two| two[0] == b"-host-port" && two[1] == port.as_bytes())
    };
    let pids = fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str().and_then(|name| name.parse().ok()));
    pids.filter(passes_on).collect()
}

/// Runs the engine's client and gives what it prints.
pub(crate) fn docker(words: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("docker")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || drop(pipe.write_all(input)));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "docker {} failed", words[0]);
    String::from_utf8(output.stdout).unwrap()
}
