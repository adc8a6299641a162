//! Servers under test, each a process of its own, and the processor time that they use.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use chirp::stack::{DataDir, admin::Queues, client};

/// Ticks per second in `/proc/<pid>/stat` (`USER_HZ`), the same on every Linux.
const TICKS: f64 = 100.0;
/// A server that is not ready by then never will be.
const START_MAX: Duration = Duration::from_mins(1);
/// How long queues may take to become empty after a slice.
const DRAIN_MAX: Duration = Duration::from_mins(2);

/// A running server; killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Server {
    /// `chirp up` over `dir`, as anybody would start it but for its limits: they are on, and so
    /// high that one driver does not meet them.
    pub(crate) async fn chirp(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHIRP_") {
                command.env_remove(name);
            }
        }
        let child = command
            .args(["up", "--port", "0", "--admin-port", "0", "--data-dir"])
            .arg(dir)
            .env("CHIRP_HTTP_USER_CALLS_PER_MINUTE", "1000000000")
            .env("CHIRP_HTTP_ADDRESS_CALLS_PER_MINUTE", "1000000000")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self { child, address: nowhere, admin: None };
        let (data, began) = (DataDir::at(dir), Instant::now());
        while began.elapsed() < START_MAX {
            if let Some(run) = data.read_run(None).filter(|run| run.pid == server.child.id()) {
                (server.address, server.admin) = (run.address, Some(run.admin));
                return server;
            }
            assert!(server.child.try_wait().unwrap().is_none(), "chirp ended at once");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("chirp was not ready in time");
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
        Self { child, address, admin: None }
    }

    /// Processor seconds used so far, by all threads, in user and kernel mode.
    pub(crate) fn cpu_s(&self) -> f64 {
        cpu_s(&self.child.id().to_string())
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

/// Processor seconds of the process `pid` (or `self`).
pub(crate) fn cpu_s(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name before may hold blanks; user and system time are the 12th and 13th field after it.
    let fields = stat.rsplit(')').next().unwrap();
    let ticks = |at: usize| fields.split_whitespace().nth(at).unwrap().parse::<f64>().unwrap();
    (ticks(11) + ticks(12)) / TICKS
}
