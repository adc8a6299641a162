//! One container: which image, on which ports, under which label.
//!
//! Every container carries the label `chirp.stack=backends-PID-START`. It is removed when it is
//! dropped; what a run that was told to stop did not drop is removed by [`remove_all`], and what a
//! killed run left is removed by the next one ([`sweep`]).

use std::{
    io,
    net::TcpListener,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use chirp::stack::containers::{
    Engine,
    docker::born,
    images::{self, Image},
};

const LABEL: &str = "chirp.stack";
const KIND: &str = "backends";
/// Far above what a command takes on a busy machine: an engine that hangs fails the scenario.
const DOCKER_MAX: Duration = Duration::from_mins(2);
/// How often it is looked whether a command has ended.
const LOOK: Duration = Duration::from_millis(5);
/// Makes one server or a cluster of Redis in either image.
pub const REDIS_ENTRY: &str = include_str!("../../../infra/local-images/redis/entry.sh");

/// What to start. [`Order::of`] is the server as `images.toml` has it.
#[derive(Clone, Debug)]
pub struct Order {
    name: &'static str,
    image: Image,
    entrypoint: Option<&'static str>,
    /// Ports of the container, and where they are on 127.0.0.1.
    ports: Vec<(u16, u16)>,
}

impl Order {
    /// The server that `images.toml` calls `name`, its port mapped to a free one.
    pub fn of(name: &'static str) -> Self {
        let image = images::pinned(name);
        let port = free_ports(1)[0];
        let order = Self { name, ports: vec![(image.port, port)], image, entrypoint: None };
        match name {
            "redis" => order.runs(Some("sh"), ["-c", REDIS_ENTRY, "entry.sh", "single"]),
            // Queue addresses that clients get carry the port on the host, so it is the same inside.
            "ministack" => order.on(&[port]).with("GATEWAY_PORT", port.to_string()),
            _ => order,
        }
    }

    /// Listens on these ports inside, which are the same outside.
    pub fn on(mut self, ports: &[u16]) -> Self {
        self.ports = ports.iter().map(|&port| (port, port)).collect();
        self
    }

    /// With one more variable of the environment.
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.image.environment.insert(key.to_owned(), value.into());
        self
    }

    /// Runs this instead of what the image would.
    pub fn runs<'a>(
        mut self,
        entrypoint: Option<&'static str>,
        command: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.entrypoint = entrypoint;
        self.image.command = command.into_iter().map(str::to_owned).collect();
        self
    }

    /// Starts it. The port may listen some time before the server answers.
    pub async fn start(self) -> Result<Container, String> {
        let engine = Engine::ask().await.map_err(|trouble| trouble.to_string())?;
        let named = std::env::var(&self.image.chosen_by).unwrap_or_default();
        let chosen = self.image.choose(engine.docker(), self.name, &named, |_| {}).await;
        let chosen = chosen.map_err(|trouble| trouble.to_string())?;
        tokio::task::spawn_blocking(move || self.run(&chosen)).await.unwrap()
    }

    fn run(self, chosen: &str) -> Result<Container, String> {
        let mut args = vec!["run".to_owned(), "--detach".to_owned()];
        let mut flag = |name: &str, value: String| args.extend([name.to_owned(), value]);
        flag("--label", format!("{LABEL}={}", own()));
        for (inside, outside) in &self.ports {
            flag("--publish", format!("127.0.0.1:{outside}:{inside}"));
        }
        for (key, value) in &self.image.environment {
            flag("--env", format!("{key}={value}"));
        }
        if let Some(entrypoint) = self.entrypoint {
            flag("--entrypoint", entrypoint.to_owned());
        }
        args.push(chosen.to_owned());
        args.extend(self.image.command.iter().cloned());
        let id = said(&args).map_err(|why| format!("{chosen} does not start: {why}"))?;
        let ports: Vec<u16> = self.ports.iter().map(|&(_, outside)| outside).collect();
        Ok(Container { id, name: self.name, port: ports[0], ports, image: self.image })
    }
}

/// A running server. Dropped, it is removed.
#[derive(Debug)]
pub struct Container {
    id: String,
    name: &'static str,
    /// The ports on 127.0.0.1; the first is the server's own.
    pub port: u16,
    pub ports: Vec<u16>,
    /// What it was made of.
    pub image: Image,
}

impl Container {
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The end of what the server has said.
    pub fn logs(&self) -> String {
        let output = docker(&["logs", "--tail", "20", &self.id]).unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Err(why) = said(&["rm", "--force", "--volumes", &self.id]) {
            println!("a container of {} could not be removed: {why}", self.name);
        }
    }
}

/// Runs a command of Docker, which must succeed, and gives what it says.
pub fn docker_does(args: &[&str]) -> String {
    said(args).unwrap_or_else(|why| panic!("docker {args:?}: {why}"))
}

fn docker<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> io::Result<Output> {
    let mut command = Command::new("docker");
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, began) = (command.spawn()?, Instant::now());
    // What a command says here is far less than a pipe holds.
    while child.try_wait()?.is_none() {
        if began.elapsed() > DOCKER_MAX {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::other(format!("no end after {DOCKER_MAX:?}")));
        }
        thread::sleep(LOOK);
    }
    child.wait_with_output()
}

fn said<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Result<String, String> {
    let output = docker(args).map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

/// Whether Docker answers; else what to do.
pub fn engine() -> Result<(), String> {
    let asked = said(&["version", "--format", "{{.Server.Version}}"]);
    asked.map(drop).map_err(|why| format!("{why}: run scripts/docker-start"))
}

/// As many ports as were free just now, each another.
pub fn free_ports(count: usize) -> Vec<u16> {
    // Below those that the kernel gives to connections that are made, which could take one between this
    // look and its use; each process and each call begin elsewhere.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() % 400) as u16 * 30;
    let mut ports = Vec::new();
    while ports.len() < count {
        let port = 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed) % 12_000) % 12_000;
        ports.extend(TcpListener::bind(("127.0.0.1", port)).is_ok().then_some(port));
    }
    ports
}

/// The label's value for this run.
fn own() -> String {
    format!("{KIND}-{}-{}", std::process::id(), born("self").unwrap())
}

/// Removes every container of this run.
pub fn remove_all() {
    remove(&own());
}

fn remove(stack: &str) {
    let filter = format!("label={LABEL}={stack}");
    let ids = said(&["ps", "--all", "--quiet", "--filter", &filter]).unwrap_or_default();
    for id in ids.lines() {
        // Somebody else may be removing it too.
        drop(docker(&["rm", "--force", "--volumes", id]));
    }
}

/// Removes the containers of runs that were killed.
pub fn sweep() {
    let format = format!("{{{{.Label \"{LABEL}\"}}}}");
    let filter = format!("label={LABEL}");
    let all = said(&["ps", "--all", "--filter", &filter, "--format", &format]).unwrap_or_default();
    let stacks: std::collections::BTreeSet<&str> = all.lines().collect();
    for stack in stacks {
        let parts: Vec<&str> = stack.splitn(3, '-').collect();
        let [KIND, process, began] = parts[..] else { continue };
        if born(process).as_deref() != Some(began) {
            println!("removing what a killed run left: {stack}");
            remove(stack);
        }
    }
}
