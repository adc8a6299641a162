//! `chirp up --backends containers`, by the program itself: it serves, and whatever its end, it leaves
//! no container but those that it was told to keep.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStderr, Command, Output, Stdio},
    time::{Duration, Instant},
};

use chirp::stack::containers::{Engine, images};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{
    run::{Alone, Scenario, scenarios},
    server::docker_does,
};

pub const SCENARIOS: &[Scenario<Alone>] = scenarios![
    a_tweet_is_served_and_ctrl_c_leaves_no_container,
    a_detached_stack_shows_its_containers_and_down_leaves_none,
    a_stack_that_is_killed_leaves_no_container,
    what_a_killed_reaper_leaves_is_removed_by_down,
    what_a_killed_reaper_leaves_is_removed_by_the_next_up,
    a_start_that_fails_or_is_stopped_leaves_no_container,
    a_start_in_the_background_that_is_stopped_leaves_no_container,
    containers_that_are_kept_keep_tweets_until_they_are_purged,
    a_folder_that_is_copied_or_moved_harms_no_container,
    replicas_as_processes_serve_on_when_one_is_killed,
    processes_and_containers_end_with_a_supervisor_that_is_killed,
];

/// The longest that anything eventual may take; Cassandra took a minute on a busy machine.
const PATIENCE: Duration = Duration::from_mins(3);

/// A picture of one pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// A data folder, and what runs on it. Whatever is left at its end is removed.
struct Home {
    folder: TempDir,
}

/// A stack in the foreground.
struct Up {
    child: Child,
    talk: BufReader<ChildStderr>,
    address: String,
}

impl Home {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn chirp(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_chirp"));
        command.args(args).current_dir(self.path()).stdin(Stdio::null());
        command.env("CHIRP_AUTH_ARGON2_MEMORY_KIB", "8").env("CHIRP_AUTH_ARGON2_PASSES", "1");
        // Eight processes on two busy cores take their time.
        command.env("CHIRP_UP_READY_TIMEOUT_MS", "180000");
        command
    }

    fn runs(&self, args: &[&str]) -> Output {
        self.chirp(args).output().unwrap()
    }

    /// Begins a start with containers.
    fn begins(&self, more: &[&str]) -> Child {
        let args = ["up", "--backends", "containers", "--port", "0", "--admin-port", "0"];
        self.chirp(&[&args, more].concat()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts a stack over containers, and waits until it is ready.
    fn up(&self, more: &[&str]) -> Up {
        let mut child = self.begins(more);
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("chirp is ready") {
            assert!(talk.read_line(&mut said).unwrap() > 0, "it ended: {said}");
        }
        let address = self.run_file("run.json").unwrap()["address"].clone();
        Up { child, talk, address: address.as_str().unwrap().to_owned() }
    }

    fn data(&self) -> PathBuf {
        fs::canonicalize(self.path()).unwrap().join(".chirp")
    }

    fn run_file(&self, name: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.data().join(name)).ok()?).ok()
    }

    /// The containers of the folder, whatever their state.
    fn containers(&self) -> Vec<String> {
        let filter = format!("label=chirp.folder={}", self.data().display());
        let all = docker_does(&["ps", "--all", "--quiet", "--filter", &filter]);
        all.lines().map(str::to_owned).collect()
    }

    /// The folder's container of a server.
    fn container(&self, server: &str) -> String {
        let folder = format!("label=chirp.folder={}", self.data().display());
        let server = format!("label=chirp.server={server}");
        docker_does(&["ps", "--all", "--quiet", "--filter", &folder, "--filter", &server])
    }

