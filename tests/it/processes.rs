//! `chirp up --processes` over embedded stores: its processes live, die and end as they should.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{chirp, obstacles::damaged_keys, patience, run_in};

const UP: [&str; 6] = ["up", "--processes", "--port", "0", "--admin-port", "0"];

/// Starts a stack and waits until it is ready.
fn up(folder: &Path) -> (Child, BufReader<impl Read + use<>>) {
    let mut command = chirp(&UP);
    command.env("CHIRP_AUTH_ARGON2_MEMORY_KIB", "8").current_dir(folder);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("chirp is ready") {
        assert!(talk.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    (child, talk)
}

fn run_file(folder: &Path, name: &str) -> Option<serde_json::Value> {
    serde_json::from_slice(&fs::read(folder.join(".chirp").join(name)).ok()?).ok()
}

/// The processes of the roles, as their run files have them.
fn pids(folder: &Path) -> Vec<Pid> {
    let pid = |role: &str| {
        let run = run_file(folder, &format!("run/{role}.json"))?;
        Pid::from_raw(i32::try_from(run["pid"].as_i64()?).ok()?)
    };
    ["gateway", "user", "tweet", "timeline"].into_iter().filter_map(pid).collect()
}

/// Whether the process runs; one that has ended and waits for its parent does not.
fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

fn eventually(what: &str, mut look: impl FnMut() -> bool) {
    let began = Instant::now();
    while !look() {
        assert!(began.elapsed() < patience(), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether somebody can sign up: needs the gateway, the user role and its store.
fn signs_up(address: &str, handle: &str) -> bool {
    let body = format!("{{\"handle\":\"{handle}\",\"password\":\"correct horse\"}}");
    let Ok(mut stream) = TcpStream::connect(address) else { return false };
    let head =
        "POST /users HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json";
    drop(write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()));
    let mut answer = String::new();
    drop(stream.read_to_string(&mut answer));
    answer.starts_with("HTTP/1.1 201")
}

#[test]
fn a_process_that_dies_is_started_again_and_a_stop_ends_them_all() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _talk) = up(folder.path());
    let address = run_file(folder.path(), "run.json").unwrap()["address"].clone();
    let address = address.as_str().unwrap();
    assert!(signs_up(address, "ada"));
    let first = pids(folder.path());
    assert_eq!(first.len(), 4, "each role has its process");
    for (n, killed) in first.iter().enumerate() {
        kill_process(*killed, Signal::KILL).unwrap();
        eventually("all run again", || {
            let now = pids(folder.path());
            now.len() == 4 && !now.contains(killed)
        });
        // At the same address, also if it was the gateway.
        let mut tries = 0;
        eventually("they serve again", || {
            tries += 1;
            signs_up(address, &format!("u{n}x{tries}"))
        });
    }
    let log = fs::read_to_string(folder.path().join(".chirp/logs/chirp.log")).unwrap();
    assert!(log.contains("a process died: it starts again"), "{log}");
    let user = run_in(folder.path(), &["logs", "user"]);
    assert!(String::from_utf8(user.stdout).unwrap().contains("ready"));
    let status = run_in(folder.path(), &["status", "--json"]).stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
    assert_eq!(status["processes"].as_array().unwrap().len(), 4, "{status}");

    let last = pids(folder.path());
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(pids(folder.path()).is_empty(), "no run file is left");
    assert!(last.iter().all(|pid| !is_alive(*pid)), "no process is left");
    let down = run_in(folder.path(), &["down", "--purge"]);
    assert!(down.status.success(), "{down:?}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is left");
}

#[test]
fn the_processes_of_a_supervisor_that_is_killed_end_and_another_start_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, talk) = up(folder.path());
    let all = pids(folder.path());
    child.kill().unwrap();
    child.wait().unwrap();
    drop(talk);
    eventually("all have ended", || all.iter().all(|pid| !is_alive(*pid)));
    let detached = run_in(folder.path(), &[&UP[..], &["--detach"]].concat());
    let said = String::from_utf8(detached.stderr).unwrap();
    assert!(detached.status.success() && said.contains("chirp is ready"), "{said}");
    let again = run_in(folder.path(), &UP);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(again.status.success() && said.contains("already up"), "{said}");
    assert!(run_in(folder.path(), &["down"]).status.success());
}

#[test]
fn a_process_that_cannot_start_ends_the_whole_start_with_its_own_error() {
    let folder = tempfile::tempdir().unwrap();
    damaged_keys(folder.path());
    let output = run_in(folder.path(), &UP);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(12), "{said}");
    assert!(said.contains("keys.json` is damaged") && said.contains("(process `user`)"), "{said}");
    assert!(pids(folder.path()).is_empty(), "nothing is left");
    assert!(!folder.path().join(".chirp/run/processes.toml").exists(), "it may hold secrets");
}

#[test]
fn no_secret_stands_in_the_list_of_processes() {
    let folder = tempfile::tempdir().unwrap();
    let secret = "a-service-token-of-forty-two-characters-xx";
    let mut command = chirp(&UP);
    command.env("CHIRP_SERVE_SERVICE_TOKEN", secret).current_dir(folder.path());
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    eventually("it is ready", || run_file(folder.path(), "run.json").is_some());
    for pid in pids(folder.path()) {
        for file in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{}/{file}", pid.as_raw_nonzero())).unwrap();
            assert!(!String::from_utf8_lossy(&text).contains(secret), "{file}");
        }
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let left = fs::read_dir(folder.path().join(".chirp/run")).unwrap();
    for file in left.map(|file| file.unwrap().path()) {
        let text = fs::read(&file).unwrap();
        assert!(!String::from_utf8_lossy(&text).contains(secret), "{} is left", file.display());
    }
}

#[test]
fn a_role_that_is_not_there_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _talk) = up(folder.path());
    let says = |verb: &str| {
        let output = run_in(folder.path(), &[verb]);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(says("doctor").0, Some(0), "{:?}", says("doctor"));
    // Its folder no longer says where it is, as if it were starting.
    let run = folder.path().join(".chirp/run/tweet.json");
    let aside = folder.path().join("tweet.json");
    fs::rename(&run, &aside).unwrap();
    let (_, status) = says("status");
    assert!(status.contains("tweet     does not run  1 of its processes"), "{status}");
    let (code, doctor) = says("doctor");
    assert_eq!(code, Some(1), "{doctor}");
    assert!(
        doctor.contains("fail instance     1 of the processes of `tweet` do not run"),
        "{doctor}"
    );
    fs::rename(&aside, &run).unwrap();
    // One that answers nothing hides nobody.
    let tweet = run_file(folder.path(), "run/tweet.json").unwrap()["pid"].as_i64().unwrap();
    let tweet = Pid::from_raw(i32::try_from(tweet).unwrap()).unwrap();
    kill_process(tweet, Signal::STOP).unwrap();
    let (code, status) = says("status");
    kill_process(tweet, Signal::CONT).unwrap();
    assert_eq!(code, Some(0), "{status}");
    assert!(
        status.contains("tweet     no answer") && status.contains("user      ready"),
        "{status}"
    );
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}
