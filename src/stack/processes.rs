//! `chirp up --processes`: every replica of a role as a process of its own, watched by this one.
//!
//! Each is `chirp serve` of the same program over the same data folder, told by a file that only its
//! owner may read, so that no secret stands in the list of processes. One that dies is started again.
//! Each ends when this process ends, however it does: its standard input is a pipe that only this one
//! holds open. Over embedded stores, which have one owner each, a role has one process.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, ChildStderr, Command},
    sync::mpsc,
    task::JoinHandle,
};

use super::{
    DataDir, StackError, client,
    data_dir::{RunFile, Seat},
    kind::replace,
};
use crate::{config::Config, rt::Shutdown, wire::routes::Role};

/// The file that tells the processes, in the folder `run`.
pub(super) const CONFIG: &str = "processes.toml";

/// The pause before a process that died is started again; doubles up to [`RESTART_MAX`].
const RESTART_MIN: Duration = Duration::from_millis(200);
/// The longest such pause: what a mended cause waits for.
const RESTART_MAX: Duration = Duration::from_secs(10);
/// A process that lived so long has died of something new.
const LIVED: Duration = Duration::from_secs(30);
/// How long a process works on after it was told to stop, in milliseconds: the others see within
/// 200 ms that its file in the folder is gone.
const DRAIN_DELAY_MS: u64 = 500;
/// What an end may take on top of the time for requests in work: the delay, and the loops' 5 s.
const END_MARGIN: Duration = Duration::from_secs(8);
/// How often it is looked whether all are ready.
const LOOK: Duration = Duration::from_millis(50);
/// Lines of what a process said that are kept to tell why it ended.
const LINES_MAX: usize = 50;

/// In which order roles stop: nobody is called any more when it is its turn.
const STAGES: [&[Role]; 3] = [&[Role::Gateway], &[Role::User, Role::Tweet], &[Role::Timeline]];

/// This program, as it starts itself.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its file.
    pub path: PathBuf,
    /// Variables of the environment that its children must not see, as what they say is in the
    /// configuration that they are given.
    pub forget: Vec<String>,
}

/// Processes that run.
#[derive(Debug)]
pub(super) struct Processes {
    /// What tells them: it may hold secrets, and goes with them.
    told_by: PathBuf,
    watched: Vec<(Role, Shutdown, JoinHandle<()>)>,
}

/// Why a process has ended that should not have.
#[derive(Debug)]
struct Death {
    name: String,
    code: Option<i32>,
    said: Vec<String>,
}

/// One process, and all lives of it.
struct Job {
    program: Program,
    seat: Seat,
    config: PathBuf,
    /// Public and admin port: of the gateway, once they are known, always the same.
    ports: Arc<Mutex<(u16, u16)>>,
    /// Which process each is now.
    pids: Arc<Mutex<BTreeMap<Seat, u32>>>,
    end_max: Duration,
}

impl Processes {
    /// Starts all, and waits until all are ready. Gives them with where the gateway is.
    ///
    /// # Errors
    /// [`StackError`]; none runs any more.
    pub(super) async fn start(
        config: &Config,
        dir: &DataDir,
        program: &Program,
        told: &Shutdown,
    ) -> Result<(Self, RunFile), StackError> {
        let path = dir.root().join("run").join(CONFIG);
        let mut own = config.clone();
        own.serve.drain_delay_ms = own.serve.drain_delay_ms.min(DRAIN_DELAY_MS);
        replace(&path, own.to_table().to_string().as_bytes())
            .map_err(|error| StackError::unwritable(&path, &error))?;
        let port = |port: u64| u16::try_from(port).unwrap_or(0);
        let ports = (port(config.up.port), port(config.up.admin_port));
        let ports = Arc::new(Mutex::new(ports));
        let pids = Arc::new(Mutex::new(BTreeMap::new()));
        let ready = Shutdown::new();
        let (deaths, mut died) = mpsc::unbounded_channel();
        let mut all = Self { told_by: path.clone(), watched: Vec::new() };
        let seats = seats(config);
        for &seat in &seats {
            let gateway = seat.role == Role::Gateway;
            let job = Job {
                program: program.clone(),
                seat,
                config: path.clone(),
                ports: if gateway { Arc::clone(&ports) } else { Arc::default() },
                pids: Arc::clone(&pids),
                end_max: config.up.drain() + END_MARGIN,
            };
            let stop = Shutdown::new();
            let watching = job.watch(stop.clone(), ready.clone(), deaths.clone());
            all.watched.push((seat.role, stop, tokio::spawn(watching)));
        }
        let waiting = async {
            tokio::select! {
                biased;
                Some(death) = died.recv() => Err(death.into()),
                run = until_ready(dir, &seats, &pids) => Ok(run),
            }
        };
        let limit = config.up.ready_timeout();
        let waited = told.run_until_cancelled(tokio::time::timeout(limit, waiting)).await;
        let ended = match waited {
            None => Err(StackError::Stopped),
            Some(Ok(ended)) => ended,
            Some(Err(_)) => Err(late(dir, &seats, &pids, limit).await),
        };
        match ended {
            Ok(run) => {
                *ports.lock() = (run.address.port(), run.admin.port());
                ready.cancel();
                let pid = std::process::id();
                let replicas = Role::ALL.map(|role| {
                    let of_role = seats.iter().filter(|seat| seat.role == role);
                    (role.as_str().to_owned(), of_role.count())
                });
                Ok((all, RunFile { pid, replicas: replicas.to_vec(), ..run }))
            }
            Err(error) => {
                all.stop().await;
                Err(error)
            }
        }
    }

