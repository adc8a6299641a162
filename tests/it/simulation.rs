//! `chirp sim faults` as a command.

use std::process::{Command, Output};

fn chirp(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chirp")).args(["sim", "faults"]).args(args).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_seed_has_the_same_hash_in_every_process_whatever_is_around_it() {
    for seed in ["1", "2", "3"] {
        let one = chirp(&["--json", "--seed", seed]);
        let two = Command::new(env!("CARGO_BIN_EXE_chirp"))
            .args(["sim", "faults", "--json", "--seed", seed])
            .current_dir(std::env::temp_dir())
            .env("TZ", "Asia/Tokyo")
            .env("UNRELATED", "x".repeat(5_000))
            .output()
            .unwrap();
        assert!(one.status.success() && two.status.success());
        assert_eq!(json(&one)["outcome"]["hash"], json(&two)["outcome"]["hash"], "seed {seed}");
        assert_eq!(json(&one)["outcome"]["hash"].as_str().unwrap().len(), 32);
    }
    let compared = chirp(&["--json", "--check-determinism", "1"]);
    assert!(compared.status.success());
    assert_eq!(json(&compared)["determinism"]["pairs"], 1);
}

#[test]
fn a_violation_is_exit_code_1_with_the_seed_the_invariant_and_the_command_that_replays_it() {
    // A hunt is a success when it finds; its replay is a failure, as every violation is.
    let hunt = chirp(&["--json", "--mutant", "m09", "--seeds", "300"]);
    assert!(hunt.status.success());
    let found = json(&hunt)["mutants"][0]["found"].clone();
    assert_eq!(found["invariant"], "S5.delete_honoured");
    assert!(found["tweet"].is_string() && found["at_ms"].is_u64());
    let replay = found["replay"].as_str().unwrap();
    assert!(replay.ends_with("--mutant M09"), "{replay}");
    let words: Vec<&str> = replay.split(' ').skip(3).collect();
    let replayed = chirp(&words);
    assert_eq!(replayed.status.code(), Some(1));
    let text = String::from_utf8(replayed.stderr).unwrap();
    assert!(text.contains("S5.delete_honoured") && text.contains(replay), "{text}");
}

#[test]
fn a_bug_that_is_not_there_is_a_usage_error_that_names_those_that_are() {
    let output = chirp(&["--mutant", "M99"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8(output.stderr).unwrap().contains("MX1"));
}