    /// The child that would remove them.
    fn reaper(&self) -> Pid {
        let stack = self.run_file("backends.json").unwrap()["stack"].as_str().unwrap().to_owned();
        let is_it = |path: &Path| {
            let line = fs::read(path.join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains("__reap") && line.contains(&stack)
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        let found = all.map(|entry| entry.path()).find(|path| is_it(path)).expect("a reaper");
        let pid = found.file_name().unwrap().to_str().unwrap().parse().unwrap();
        Pid::from_raw(pid).unwrap()
    }

    fn pids(&self) -> Vec<Pid> {
        let files = fs::read_dir(self.data().join("run")).into_iter().flatten().flatten();
        let pid = |name: String| {
            let run = self.run_file(&format!("run/{name}"))?;
            Pid::from_raw(i32::try_from(run["pid"].as_i64()?).ok()?)
        };
        files.filter_map(|file| pid(file.file_name().into_string().ok()?)).collect()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A scenario that failed may have left anything.
        drop(self.runs(&["down", "--purge"]));
        for id in self.containers() {
            docker_does(&["rm", "--force", "--volumes", &id]);
        }
    }
}

impl Up {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Ends it as Ctrl-C does.
    fn stops(mut self) {
        self.signal(Signal::INT);
        let mut said = String::new();
        drop(self.talk.read_to_string(&mut said));
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}: {said}");
    }

    fn dies(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether the process runs; one that has ended and waits for its parent does not.
fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A call with lines of its head; the status and the body.
fn exchange(address: &str, method: &str, path: &str, head: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(address)?;
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n{head}\
             content-length: {length}\r\n\r\n"
        )?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().unwrap_or_default();
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(answer.len());
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, answer.get(end + 4..).unwrap_or_default().to_vec())
}

/// A call to the API; the status and the body.
fn call(address: &str, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
    let head = format!("authorization: Bearer {token}\r\ncontent-type: application/json\r\n");
    let (status, answer) = exchange(address, method, path, &head, body.to_string().as_bytes());
    (status, serde_json::from_slice(&answer).unwrap_or_default())
}

/// A call to the URL of a picture.
fn at_url(method: &str, url: &str, head: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let (address, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    exchange(address, method, &format!("/{path}"), head, body)
}

/// Sends a picture and shows it with a text.
fn shows(address: &str, token: &str, text: &str, picture: &[u8]) {
    let promise = json!({ "content_type": "image/gif", "bytes": picture.len() });
    let (status, media) = call(address, "POST", "/media", token, &promise);
    assert_eq!(status, 201, "{media}");
    let upload = &media["upload"];
    let lines = upload["headers"].as_object().unwrap().iter();
    let lines = lines.map(|(name, value)| format!("{name}: {}\r\n", value.as_str().unwrap()));
    let head = lines.collect::<Vec<_>>().concat();
    let (method, url) = (upload["method"].as_str().unwrap(), upload["url"].as_str().unwrap());
    let (status, answer) = at_url(method, url, &head, picture);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let tweet = json!({ "text": text, "media": [media["media_id"]] });
    let (status, answer) = call(address, "POST", "/tweets", token, &tweet);
    assert_eq!(status, 201, "{answer}");
}

/// Signs up and gives an access token.
fn signs_up(address: &str, handle: &str) -> String {
    let body = json!({ "handle": handle, "password": "correct horse" });
    let (status, answer) = call(address, "POST", "/users", "none", &body);
    assert_eq!(status, 201, "{answer}");
    answer["access_token"].as_str().unwrap().to_owned()
}

fn tweets(address: &str, token: &str, text: &str) {
    let (status, answer) = call(address, "POST", "/tweets", token, &json!({ "text": text }));
    assert_eq!(status, 201, "{answer}");
}

/// Waits until the reader's home timeline has exactly these texts, newest first.
fn sees(address: &str, token: &str, wanted: &[&str]) {
    eventually(&format!("a timeline of {wanted:?}"), || {
        let (status, page) = call(address, "GET", "/timeline", token, &Value::Null);
        let tweets = page["tweets"].as_array()?;
        let texts: Vec<&str> = tweets.iter().filter_map(|tweet| tweet["text"].as_str()).collect();
        (status == 200 && texts == wanted).then_some(())
    });
}

async fn a_tweet_is_served_and_ctrl_c_leaves_no_container(_: Alone) {
    let home = Home::new();
    let up = home.up(&[]);
    let ada = signs_up(&up.address, "ada");
    let bob = signs_up(&up.address, "bob");
    let (status, answer) = call(&up.address, "POST", "/follow", &bob, &json!({ "handle": "ada" }));
    assert!(status / 100 == 2, "{answer}");
    tweets(&up.address, &ada, "over containers");
    sees(&up.address, &ada, &["over containers"]);
    sees(&up.address, &bob, &["over containers"]);
    shows(&up.address, &ada, "a picture", GIF);
    sees(&up.address, &bob, &["a picture", "over containers"]);
    let (_, page) = call(&up.address, "GET", "/timeline", &bob, &Value::Null);
    let url = page["tweets"][0]["media"][0]["url"].as_str().unwrap();
    assert_eq!(at_url("GET", url, "", b""), (200, GIF.to_vec()));
    assert_eq!(home.containers().len(), 4);
    up.stops();
    assert_eq!(home.containers(), Vec::<String>::new());
    assert!(!home.data().join("run.json").exists());
}

async fn a_detached_stack_shows_its_containers_and_down_leaves_none(_: Alone) {
    let home = Home::new();
    let output = home.begins(&["--detach"]).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for wanted in ["cassandra", "answers a query", "chirp is ready", "gone when the stack stops"] {
        assert!(said.contains(wanted), "{said}\nlacks {wanted}");
    }
    let status = home.runs(&["status", "--json"]).stdout;
    let status: Value = serde_json::from_slice(&status).unwrap();
    let shown = status["containers"].as_array().unwrap();
    let servers: Vec<&str> = shown.iter().map(|one| one["server"].as_str().unwrap()).collect();
    assert_eq!(servers, ["cassandra", "ministack", "postgres", "redis"]);
    assert!(shown.iter().all(|one| one["state"] == "running"), "{status}");
    let doctor = String::from_utf8(home.runs(&["doctor"]).stdout).unwrap();
    assert!(doctor.contains("ok   containers   cassandra running"), "{doctor}");
    docker_does(&["rm", "--force", "--volumes", &home.container("redis")]);
    let doctor = home.runs(&["doctor"]);
    let said = String::from_utf8(doctor.stdout).unwrap();
    assert!(!doctor.status.success() && said.contains("not running: redis"), "{said}");
    assert!(home.runs(&["down"]).status.success());
    assert_eq!(home.containers(), Vec::<String>::new());
}

async fn a_stack_that_is_killed_leaves_no_container(_: Alone) {
    let home = Home::new();
    home.up(&[]).dies();
    eventually("no container is left", || home.containers().is_empty().then_some(()));
}

async fn what_a_killed_reaper_leaves_is_removed_by_down(_: Alone) {
    let home = Home::new();
    let up = home.up(&[]);
    kill_process(home.reaper(), Signal::KILL).unwrap();
    up.dies();
    assert_eq!(home.containers().len(), 4, "nobody was there to remove them");
    let down = home.runs(&["down"]);
    let said = String::from_utf8(down.stderr).unwrap();
    assert!(down.status.success() && said.contains("removed 4 containers"), "{said}");
    assert_eq!(home.containers(), Vec::<String>::new());
}

async fn what_a_killed_reaper_leaves_is_removed_by_the_next_up(_: Alone) {
    let home = Home::new();
    let up = home.up(&[]);
    kill_process(home.reaper(), Signal::KILL).unwrap();
    up.dies();
    let before = home.containers();
    // Also if the folder, and with it their name, was removed by hand.
    fs::remove_dir_all(home.data()).unwrap();
    let up = home.up(&[]);
    let after = home.containers();
    assert_eq!(after.len(), 4);
    assert!(before.iter().all(|old| !after.contains(old)), "{before:?} {after:?}");
    up.stops();
}

async fn a_start_that_fails_or_is_stopped_leaves_no_container(_: Alone) {
    let home = Home::new();
    // An image that has no Redis in it.
    let engine = Engine::ask().await.unwrap();
    let other = images::pinned("postgres").present(engine.docker(), "").await.unwrap();
    for (image, exit, sentence, hint) in [
        (&*other, 22, "the container of redis has ended before it answered", "more memory"),
        ("127.0.0.1:1/nobody/nothing:1", 21, "there is no image for redis", "CHIRP_IMAGE_REDIS"),
    ] {
        let args = ["up", "--backends", "containers", "--port", "0", "--admin-port", "0"];
        let output = home.chirp(&args).env("CHIRP_IMAGE_REDIS", image).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{said}");
        assert!(said.contains(sentence) && said.contains(hint), "{said}");
        // One that was being made in that instant comes and goes a little later.
        eventually("no container is left", || home.containers().is_empty().then_some(()));
        assert!(!home.data().exists(), "nothing is left of the folder");
    }
    is_stopped(&home, home.begins(&[]), 0);
}

async fn a_start_in_the_background_that_is_stopped_leaves_no_container(_: Alone) {
    let home = Home::new();
    is_stopped(&home, home.begins(&["--detach"]), 15);
    assert!(!home.data().join("run.json").exists());
}

/// Stops a start in its midst, as Ctrl-C does.
fn is_stopped(home: &Home, mut child: Child, exit: i32) {
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("answers PING") {
        assert!(talk.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(exit));
    eventually("no container is left", || home.containers().is_empty().then_some(()));
}

async fn containers_that_are_kept_keep_tweets_until_they_are_purged(_: Alone) {
    let home = Home::new();
    let up = home.up(&["--reuse"]);
    let ada = signs_up(&up.address, "ada");
    tweets(&up.address, &ada, "to be kept");
    sees(&up.address, &ada, &["to be kept"]);
    up.stops();
    let kept = home.containers();
    assert_eq!(kept.len(), 4);
    // Once kept they are, also if it is not said again, and one of them was stopped meanwhile.
    docker_does(&["stop", &kept[0]]);
    let up = home.up(&[]);
    let body = json!({ "handle": "ada", "password": "correct horse" });
    let (status, session) = call(&up.address, "POST", "/sessions", "none", &body);
    assert_eq!(status, 201, "{session}");
    sees(&up.address, session["access_token"].as_str().unwrap(), &["to be kept"]);
    up.dies();
    assert_eq!(home.containers(), kept);
    // Without the accounts and tweets nothing begins over what was made of them.
    docker_does(&["rm", "--force", "--volumes", &home.container("postgres")]);
    let output = home.begins(&[]).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(22), "{said}");
    assert!(said.contains("postgres that was kept is gone") && said.contains("--purge"), "{said}");
    assert_eq!(home.containers().len(), 3, "the others are as they were");
    assert!(home.runs(&["down", "--purge"]).status.success());
    assert_eq!(home.containers(), Vec::<String>::new());
    assert!(!home.data().exists());
}

async fn a_folder_that_is_copied_or_moved_harms_no_container(_: Alone) {
    let home = Home::new();
    let up = home.up(&["--reuse"]);
    let running = home.containers();
    let copy = Home::new();
    let copied = Command::new("cp").arg("-a").arg(home.data()).arg(copy.path()).status().unwrap();
    assert!(copied.success());
    let output = copy.begins(&[]).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(22), "{said}");
    assert!(said.contains("is a copy of") && said.contains("--data-dir"), "{said}");
    drop(copy.runs(&["down", "--purge"]));
    assert_eq!(home.containers(), running, "the copy has none");
    up.stops();
    // Another folder in the place of the first, which was moved away with what it keeps.
    let moved = home.path().join("moved");
    fs::rename(home.data(), &moved).unwrap();
    let up = home.up(&[]);
    assert_eq!(home.containers().len(), 8, "four that are kept, four that run");
    up.stops();
    assert_eq!(home.containers(), running);
    let purged = home.runs(&["down", "--purge", "--data-dir", moved.to_str().unwrap()]);
    assert!(purged.status.success(), "{purged:?}");
    assert_eq!(home.containers(), Vec::<String>::new());
}

async fn replicas_as_processes_serve_on_when_one_is_killed(_: Alone) {
    let home = Home::new();
    let up = home.up(&["--processes", "--replicas", "timeline=3"]);
    let processes = home.pids();
    assert_eq!(processes.len(), 8, "one gateway, two of user and tweet, three of timeline");
    let ada = signs_up(&up.address, "ada");
    tweets(&up.address, &ada, "one");
    let killed = home.run_file("run/user.json").unwrap()["pid"].as_i64().unwrap();
    let killed = Pid::from_raw(i32::try_from(killed).unwrap()).unwrap();
    kill_process(killed, Signal::KILL).unwrap();
    eventually("another user role takes over", || {
        let body = json!({ "handle": "ada", "password": "correct horse" });
        (call(&up.address, "POST", "/sessions", "none", &body).0 == 201).then_some(())
    });
    eventually("it is started again", || {
        let now = home.pids();
        (now.len() == 8 && !now.contains(&killed)).then_some(())
    });
    sees(&up.address, &ada, &["one"]);
    let last = home.pids();
    up.stops();
    assert!(last.iter().all(|pid| !is_alive(*pid)), "no process is left");
    assert_eq!(home.containers(), Vec::<String>::new());
}

async fn processes_and_containers_end_with_a_supervisor_that_is_killed(_: Alone) {
    let home = Home::new();
    let up = home.up(&["--processes"]);
    let processes = home.pids();
    up.dies();
    eventually("no process is left", || processes.iter().all(|pid| !is_alive(*pid)).then_some(()));
    eventually("no container is left", || home.containers().is_empty().then_some(()));
}