    /// Stops them, role after role, each as a signal does; whoever does not end is killed.
    pub(super) async fn stop(mut self) {
        for stage in STAGES {
            let (now, later) =
                self.watched.into_iter().partition(|(role, ..)| stage.contains(role));
            self.watched = later;
            let now: Vec<(Role, Shutdown, JoinHandle<()>)> = now;
            for (_, stop, _) in &now {
                stop.cancel();
            }
            for (_, _, watching) in now {
                // A panic in there has dropped the pipe, which ends the process as well.
                drop(watching.await);
            }
        }
        if let Err(error) = std::fs::remove_file(&self.told_by) {
            tracing::warn!(path = %self.told_by.display(), %error, "a file could not be removed");
        }
    }
}

/// Which processes there are.
fn seats(config: &Config) -> Vec<Seat> {
    let count = |role| if config.backends.external() { config.up.replicas(role) } else { 1 };
    let of_role = |role| (0..count(role)).map(move |number| Seat { role, number });
    Role::ALL.into_iter().flat_map(of_role).collect()
}

/// Waits until every process answers that it is ready; where the gateway is.
async fn until_ready(dir: &DataDir, seats: &[Seat], pids: &Mutex<BTreeMap<Seat, u32>>) -> RunFile {
    loop {
        let ready = ready(dir, seats, pids).await;
        if ready.len() == seats.len()
            && let Some((_, run)) = ready.into_iter().find(|(seat, _)| seat.role == Role::Gateway)
        {
            return run;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Those that are ready, with where each is.
async fn ready(
    dir: &DataDir,
    seats: &[Seat],
    pids: &Mutex<BTreeMap<Seat, u32>>,
) -> Vec<(Seat, RunFile)> {
    let pids = pids.lock().clone();
    let mut ready = Vec::new();
    for &seat in seats {
        let runs = dir.running_seats(seat.role);
        // The file is named by the seat that it found free, which may be another's.
        let Some(run) = runs.into_iter().find(|run| pids.get(&seat) == Some(&run.pid)) else {
            continue;
        };
        if client::get(run.admin, "/readyz").await.is_ok_and(|answer| answer.status == 200) {
            ready.push((seat, run));
        }
    }
    ready
}

async fn late(
    dir: &DataDir,
    seats: &[Seat],
    pids: &Mutex<BTreeMap<Seat, u32>>,
    limit: Duration,
) -> StackError {
    let ready = ready(dir, seats, pids).await;
    let missing = |seat: &&Seat| !ready.iter().any(|(other, _)| other == *seat);
    let mut roles: Vec<Role> = seats.iter().filter(missing).map(|seat| seat.role).collect();
    roles.dedup();
    StackError::NotReady { limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX), roles }
}

impl Job {
    /// Keeps the process running until `stop`. Until `ready` a death is the end of the whole start.
    async fn watch(self, stop: Shutdown, ready: Shutdown, deaths: mpsc::UnboundedSender<Death>) {
        let mut pause = RESTART_MIN;
        loop {
            let began = Instant::now();
            let death = match self.live(&stop).await {
                Ok(None) => return,
                Ok(Some(death)) => death,
                Err(error) => {
                    let said = vec![format!("error: it cannot be started: {error}")];
                    Death { name: self.seat.to_string(), code: None, said }
                }
            };
            self.pids.lock().remove(&self.seat);
            if !ready.is_cancelled() {
                drop(deaths.send(death));
                return;
            }
            if began.elapsed() > LIVED {
                pause = RESTART_MIN;
            }
            let said = death.after("error:").or_else(|| death.said.last().cloned());
            let Death { name, code, .. } = &death;
            let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
            tracing::warn!(process = name, code, said, pause_ms, "a process died: it starts again");
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
            pause = (pause * 2).min(RESTART_MAX);
        }
    }

    /// One life of the process; how it ended, unless it was stopped.
    async fn live(&self, stop: &Shutdown) -> std::io::Result<Option<Death>> {
        let mut child = self.spawn()?;
        if let Some(pid) = child.id() {
            self.pids.lock().insert(self.seat, pid);
        }
        // Waiting for the child would close it.
        let pipe = child.stdin.take();
        let said = child.stderr.take().map(|said| tokio::spawn(last_lines(said)));
        let status = stop.run_until_cancelled(child.wait()).await;
        let Some(status) = status else {
            end(&mut child, self.end_max).await;
            return Ok(None);
        };
        drop(pipe);
        let said = match said {
            Some(said) => said.await.unwrap_or_default(),
            None => Vec::new(),
        };
        Ok(Some(Death { name: self.seat.to_string(), code: status?.code(), said }))
    }

    fn spawn(&self) -> std::io::Result<Child> {
        let name = self.seat.to_string();
        let (port, admin) = *self.ports.lock();
        let mut command = Command::new(&self.program.path);
        for variable in &self.program.forget {
            command.env_remove(variable);
        }
        command
            .args(["serve", "--role", self.seat.role.as_str(), "--supervised", &name])
            .args(["--port", &port.to_string(), "--admin-port", &admin.to_string()])
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            // Ctrl-C goes to everybody in the terminal, but their order is this process's matter.
            .process_group(0)
            .spawn()
    }
}

/// What a process says for people, its last lines; its log is a file.
async fn last_lines(said: ChildStderr) -> Vec<String> {
    let mut lines = BufReader::new(said).lines();
    let mut kept = Vec::new();
    while let Ok(Some(line)) = lines.next_line().await {
        if kept.len() == LINES_MAX {
            kept.remove(0);
        }
        kept.push(line);
    }
    kept
}

/// Ends the process as a signal does, or after `limit` as no process can refuse.
async fn end(child: &mut Child, limit: Duration) {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // One that has just ended by itself is stopped as well.
        let _ = kill_process(pid, Signal::TERM);
    }
    if tokio::time::timeout(limit, child.wait()).await.is_err() {
        tracing::warn!(pid = child.id(), "a process did not end in time: it is killed");
        drop(child.kill().await);
    }
}

impl Death {
    /// The rest of the last line that began with `head`.
    fn after(&self, head: &str) -> Option<String> {
        let line = self.said.iter().rev().find_map(|line| line.strip_prefix(head));
        line.map(|line| line.trim().to_owned())
    }
}

impl From<Death> for StackError {
    fn from(death: Death) -> Self {
        let (why, hint) = (death.after("error:"), death.after("hint:"));
        let Death { name, code, .. } = death;
        let how = code.map_or_else(|| "by a signal".to_owned(), |code| format!("with {code}"));
        let why = why.unwrap_or_else(|| format!("it ended {how}"));
        Self::Process { name, code, why, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_with_secrets_is_its_owners_and_is_read_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CONFIG);
        let mut config = Config::default();
        config.postgres.password = crate::config::Secret("with \"quotes\"".to_owned());
        replace(&path, config.to_table().to_string().as_bytes()).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0);
        let file = Some((path.clone(), std::fs::read_to_string(&path).unwrap()));
        let sources = crate::config::Sources { file, ..crate::config::Sources::default() };
        assert_eq!(crate::config::load(&sources).unwrap().config, config);
    }

    #[test]
    fn embedded_stores_have_one_process_each_and_servers_any_number() {
        let mut config = Config::default();
        assert_eq!(seats(&config).len(), 4);
        config.backends.kind = "external".to_owned();
        let names: Vec<String> = seats(&config).iter().map(Seat::to_string).collect();
        let wanted = ["gateway", "user", "user-1", "tweet", "tweet-1", "timeline", "timeline-1"];
        assert_eq!(names, wanted);
    }

    #[test]
    fn a_death_says_what_the_process_said() {
        let said = ["x", "error: port 1 of 127.0.0.1 is in use", "hint: choose another"];
        let said = said.map(str::to_owned).to_vec();
        let death = Death { name: "user".to_owned(), code: Some(10), said };
        let error = StackError::from(death);
        assert_eq!(error.to_string(), "port 1 of 127.0.0.1 is in use (process `user`)");
    }
}
