//! Starting, stopping, starting again: what a person with a terminal meets.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use crate::support::{chirp, patience, run_in};

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
fn a_terminal_that_goes_away_stops_it_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _talk, address) = up(folder.path());
    assert!(signs_up(&address, "ada").starts_with("HTTP/1.1 201"));
    signal(&child, rustix::process::Signal::HUP);
    assert!(child.wait().unwrap().success());
    assert!(!folder.path().join(".chirp/run.json").exists());
}

#[test]
fn of_two_starts_at_the_same_instant_both_end_with_a_stack_that_is_up() {
    for _ in 0..3 {
        let folder = tempfile::tempdir().unwrap();
        // Fixed ports: the later one must not trip over those of the earlier.
        let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (port, admin) = (free().port().to_string(), free().port().to_string());
        let args = ["up", "--detach", "--port", &port, "--admin-port", &admin];
        let start = || chirp(&args).current_dir(folder.path()).stderr(Stdio::piped()).spawn();
        let both =
            [start().unwrap(), start().unwrap()].map(|child| child.wait_with_output().unwrap());
        let said = both.each_ref().map(|output| String::from_utf8_lossy(&output.stderr));
        let codes = both.each_ref().map(|output| output.status.code());
        assert_eq!(codes, [Some(0), Some(0)], "{said:?}");
        assert!(said.iter().all(|said| said.contains("chirp is ready")), "{said:?}");
        let already = said.iter().filter(|said| said.contains("already up"));
        assert_eq!(already.count(), 1, "{said:?}");
        assert!(run_in(folder.path(), &["down"]).status.success());
    }
}

#[test]
fn down_stops_a_stack_that_is_still_starting() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, _talk, _) = up(folder.path());
    signal(&first, rustix::process::Signal::TERM);
    assert!(first.wait().unwrap().success());
    // Somebody else writes into a store, so that the start waits for as long as it is held.
    let store = rusqlite::Connection::open(folder.path().join(".chirp/user.db")).unwrap();
    store.execute_batch("begin immediate").unwrap();
    let mut child = chirp(&UP).current_dir(folder.path()).stderr(Stdio::null()).spawn().unwrap();
    let began = Instant::now();
    let pid = child.id().to_string();
    while fs::read_to_string(folder.path().join(".chirp/chirp.lock")).unwrap() != pid {
        assert!(began.elapsed() < patience());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!folder.path().join(".chirp/run.json").exists(), "it is not ready");
    let down = chirp(&["down"]).current_dir(folder.path()).stderr(Stdio::piped()).spawn().unwrap();
    // Long enough for it to be told in the middle; whatever comes of that, it ends well.
    std::thread::sleep(Duration::from_millis(500));
    drop(store);
    let down = down.wait_with_output().unwrap();
    assert!(down.status.success(), "{}", String::from_utf8_lossy(&down.stderr));
    assert!(child.wait().unwrap().success());
    assert!(!folder.path().join(".chirp/run.json").exists());
}

/// Starts `args` and waits until it catches signals, which it does before it opens its marks.
fn begins(folder: &Path, args: &[&str]) -> Child {
    let marks = folder.join("marks");
    drop(fs::remove_file(&marks));
    let mut command = chirp(args);
    command.current_dir(folder).env("CHIRP_CRASH_MARKS", &marks).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let began = Instant::now();
    while !marks.exists() {
        assert!(child.try_wait().unwrap().is_none() && began.elapsed() < patience());
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn the_first_signal_ends_a_start_that_waits_for_another_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join(".chirp/run")).unwrap();
    let lock = fs::File::create(folder.path().join(".chirp/chirp.lock")).unwrap();
    lock.lock().unwrap();
    let child = begins(folder.path(), &UP);
    signal(&child, rustix::process::Signal::INT);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("stopped before it was ready"), "{said}");
}

#[test]
fn the_second_signal_kills_a_start_that_a_store_holds_up() {
    let folder = tempfile::tempdir().unwrap();
    let (mut first, _talk, _) = up(folder.path());
    signal(&first, rustix::process::Signal::TERM);
    assert!(first.wait().unwrap().success());
    let store = rusqlite::Connection::open(folder.path().join(".chirp/user.db")).unwrap();
    store.execute_batch("pragma locking_mode = exclusive; begin exclusive").unwrap();
    for args in [&UP[..], &["serve", "--role", "user", "--port", "0"]] {
        let child = begins(folder.path(), args);
        // Two kinds, as two of one kind may reach it as one.
        signal(&child, rustix::process::Signal::INT);
        signal(&child, rustix::process::Signal::TERM);
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{args:?}: {said}");
    }
}

#[test]
fn a_timeline_role_may_leave_its_workers_out_and_another_start_does_their_work() {
    let folder = tempfile::tempdir().unwrap();
    let serve = |worker: &str| {
        let args = ["serve", "--role", "all", "--port", "0", "--worker", worker];
        let mut command = chirp(&args);
        command.current_dir(folder.path()).env("CHIRP_AUTH_ARGON2_MEMORY_KIB", "8");
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("timeline ready") {
            assert!(talk.read_line(&mut said).unwrap() > 0, "it ended: {said}");
        }
        (child, talk)
    };
    let run = |role: &str| -> serde_json::Value {
        let file = folder.path().join(format!(".chirp/run/{role}.json"));
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    };
    let waiting = || {
        let status = run_in(folder.path(), &["status", "--json"]).stdout;
        let status: serde_json::Value = serde_json::from_slice(&status).unwrap();
        let lanes = status["processes"][0]["queues"]["lanes"].as_array().unwrap().clone();
        lanes.iter().map(|l| l["depth"].as_u64().unwrap() + l["in_flight"].as_u64().unwrap()).sum()
    };
    let wait_for = |done: &dyn Fn(u64) -> bool| {
        let began = Instant::now();
        while !done(waiting()) {
            assert!(began.elapsed() < patience());
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let (mut child, talk) = serve("off");
    let address = run("gateway")["address"].as_str().unwrap().to_owned();
    let answer = signs_up(&address, "ada");
    let session: serde_json::Value =
        serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let token = session["access_token"].as_str().unwrap();
    let mut stream = TcpStream::connect(&address).unwrap();
    let body = r#"{"text":"hello"}"#;
    write!(
        stream,
        "POST /tweets HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    wait_for(&|waiting: u64| waiting > 0);
    signal(&child, rustix::process::Signal::TERM);
    assert!(child.wait().unwrap().success());
    drop(talk);
    let (mut child, _talk) = serve("only");
    wait_for(&|waiting: u64| waiting == 0);
    signal(&child, rustix::process::Signal::TERM);
    assert!(child.wait().unwrap().success());
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
        assert!(began.elapsed() < patience());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!mark().is_empty());
}
