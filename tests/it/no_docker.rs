//! Containers where there are none to be had: what is told, and that nothing is left. What needs a
//! real engine is in `tests/backends`.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::Stdio,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::chirp;

const UP: [&str; 7] = ["up", "--port", "0", "--admin-port", "0", "--backends", "containers"];

/// An engine that answers every question with `status` and `body`, for as long as the tests run.
fn engine(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut head = BufReader::new(stream.try_clone().unwrap()).lines();
            while head.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: application/json");
            // Whoever has gone hears nothing.
            drop(write!(
                stream,
                "{head}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            ));
        }
    });
    address
}

#[test]
fn what_stands_in_the_way_of_docker_is_one_sentence_with_a_way_out() {
    let old = engine("200 OK", r#"{"Version":"17.03.0-ce","ApiVersion":"1.26"}"#);
    let ill = engine("500 Internal Server Error", r#"{"message":"the engine is ill"}"#);
    for (host, sentence, hint) in [
        ("unix:///nowhere.sock", "there is no Docker at `/nowhere.sock`", "install Docker"),
        ("tcp://127.0.0.1:1", "Docker does not answer: nobody listens there", "start it"),
        (&old, "it speaks version 1.26 of its interface, chirp needs 1.40", "install Docker 19.03"),
        (&ill, "Docker does not answer: the engine is ill", "start it"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = chirp(&UP);
        let output = command.env("DOCKER_HOST", host).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(20), "{host}: {said}");
        let error = said.lines().find(|line| line.starts_with("error:")).unwrap();
        assert!(error.contains(sentence), "{said}\nlacks {sentence}");
        assert!(said.contains(&format!("hint: {hint}")), "{said}\nlacks {hint}");
        assert!(said.contains("`--backends embedded` needs none"), "{said}");
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "{host}: something is left");
    }
}

#[test]
fn without_docker_auto_is_embedded_and_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["up", "--port", "0", "--admin-port", "0", "--backends", "auto"];
    for why in ["there is no Docker at `/nowhere.sock`", "`.chirp` has its data there"] {
        let mut command = chirp(&args);
        command.env("DOCKER_HOST", "unix:///nowhere.sock").current_dir(folder.path());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut talk = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.contains("chirp is ready") {
            assert!(talk.read_line(&mut said).unwrap() > 0, "it ended: {said}");
        }
        assert!(said.contains(&format!("embedded backends, as {why}")), "{said}");
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn a_folder_is_only_used_with_the_backends_that_have_its_data() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join(".chirp");
    let known = r#"{"kind":"containers","stack":"0123456789abcdef0123456789abcdef","kept":true}"#;
    for (file, text, args, sentence) in [
        ("stores.json", "", &UP[..], "has its data in embedded backends, not in containers ones"),
        ("backends.json", known, &UP[..5], "has its data in containers backends, not in embedded"),
        (
            "backends.json",
            known,
            &["migrate", "--check"],
            "has its data in containers backends, not in embedded",
        ),
        (
            "backends.json",
            known,
            &["serve", "--role", "user", "--port", "0"],
            "has its data in containers backends, not in embedded",
        ),
    ] {
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("chirp.lock"), "").unwrap();
        fs::write(data.join(file), text).unwrap();
        let output = chirp(args).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(23), "{said}");
        assert!(said.contains(sentence), "{said}\nlacks {sentence}");
        assert!(said.contains("hint: `chirp up --backends "), "{said}");
        assert_eq!(fs::read_to_string(data.join(file)).unwrap(), text, "it is as it was");
        fs::remove_dir_all(&data).unwrap();
    }
}

/// A data folder whose data is in other backends than files, which were kept.
fn used_with(kind: &str, folder: &Path) -> PathBuf {
    let (data, stack) = (folder.join(".chirp"), "0123456789abcdef0123456789abcdef");
    fs::create_dir_all(&data).unwrap();
    fs::write(data.join("chirp.lock"), "").unwrap();
    let text = format!(r#"{{"kind":"{kind}","stack":"{stack}","kept":true}}"#);
    fs::write(data.join("backends.json"), text).unwrap();
    data
}

#[test]
fn containers_that_may_be_left_are_not_forgotten_because_docker_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let data = used_with("containers", folder.path());
    for args in [&["down"][..], &["down", "--purge"]] {
        let mut command = chirp(args);
        command.env("DOCKER_HOST", "unix:///nowhere.sock").current_dir(folder.path());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(20), "{output:?}");
        assert!(data.join("backends.json").exists(), "its name is needed to find them");
    }
}

#[test]
fn a_role_cannot_start_containers_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = chirp(&["serve", "--role", "user", "--port", "0"]);
    command.env("CHIRP_BACKENDS_KIND", "containers").current_dir(folder.path());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(
        said.contains("`backends.kind` is `containers`, which only `chirp up` starts"),
        "{said}"
    );
}

#[test]
fn a_doctor_tells_of_docker_without_needing_it() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = |kind: &str| {
        let mut command = chirp(&["doctor"]);
        command.env("DOCKER_HOST", "unix:///nowhere.sock").env("CHIRP_BACKENDS_KIND", kind);
        let output = command.current_dir(folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(doctor("embedded").contains("ok   docker       there is no Docker at"));
    assert!(doctor("containers").contains("fail docker       there is no Docker at"));
}

#[test]
fn a_doctor_knows_what_a_folder_was_used_with() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = |kind: &str| {
        let mut command = chirp(&["doctor"]);
        command.env("CHIRP_BACKENDS_KIND", kind).env("DOCKER_HOST", "unix:///nowhere.sock");
        let output = command.current_dir(folder.path()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    for (used, said, refused) in [
        ("external", "embedded", true),
        ("external", "containers", true),
        ("containers", "external", true),
        ("containers", "embedded", false),
    ] {
        used_with(used, folder.path());
        let found = doctor(said);
        let fails = found.contains("fail stores") && found.contains(&format!("data in {used} "));
        assert_eq!(fails, refused, "{used}, {said}: {found}");
        assert!(!found.contains("made by the first start"), "{used}, {said}: {found}");
    }
}
