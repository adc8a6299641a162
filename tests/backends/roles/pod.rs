//! One process of a role, and how it is asked.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use chirp::config::{Postgres, Secret};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// The longest that anything eventual may take; a busy machine takes its time.
pub const PATIENCE: Duration = Duration::from_mins(2);
const LOOK: Duration = Duration::from_millis(50);

/// What a pod knows: variables of its environment.
pub type Env = BTreeMap<&'static str, String>;

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// Asks once, on a connection of its own.
pub async fn ask(
    to: SocketAddr,
    method: &str,
    path: &str,
    token: &str,
    body: &str,
) -> std::io::Result<Answer> {
    let mut stream = TcpStream::connect(to).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let broken = || std::io::Error::other(format!("no whole answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (head, body) = (head.to_lowercase(), body.to_owned());
    Ok(Answer { status: status.ok_or_else(broken)?, head, body })
}

/// Asks with `GET`.
pub async fn get(to: SocketAddr, path: &str) -> std::io::Result<Answer> {
    ask(to, "GET", path, "", "").await
}

/// Waits until `what` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    about: &str,
    mut what: impl FnMut() -> F,
) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = what().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "{about}: not after {PATIENCE:?}");
        tokio::time::sleep(LOOK).await;
    }
}

/// The `PostgreSQL` of `images.toml` on `port`.
pub fn on(port: u16) -> Postgres {
    let (password, tls) = (Secret("chirp".to_owned()), "disable".to_owned());
    Postgres { port, password, tls, ..Postgres::default() }
}

/// The program, told by `env` alone, in an empty folder.
pub fn program(env: &Env, folder: &std::path::Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHIRP_") {
            command.env_remove(name);
        }
    }
    command.envs(env).args(args).current_dir(folder).stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub fn run(env: &Env, folder: &std::path::Path, args: &[&str]) -> Output {
    program(env, folder, args).output().unwrap()
}

/// A running process of a role; killed when it is dropped.
pub struct Pod {
    pub role: &'static str,
    pub public: SocketAddr,
    pub admin: SocketAddr,
    child: Child,
    pub folder: tempfile::TempDir,
}

impl Drop for Pod {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Pod {
    /// Starts `role` on the ports `public` and `admin`, and waits for nothing.
    pub fn start(role: &'static str, (public, admin): (u16, u16), env: &Env) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [public, admin] = [public, admin].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let ports = [public, admin].map(|address| address.port().to_string());
        let args = ["serve", "--role", role, "--port", &ports[0], "--admin-port", &ports[1]];
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = program(env, folder.path(), &args);
        let child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
        Self { role, public, admin, child, folder }
    }

    /// What it has said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits until it says that it is ready.
    pub async fn until_ready(&self) {
        let began = Instant::now();
        loop {
            let answer = get(self.admin, "/readyz").await;
            if answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                return;
            }
            let told = answer.map(|answer| answer.body);
            let role = self.role;
            assert!(began.elapsed() < PATIENCE, "{role} is not ready: {told:?}: {}", self.log());
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Tells it to stop.
    pub fn tell_to_stop(&self) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits for its end; its exit code, and how long it took.
    pub async fn ended(&mut self) -> (Option<i32>, Duration) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), began.elapsed());
            }
            assert!(began.elapsed() < PATIENCE, "{} does not end: {}", self.role, self.log());
            tokio::time::sleep(LOOK).await;
        }
    }
}
