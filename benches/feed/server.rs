//! Servers under test, each a process of its own, and the processor time that they use.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chirp::stack::{DataDir, admin::Queues, client};
use rustix::process::{Pid, Signal, kill_process};

use crate::{containers::Container, cpu::cpu_s, stack::Backends};

/// A server that is not ready by then never will be; with containers, on a busy machine, that are filled.
const START_MAX: Duration = Duration::from_mins(20);
/// How long queues may take to become empty after a slice.
const DRAIN_MAX: Duration = Duration::from_mins(2);
/// How long a stop may take: requests in work, and the removal of containers.
const STOP_MAX: Duration = Duration::from_secs(20);

/// A running server; a child ends when it is dropped.
pub(crate) struct Server {
    process: Process,
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
    /// What works for it, and whose processor time is told beside its own.
    pub(crate) beside: Vec<Container>,
}

enum Process {
    Child(Child),
    Container(Container),
}

impl Drop for Server {
    fn drop(&mut self) {
        let Process::Child(child) = &mut self.process else { return };
        // Also one that is held: it takes its containers away.
        let began = Instant::now();
        signal(child, Signal::TERM);
        signal(child, Signal::CONT);
        while began.elapsed() < STOP_MAX && matches!(child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(child.kill());
        drop(child.wait());
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id().cast_signed()).expect("a process has a number");
    // It may have ended by itself.
    let _ = kill_process(pid, signal);
}

impl Server {
    /// `chirp up` over `dir`, as anybody would start it but for its limits: they are on, and so
    /// high that one driver does not meet them.
    pub(crate) async fn chirp(dir: &Path, backends: Backends) -> Self {
        Self::with(dir, backends, &[], None).await
    }

    /// The same with some settings changed, over a data set that is filled first if a profile is named.
    pub(crate) async fn with(
        dir: &Path,
        backends: Backends,
        changed: &[(&str, &str)],
        seed: Option<&str>,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHIRP_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(["up", "--port", "0", "--admin-port", "0", "--backends", backends.as_str()])
            .arg("--data-dir")
            .arg(dir)
            .args(seed.map(|seed| ["--seed", seed]).iter().flatten())
            .envs(changed.iter().copied())
            .env("CHIRP_HTTP_USER_CALLS_PER_MINUTE", "1000000000")
            .env("CHIRP_HTTP_ADDRESS_CALLS_PER_MINUTE", "1000000000")
            .stdin(Stdio::null())
            // Containers take a while, and say what they wait for.
            .stderr(if backends == Backends::Embedded { Stdio::null() } else { Stdio::inherit() })
            .spawn()
            .unwrap();
        let mut server = Self::over(child);
        let (data, began) = (DataDir::at(dir), Instant::now());
        while began.elapsed() < START_MAX {
            let Process::Child(child) = &mut server.process else { unreachable!("as made above") };
            if let Some(run) = data.read_run(None).filter(|run| run.pid == child.id()) {
                (server.address, server.admin) = (run.address, Some(run.admin));
                return server;
            }
            assert!(child.try_wait().unwrap().is_none(), "chirp ended at once");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("chirp was not ready in time");
    }

    fn over(child: Child) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { process: Process::Child(child), address, admin: None, beside: Vec::new() }
    }

    /// A server in a container, as it is.
    pub(crate) fn container(container: &Container) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], container.port));
        let process = Process::Container(container.clone());
        Self { process, address, admin: None, beside: Vec::new() }
    }

    /// Holds it still, so that it takes no processor time, until it is dropped.
    pub(crate) fn hold(&self) {
        if let Process::Child(child) = &self.process {
            signal(child, Signal::STOP);
        }
    }

    /// This program again, as a server to compare with. It prints its address when it listens.
    pub(crate) fn reference(role: &str, args: &[&str]) -> Self {
        let own = std::env::current_exe().unwrap();
        let mut child = Command::new(own)
            .arg(format!("serve-{role}"))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().parse().expect("the reference says where it listens");
        let mut server = Self::over(child);
        server.address = address;
        server
    }

    /// Processor seconds used so far, by all threads, in user and kernel mode: its own first.
    pub(crate) fn cpu_s(&self) -> Vec<(String, f64)> {
        let (own, container) = match &self.process {
            Process::Child(child) => (cpu_s(&child.id().to_string()), None),
            Process::Container(container) => (container.cpu_s(), Some(container)),
        };
        let mut all = vec![("server".to_owned(), own)];
        all.extend(self.beside.iter().map(|other| (other.name.clone(), other.cpu_s())));
        let proxies: Vec<f64> =
            self.beside.iter().chain(container).map(Container::proxy_cpu_s).collect();
        if !proxies.is_empty() {
            all.push(("docker-proxy".to_owned(), proxies.iter().sum()));
        }
        all
    }

    /// Counters of its admin listener, by their names.
    pub(crate) async fn metrics(&self, names: &[&str]) -> Vec<f64> {
        let answer = client::get(self.admin.unwrap(), "/metrics").await.unwrap();
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        let value = |name: &&str| {
            let line = text.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(' '));
            line.map_or(0.0, |value| value.parse().unwrap())
        };
        names.iter().map(value).collect()
    }

    /// Messages of a lane of the bus that wait or are in work.
    pub(crate) async fn in_lane(&self, name: &str) -> u64 {
        let answer = client::get(self.admin.unwrap(), "/queues").await.unwrap();
        let lanes = answer.json::<Queues>().unwrap().lanes;
        lanes.iter().filter(|lane| lane.lane == name).map(|lane| lane.depth + lane.in_flight).sum()
    }

    /// Bytes of memory that it holds.
    pub(crate) fn resident_bytes(&self) -> f64 {
        let Process::Child(child) = &self.process else { return 0.0 };
        let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() * 1024.0
    }

    /// Waits until no event waits anywhere. Gives the seconds it took; nothing to do for a
    /// reference.
    pub(crate) async fn drained(&self) -> f64 {
        let Some(admin) = self.admin else { return 0.0 };
        let began = Instant::now();
        while began.elapsed() < DRAIN_MAX {
            let answer = client::get(admin, "/queues").await.unwrap();
            let queues: Queues = answer.json().unwrap();
            let waiting = queues.lanes.iter().map(|lane| lane.depth + lane.in_flight).sum::<u64>()
                + queues.outboxes.iter().map(|outbox| outbox.unsent).sum::<u64>();
            if waiting == 0 {
                return began.elapsed().as_secs_f64();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the queues did not become empty");
    }
}
