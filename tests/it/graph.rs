//! `chirp sim graph`: graphs that are made, written, read and refused.

use std::fs;

use crate::support::run_in;

fn json(output: &std::process::Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_graph_is_made_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let made = ["sim", "graph", "--preset", "demo", "--json", "--out", "edges.txt"];
    let made = json(&run_in(folder.path(), &made));
    assert_eq!((&made["schema"], &made["edges"]), (&"chirp.sim.graph/1".into(), &18_812.into()));
    let read = json(&run_in(folder.path(), &["sim", "graph", "--file", "edges.txt", "--json"]));
    for key in ["edges", "following", "reciprocity"] {
        assert_eq!(made[key], read[key], "{key}");
    }
    let people = run_in(folder.path(), &["sim", "graph", "--preset", "demo", "--seed", "2"]);
    let text = String::from_utf8(people.stdout).unwrap();
    assert!(text.contains("edges          18812 (19.6 a user)"), "{text}");
    assert!(!text.contains(made["sha256"].as_str().unwrap()), "another seed");
}

#[test]
fn what_is_no_graph_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("bad.txt"), "1 2\n2 three\n").unwrap();
    for (args, code, sentence) in [
        (
            &["--file", "bad.txt"][..],
            1,
            "`bad.txt` is not a list of edges: line 2: it must have two",
        ),
        (&["--file", "absent.txt"], 1, "`absent.txt` is not a list of edges: No such file"),
        (&["--preset", "huge"], 2, "invalid value 'huge' for '--preset <NAME>'"),
        (&["--users", "100", "--edges", "9999"], 2, "9999 edges are too many for 100 users"),
        (&["--preset", "demo", "--out", "no/such"], 1, "`no/such` cannot be written: No such file"),
        (&["--preset", "demo", "--out", "/dev/full"], 1, "`/dev/full` cannot be written: No space"),
    ] {
        let output = run_in(folder.path(), &[&["sim", "graph"], args].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(sentence), "{said}\nlacks {sentence}");
    }
}
