//! The real program: started, killed where it hurts, and never left behind.

use std::{
    fs::{self, File},
    io::Read,
    net::SocketAddr,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use chirp::stack::{crash_marks::WIDTH, data_dir::RunFile};

use crate::judge::{api::Api, dice::Dice};

/// A start that takes longer has failed.
const READY_MAX: Duration = Duration::from_secs(30);
/// How often a starting process is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// The marks are looked at without a pause for so long, as the next mark is never far away; then
/// every [`MARK_LOOK`].
const WATCH: Duration = Duration::from_millis(50);
const MARK_LOOK: Duration = Duration::from_micros(20);
/// A kill comes at most this long after the mark that it was aimed at, in microseconds.
const JITTER_MAX_US: usize = 3_000;
/// If the wanted mark does not come, the kill falls wherever it falls.
const AIM_MAX: Duration = Duration::from_secs(2);
/// What the marks say of a process that has not said anything yet.
const SILENT: &str = "exec";

/// Settings of the process: limits that no writer meets by accident.
const ENV: [(&str, &str); 2] = [
    ("CHIRP_HTTP_USER_CALLS_PER_MINUTE", "1000000000"),
    ("CHIRP_HTTP_ADDRESS_CALLS_PER_MINUTE", "1000000000"),
];

/// With this variable the data set has another fan-out strategy.
const STRATEGY: &str = "CHIRP_TEST_STRATEGY";

/// Where everything of a run lies.
#[derive(Clone, Debug)]
pub struct Place {
    /// The data folder.
    pub data: PathBuf,
    marks: PathBuf,
    talk: PathBuf,
}

/// A running process; dropped, it is killed.
pub struct Server {
    child: Child,
    place: Place,
    marks: File,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// From spawn to ready.
    pub took: Duration,
}

impl Place {
    /// A place for a run in `folder`, which exists.
    pub fn new(folder: &Path) -> Self {
        Self { data: folder.join("data"), marks: folder.join("marks"), talk: folder.join("stderr") }
    }

    fn spawn(&self) -> Server {
        fs::write(&self.marks, format!("{SILENT:WIDTH$}")).unwrap();
        let talk = File::options().create(true).append(true).open(&self.talk).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHIRP_") {
                command.env_remove(name);
            }
        }
        command.args(["up", "--port", "0", "--admin-port", "0", "--data-dir"]).arg(&self.data);
        command.envs(ENV).env("CHIRP_CRASH_MARKS", &self.marks);
        if let Ok(strategy) = std::env::var(STRATEGY) {
            command.env("CHIRP_FANOUT_STRATEGY", strategy);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(talk);
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Server {
            child: command.spawn().unwrap(),
            place: self.clone(),
            marks: File::open(&self.marks).unwrap(),
            address: nowhere,
            admin: nowhere,
            took: Duration::ZERO,
        }
    }

    /// Starts the stack and waits until it says that it is ready.
    pub async fn start(&self) -> Result<Server, String> {
        let began = Instant::now();
        let mut server = self.spawn();
        while began.elapsed() < READY_MAX {
            if let Some(run) = server.run_file() {
                server.took = began.elapsed();
                (server.address, server.admin) = (run.address, run.admin);
                return Ok(server);
            }
            if let Some(status) = server.child.try_wait().unwrap() {
                return Err(format!("it ended with {status}: {}", self.last_words()));
            }
            tokio::time::sleep(LOOK).await;
        }
        Err(format!("not ready after {READY_MAX:?}: {}", self.last_words()))
    }

    /// Starts the stack and kills it at a random instant before it is, or just when it is, ready.
    /// Gives the mark that the kill fell on.
    pub async fn start_and_kill(&self, usual: Duration, dice: &mut Dice) -> String {
        let mut server = self.spawn();
        let began = Instant::now();
        while server.mark() == SILENT && began.elapsed() < READY_MAX {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        let pause = dice.below((usual.as_micros() as usize * 8 / 10).max(1)) as u64;
        tokio::time::sleep(Duration::from_micros(pause)).await;
        server.kill()
    }

    fn last_words(&self) -> String {
        let mut text = String::new();
        drop(File::open(&self.talk).and_then(|mut file| file.read_to_string(&mut text)));
        let lines: Vec<&str> = text.lines().rev().take(6).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}

impl Server {
    pub fn api(&self) -> Api {
        Api::new(self.address)
    }

    fn run_file(&self) -> Option<RunFile> {
        let text = fs::read(self.place.data.join("run.json")).ok()?;
        let run: RunFile = serde_json::from_slice(&text).ok()?;
        (run.pid == self.child.id()).then_some(run)
    }

    /// The last point that the process passed.
    fn mark(&self) -> String {
        let mut mark = [b' '; WIDTH];
        drop(self.marks.read_at(&mut mark, 0));
        String::from_utf8_lossy(&mark).trim_end().to_owned()
    }

    /// Waits until a fan-out of the star is in flight and the mark is of the wanted kind, and a little
    /// longer, and kills. Blocks its thread. Gives the last mark: where the kill fell, which need
    /// not be where it was aimed.
    pub fn kill_at(
        &mut self,
        wanted: &str,
        mut dice: Dice,
        down: &AtomicBool,
        jobs: &AtomicU64,
    ) -> String {
        let began = Instant::now();
        let hit = || jobs.load(Ordering::Relaxed) > 0 && self.mark() == wanted;
        while !hit() && began.elapsed() < AIM_MAX {
            if began.elapsed() < WATCH {
                std::thread::yield_now();
            } else {
                std::thread::sleep(MARK_LOOK);
            }
        }
        // Half of the kills come at once: after a long pause the mark is mostly another's.
        if dice.chance(50) {
            let most = dice.below(JITTER_MAX_US) + 1;
            std::thread::sleep(Duration::from_micros(dice.below(most) as u64));
        }
        let mark = self.kill();
        down.store(true, Ordering::Release);
        mark
    }

    /// SIGKILL, and the end. Gives the last mark.
    pub fn kill(&mut self) -> String {
        drop(self.child.kill());
        drop(self.child.wait());
        self.mark()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // By its id: `Child` knows whether it has been waited for.
        self.kill();
    }
}
