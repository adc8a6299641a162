//! What verbs do beside the table of conditions (`commands`): outputs, limits, and what is left.

use std::{fs, path::Path};

use crate::support::{
    chirp,
    obstacles::{Holder, damaged_keys, damaged_token, file_for_folder, lost_store, stopped_stack},
    run_in,
};

#[test]
fn too_few_open_files_are_told_by_every_verb_and_by_none_with_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    for (limit, args, exit) in [
        (16, "up --port 0 --admin-port 0", 17),
        (16, "serve --role all --port 0", 17),
        (4, "doctor", 17),
    ] {
        let call = format!("ulimit -n {limit}; exec {} {args}", env!("CARGO_BIN_EXE_chirp"));
        let mut shell = std::process::Command::new("sh");
        let output = shell.args(["-c", &call]).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(exit), "{args}: {said}");
        assert!(said.contains("hint: raise the limit of open files: `ulimit -n 1024`"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none(), "nothing is left behind");
}

#[test]
fn output_that_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &str, to: &str| {
        let call = format!("exec {} {args} {to}", env!("CARGO_BIN_EXE_chirp"));
        let mut shell = std::process::Command::new("bash");
        shell.args(["-c", &call]).current_dir(folder.path()).output().unwrap()
    };
    for args in ["config show", "config show --json", "completions bash", "doctor", "--help"] {
        let output = run(args, "> /dev/full");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{args}: {said}");
        assert!(said.contains("error: cannot write to standard output: No space"), "{said}");
        assert!(said.contains("hint: make room"), "{said}");
        // The substitution's reader ends without reading.
        let output = run(args, "> >(exec true)");
        assert!(!String::from_utf8(output.stderr).unwrap().contains("standard output"), "{args}");
    }
}

#[test]
fn a_start_that_is_refused_or_fails_leaves_no_store_open() {
    let blocked_run = |folder: &Path| {
        stopped_stack(folder);
        // In the place of the file that a start writes at its end.
        fs::create_dir(folder.join(".chirp/run.json.new")).unwrap();
        fs::create_dir_all(folder.join(".chirp/run/user.json.new")).unwrap();
        (None, String::new())
    };
    let serve = &["serve", "--role", "user", "--port", "0"];
    for given in [damaged_token as fn(&Path) -> (Option<Holder>, String), blocked_run] {
        for args in [&["up", "--port", "0", "--admin-port", "0"], serve] as [&[&str]; 2] {
            let folder = tempfile::tempdir().unwrap();
            given(folder.path());
            let output = run_in(folder.path(), args);
            assert!(!output.status.success(), "{args:?}");
            let left = fs::read_dir(folder.path().join(".chirp")).unwrap();
            let names = left.map(|file| file.unwrap().file_name().into_string().unwrap());
            let logs: Vec<String> =
                names.filter(|name| name.ends_with("-wal") || name.ends_with("-shm")).collect();
            assert_eq!(logs, Vec::<String>::new(), "{args:?}: {output:?}");
        }
    }
}

#[test]
fn a_doctor_sees_what_a_start_would_refuse_and_changes_nothing() {
    for (given, finding) in [
        (damaged_keys as fn(&Path) -> (Option<Holder>, String), "keys.json` is damaged"),
        (damaged_token, "service.token` is damaged"),
        (lost_store, "tweet.db` is not what this data folder had"),
        (file_for_folder, "fail data folder  `.chirp/run` cannot be written: "),
    ] {
        let folder = tempfile::tempdir().unwrap();
        given(folder.path());
        let output = run_in(folder.path(), &["doctor"]);
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(finding), "{said}\nlacks {finding}");
    }
    let folder = tempfile::tempdir().unwrap();
    let call = format!("ulimit -n 100; exec {} doctor", env!("CARGO_BIN_EXE_chirp"));
    let mut shell = std::process::Command::new("sh");
    let output = shell.args(["-c", &call]).current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("fail open files   at most 100 files may be open"), "{said}");
    let said = String::from_utf8(run_in(folder.path(), &["doctor"]).stdout).unwrap();
    assert!(said.contains("are made by the first start"), "{said}");
    assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
}

