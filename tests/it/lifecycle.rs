//! Starting, stopping, starting again: what a person with a terminal meets.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::support::{PATIENCE, chirp, run_in};

const UP: [&str; 5] = ["up", "--port", "0", "--admin-port", "0"];

/// Starts a stack and reads what it says until it says that it is ready. Gives the page's address.
fn up(folder: &Path) -> (Child, BufReader<impl Read + use<>>, String) {
    let mut child = chirp(&UP).current_dir(folder).stderr(Stdio::piped()).spawn().unwrap();
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("chirp is ready") {
        assert!(talk.read_line(&mut said).unwrap() > 0, "it ended: {said}");
    }
    let run = fs::read(folder.join(".chirp/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_slice(&run).unwrap();
    (child, talk, run["address"].as_str().unwrap().to_owned())
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

/// One call that needs the gateway, the user role and a store.
fn signs_up(address: &str, handle: &str) -> String {
    let body = format!("{{\"handle\":\"{handle}\",\"password\":\"correct horse\"}}");
    let mut stream = TcpStream::connect(address).unwrap();
    let head =
        "POST /users HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_first_request_in_the_instant_of_the_ready_line_succeeds_every_time() {
    // `CHIRP_TEST_STARTS=100` repeats it as often as a sceptic likes.
    let starts = std::env::var("CHIRP_TEST_STARTS").map_or(10, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    for n in 0..starts {
        let (mut child, _talk, address) = up(folder.path());
        let answer = signs_up(&address, &format!("u{n}"));
        assert!(answer.starts_with("HTTP/1.1 201"), "start {n}: {answer}");
        if n % 2 == 0 {
            signal(&child, rustix::process::Signal::TERM);
            assert!(child.wait().unwrap().success());
            assert!(!folder.path().join(".chirp/run.json").exists());
        } else {
            // The next start meets what a power failure leaves.
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

#[test]
fn an_open_stream_does_not_hold_up_a_stop_and_a_second_signal_kills() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _talk, address) = up(folder.path());
    let answer = signs_up(&address, "ada");
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let session: serde_json::Value = serde_json::from_str(body).unwrap();
    let token = session["access_token"].as_str().unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    let head = "GET /timeline/stream HTTP/1.1\r\nhost: x\r\nauthorization: Bearer";
    write!(stream, "{head} {token}\r\n\r\n").unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    let began = Instant::now();
    signal(&child, rustix::process::Signal::INT);
    assert!(child.wait().unwrap().success());
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
}

#[test]
fn a_detached_stack_gives_the_terminal_back_and_a_second_up_is_status() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = run_in(folder.path(), args);
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), said)
    };
    let (code, data, said) = run(&[&UP[..], &["--detach"]].concat());
    assert_eq!((code, data.as_str()), (0, ""), "{said}");
    for wanted in ["chirp is ready", "page ", "API ", "data ", "logs ", "curl -s ", " status"] {
        assert!(said.contains(wanted), "{said}\nlacks {wanted}");
    }
    // What is pasted from there works.
    let curl = said.lines().find(|line| line.trim().starts_with("curl")).unwrap().trim();
    let address = curl.split("http://").nth(1).unwrap().split('/').next().unwrap();
    assert!(signs_up(address, "ada").starts_with("HTTP/1.1 201"));

    let (code, _, said) = run(&UP);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("already up") && said.contains(address), "{said}");
    let (code, data, _) = run(&["status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&data).unwrap();
    assert_eq!((code, &status["processes"][0]["ready"]), (0, &true.into()), "{data}");
    let (code, data, said) = run(&["logs", "-n", "1000"]);
    assert_eq!(code, 0, "{said}");
    for line in data.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["message"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(!data.contains("correct horse"));
    let (code, _, said) = run(&["down", "--purge"]);
    assert_eq!(code, 0, "{said}");
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_replay_works_on_a_folder_on_which_nothing_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _talk, address) = up(folder.path());
    assert!(signs_up(&address, "ada").starts_with("HTTP/1.1 201"));
    signal(&child, rustix::process::Signal::TERM);
    assert!(child.wait().unwrap().success());
    let replay = run_in(folder.path(), &["replay", "--since", "1h"]);
    // A sign-up is no event of the graph: there is nothing to send, and that is told.
    assert_eq!(String::from_utf8(replay.stdout).unwrap(), "0\n");
    assert!(replay.status.success());
}

#[test]
fn crash_marks_name_the_last_point_that_was_passed() {
    let folder = tempfile::tempdir().unwrap();
    let marks = folder.path().join("marks");
    let mut command = chirp(&UP);
    command.current_dir(folder.path()).env("CHIRP_CRASH_MARKS", &marks);
    let mut child = command.stderr(Stdio::null()).spawn().unwrap();
    let mark = || fs::read_to_string(&marks).unwrap_or_default().trim_end().to_owned();
    let began = Instant::now();
    while !["idle", "relay", "worker", "ack"].contains(&mark().as_str()) {
        assert!(
            ["", "recovery", "relay", "worker", "ack"].contains(&mark().as_str()),
            "{}",
            mark()
        );
        assert!(began.elapsed() < PATIENCE);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!mark().is_empty());
}