#[test]
fn a_variable_that_is_not_text_is_refused_not_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = chirp(&["config", "show"]);
    let value = std::os::unix::ffi::OsStrExt::from_bytes(b"\xff");
    let value: &std::ffi::OsStr = value;
    let output = command.current_dir(folder.path()).env("CHIRP_LOG_LEVEL", value).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("the value of the variable `CHIRP_LOG_LEVEL` is not text"), "{said}");
}

#[test]
fn help_and_completions_are_data_and_help_has_the_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let help = run_in(folder.path(), &["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(help.status.success());
    assert!(text.contains("13  the data folder was written by another version"), "{text}");
    let script = run_in(folder.path(), &["completions", "bash"]);
    assert!(String::from_utf8(script.stdout).unwrap().contains("_chirp"));
}

#[test]
fn the_configuration_shows_every_value_with_where_it_is_from() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("chirp.toml"), "[up]\nport = 9000\n").unwrap();
    let mut command = chirp(&["config", "show", "--json"]);
    let output = command.current_dir(folder.path()).env("CHIRP_LOG_LEVEL", "debug").output();
    let all: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    for (key, value, from) in [
        ("up.port", "9000", "chirp.toml"),
        ("log.level", "\"debug\"", "CHIRP_LOG_LEVEL"),
        ("timeline.near_ttl_ms", "250", "default"),
    ] {
        assert_eq!(
            (all[key]["value"].to_string().as_str(), &all[key]["from"]),
            (value, &from.into())
        );
    }
    let text = run_in(folder.path(), &["config", "show"]).stdout;
    fs::write(folder.path().join("chirp.toml"), &text).unwrap();
    let again = run_in(folder.path(), &["config", "show"]);
    assert!(again.status.success(), "what is shown can be read back: {again:?}");
    fs::write(folder.path().join("chirp.toml"), "[up]\nprot = 9000\n").unwrap();
    let refused = run_in(folder.path(), &["config", "show"]);
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let default = run_in(folder.path(), &["config", "show", "--default"]);
    let text = String::from_utf8(default.stdout).unwrap();
    assert!(text.contains("port = 8080") && !text.contains("chirp.toml"), "{text}");
}

#[test]
fn a_folder_of_an_earlier_release_is_told_to_be_behind_and_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    stopped_stack(folder.path());
    let migrate = |args: &[&str]| {
        let output = run_in(folder.path(), &[&["migrate"], args].concat());
        let told = String::from_utf8(output.stdout).unwrap();
        (output.status.code(), told, String::from_utf8(output.stderr).unwrap())
    };
    let up_to_date = |(code, told, said): (Option<i32>, String, String)| {
        assert_eq!((code, told.as_str()), (Some(0), ""), "{said}");
        assert!(said.contains("every schema is up to date"), "{said}");
    };
    up_to_date(migrate(&["--check"]));
    let store = rusqlite::Connection::open(folder.path().join(".chirp/timeline.db")).unwrap();
    let version_1 = "
        alter table tweets drop column media;
        drop table home_timelines;
        drop table home_floors;
        drop table strategies;
        pragma user_version = 1";
    store.execute_batch(version_1).unwrap();
    drop(store);
    for _ in 0..2 {
        let (code, told, said) = migrate(&["--check"]);
        assert_eq!((code, told.as_str()), (Some(19), "timeline.db\tthe last 2\n"), "{said}");
        assert!(said.contains("error: the schema is behind: timeline.db"), "{said}");
        assert!(said.contains("hint: `chirp migrate` takes the steps"), "{said}");
    }
    let (code, told, said) = migrate(&[]);
    assert_eq!((code, told.as_str()), (Some(0), "timeline.db\tthe last 2\n"), "{said}");
    up_to_date(migrate(&["--check"]));
}
