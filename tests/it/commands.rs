//! Condition -> sentence, hint, exit code: one table for everything that can stand in the way.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::support::{
    chirp,
    obstacles::{
        Holder, busy_port, config, damaged_keys, damaged_page, damaged_store, damaged_token,
        empty_store, file_for_folder, lost_store, newer_store, role_runs, stopped_stack,
        swapped_store,
    },
};

/// A condition with what the user is told.
struct Case {
    name: &'static str,
    /// Brings the condition about in the folder where the command is run; what it gives is held
    /// until the command has ended. The last text is put for `{}` in the arguments.
    given: fn(&Path) -> (Option<Holder>, String),
    run: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    exit: i32,
    sentence: &'static str,
    hint: &'static str,
    /// Nothing may be left in the folder.
    clean: bool,
}

const UP: &[&str] = &["up", "--port", "0", "--admin-port", "0"];
const NOTHING: fn(&Path) -> (Option<Holder>, String) = |_| (None, String::new());

const DEFAULT: Case = Case {
    name: "",
    given: NOTHING,
    run: UP,
    env: &[],
    exit: 0,
    sentence: "",
    hint: "",
    clean: false,
};

#[expect(clippy::too_many_lines, reason = "it is one table")]
fn cases() -> Vec<Case> {
    vec![
        Case {
            name: "port in use",
            given: busy_port,
            run: &["up", "--port", "{}", "--admin-port", "0"],
            exit: 10,
            sentence: "port {} of 127.0.0.1 is in use",
            hint: "choose another with `--port` or `--admin-port`",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "port in use, before containers are started for processes",
            given: busy_port,
            run: &["up", "--processes", "--port", "{}", "--admin-port", "0"],
            env: &[("CHIRP_BACKENDS_KIND", "containers"), ("DOCKER_HOST", "unix:///nowhere.sock")],
            exit: 10,
            sentence: "port {} of 127.0.0.1 is in use",
            hint: "choose another with `--port` or `--admin-port`",
            clean: true,
        },
        Case {
            name: "admin port in use, detached",
            given: busy_port,
            run: &["up", "--port", "0", "--admin-port", "{}", "--detach"],
            exit: 10,
            sentence: "port {} of 127.0.0.1 is in use",
            hint: "choose another with",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "address of another machine",
            env: &[("CHIRP_UP_ADDRESS", "192.0.2.1")],
            exit: 10,
            sentence: "cannot listen on 192.0.2.1:0: ",
            hint: "choose an address of this machine",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "data folder below a file",
            given: |folder| {
                fs::write(folder.join("file"), "").unwrap();
                (None, String::new())
            },
            run: &["up", "--port", "0", "--admin-port", "0", "--data-dir", "file/data"],
            exit: 11,
            sentence: "error: `file/data` cannot be written: not a directory",
            hint: "choose another folder with `--data-dir`",
            ..DEFAULT
        },
        Case {
            name: "a file in the place of a folder",
            given: file_for_folder,
            exit: 11,
            sentence: "error: `.chirp/run` cannot be written: file exists",
            hint: "choose another folder with `--data-dir`",
            ..DEFAULT
        },
        Case {
            name: "damaged store",
            given: damaged_store,
            exit: 12,
            sentence: "`.chirp/user.db` is damaged: ",
            hint: "restore the file from a copy, or begin anew",
            ..DEFAULT
        },
        Case {
            name: "damaged page",
            given: damaged_page,
            exit: 12,
            sentence: "error: `.chirp/user.db` is damaged: a page of it is not what it must be (",
            hint: ")\nhint: restore the file from a copy",
            ..DEFAULT
        },
        Case {
            name: "a folder in the place of a store",
            given: |folder| {
                stopped_stack(folder);
                fs::remove_file(folder.join(".chirp/tweet.db")).unwrap();
                fs::create_dir(folder.join(".chirp/tweet.db")).unwrap();
                (None, String::new())
            },
            exit: 12,
            sentence: "`.chirp/tweet.db` is not what this data folder had there: a folder is there",
            hint: "put the file back",
            ..DEFAULT
        },
        Case {
            name: "a folder in the place of a store, first start",
            given: |folder| {
                fs::create_dir_all(folder.join(".chirp/tweet.db")).unwrap();
                (None, String::new())
            },
            exit: 12,
            sentence: "`.chirp/tweet.db` is not what this data folder had there: a folder is there",
            hint: "put the file back",
            ..DEFAULT
        },
        Case {
            name: "lost store",
            given: lost_store,
            exit: 12,
            sentence: "`.chirp/tweet.db` is not what this data folder had there: it is missing",
            hint: "put the file back, or the whole folder from a copy",
            ..DEFAULT
        },
        Case {
            name: "empty store, single role",
            given: empty_store,
            run: &["serve", "--role", "user", "--port", "0"],
            exit: 12,
            sentence: "`.chirp/timeline.db` is not what this data folder had there: it is empty",
            hint: "put the file back",
            ..DEFAULT
        },
        Case {
            name: "store of another folder",
            given: swapped_store,
            exit: 12,
            sentence: "`.chirp/user.db` is not what this data folder had there: it is another folder",
            hint: "put the file back",
            ..DEFAULT
        },
        Case {
            name: "another store of the same folder",
            given: |folder| {
                stopped_stack(folder);
                fs::copy(folder.join(".chirp/tweet.db"), folder.join(".chirp/user.db")).unwrap();
                (None, String::new())
            },
            exit: 12,
            sentence: "`.chirp/user.db` is not what this data folder had there: it is not the user",
            hint: "put the file back",
            ..DEFAULT
        },
        Case {
            name: "damaged token",
            given: damaged_token,
            exit: 12,
            sentence: "`.chirp/service.token` is damaged: it is not 64 hexadecimal digits",
            hint: "hint: remove the file: a new one is made",
            ..DEFAULT
        },
        Case {
            name: "damaged token, replay",
            given: damaged_token,
            run: &["replay", "--since", "1h"],
            exit: 12,
            sentence: "`.chirp/service.token` is damaged: it is not 64 hexadecimal digits",
            hint: "hint: remove the file: a new one is made",
            ..DEFAULT
        },
        Case {
            name: "store of a newer version",
            given: newer_store,
            exit: 13,
            sentence: "`.chirp/tweet.db` has data of version 999, this program knows version",
            hint: "use the newer program that wrote it",
            ..DEFAULT
        },
        Case {
            name: "a role runs here already",
            given: role_runs,
            exit: 14,
            sentence: "the data folder `.chirp` is in use by `chirp serve` (user ",
            hint: "`chirp status` shows what runs",
            ..DEFAULT
        },
        Case {
            name: "the same role twice",
            given: role_runs,
            run: &["serve", "--role", "user,tweet", "--port", "0"],
            exit: 14,
            sentence: "the data folder `.chirp` is in use by `chirp serve` (user ",
            hint: "`chirp status` shows what runs",
            ..DEFAULT
        },
        Case {
            name: "no stack to show",
            run: &["status"],
            exit: 15,
            sentence: "nothing runs on the data folder `.chirp`",
            hint: "starts it",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "no stack to stop",
            run: &["down"],
            exit: 15,
            sentence: "nothing runs on the data folder `.chirp`",
            hint: "starts it",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "no log to show",
            run: &["logs"],
            exit: 15,
            sentence: "there is no log file `.chirp/logs/chirp.log`",
            hint: "`chirp up` writes it",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "nothing to replay",
            run: &["replay", "--since", "1h"],
            exit: 15,
            sentence: "there is no data folder `.chirp`",
            hint: "name the folder with `--data-dir`",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "nothing to migrate",
            run: &["migrate", "--check"],
            exit: 15,
            sentence: "there is no data folder `.chirp`",
            hint: "name the folder with `--data-dir`",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "keys that cannot be read",
            given: damaged_keys,
            exit: 12,
            sentence: "`.chirp/keys.json` is damaged: it does not hold keys",
            hint: "hint: remove the file: a new one is made (access tokens end",
            ..DEFAULT
        },
        Case {
            name: "a path with a space",
            run: &["status", "--data-dir", "my data"],
            exit: 15,
            sentence: "nothing runs on the data folder `my data`",
            hint: "up --data-dir 'my data'` starts it",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "no folder to purge",
            run: &["down", "--purge"],
            exit: 15,
            sentence: "there is no data folder `.chirp`: nothing was removed",
            hint: "name the folder with `--data-dir`",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "somebody else's folder to purge",
            given: |folder| {
                fs::create_dir(folder.join("photos")).unwrap();
                fs::write(folder.join("photos/user.db"), "mine").unwrap();
                (None, String::new())
            },
            run: &["down", "--purge", "--data-dir", "photos"],
            exit: 15,
            sentence: "`photos` is no data folder of chirp: nothing was removed",
            hint: "name the folder with `--data-dir`",
            ..DEFAULT
        },
        Case {
            name: "malformed address",
            given: |folder| config("[up]\naddress = \"here\"\n", folder),
            exit: 3,
            sentence: "chirp.toml sets `up.address` to \"here\", which cannot be: ",
            hint: "`chirp config show --default` lists every key",
            ..DEFAULT
        },
        Case {
            name: "number below zero",
            env: &[("CHIRP_UP_PORT", "-1")],
            run: &["config", "show"],
            exit: 3,
            sentence: "CHIRP_UP_PORT sets `up.port` to -1, which cannot be: ",
            hint: "`chirp config show --default` lists every key",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "workers without their role",
            run: &["serve", "--role", "user", "--worker", "off"],
            exit: 2,
            sentence: "`--worker` is for the timeline role, which is not among the roles",
            hint: "leave it out, or add `--role timeline`",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "no role at all",
            run: &["serve"],
            exit: 2,
            sentence: "the following required arguments were not provided: --role <ROLE>",
            hint: "hint: try `--help`",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "unknown key in the file",
            given: |folder| config("[up]\nprot = 1\n", folder),
            exit: 3,
            sentence: "chirp.toml sets `up.prot`, which is not a key of the configuration",
            hint: "did you mean `up.port`?",
            ..DEFAULT
        },
        Case {
            name: "value out of range",
            given: |folder| config("[timeline]\npage_max = 0\n", folder),
            run: &["config", "show"],
            exit: 3,
            sentence: "chirp.toml is refused: `timeline.page_max` is 0, allowed are 1 to 200",
            hint: "`chirp config show --default` lists every key",
            ..DEFAULT
        },
        Case {
            name: "unknown variable",
            env: &[("CHIRP_UP_PROT", "1")],
            exit: 3,
            sentence: "the environment sets `CHIRP_UP_PROT`, which is not a key",
            hint: "did you mean `CHIRP_UP_PORT`?",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "no such configuration file",
            run: &["up", "--config", "nowhere.toml"],
            exit: 3,
            sentence: "cannot read `nowhere.toml`: ",
            hint: "name a file that can be read",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "unknown flag",
            run: &["up", "--prot", "1"],
            exit: 2,
            sentence: "unexpected argument '--prot' found",
            hint: "hint: a similar argument exists: '--port'",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "not a role",
            run: &["serve", "--role", "mail"],
            exit: 2,
            sentence: "the roles are gateway, user, tweet, timeline, and `all`",
            hint: "hint: try `--help`",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "a time to come",
            run: &["replay", "--since", "2100-01-01T00:00:00Z"],
            exit: 2,
            sentence: "`--since` names a time that has not come yet",
            hint: "`--since 2h` is two hours ago",
            clean: true,
            ..DEFAULT
        },
        Case {
            name: "not a time",
            run: &["replay", "--since", "tomorrow"],
            exit: 2,
            sentence: "it is neither like `2h` nor like `2026-11-24T13:00:00Z` nor",
            hint: "hint: try `--help`",
            clean: true,
            ..DEFAULT
        },
    ]
}

#[test]
fn every_condition_has_its_sentence_its_hint_and_its_exit_code() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        let (held, word) = (case.given)(folder.path());
        let args: Vec<String> = case.run.iter().map(|arg| arg.replace("{}", &word)).collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let mut command = chirp(&args);
        command.current_dir(folder.path()).envs(case.env.iter().copied());
        let output = command.output().unwrap();
        drop(held);
        let said = String::from_utf8(output.stderr).unwrap();
        let name = case.name;
        assert_eq!(output.status.code(), Some(case.exit), "{name}: {said}");
        assert!(output.stdout.is_empty(), "{name}: talk belongs on stderr");
        for wanted in [case.sentence.replace("{}", &word).as_str(), case.hint] {
            assert!(said.contains(wanted), "{name}: {said}\nlacks: {wanted}");
        }
        assert!(!said.contains("panicked"), "{name}: {said}");
        assert!(!said.contains('\x1b'), "{name}: colours without a terminal");
        if case.clean {
            let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
            assert!(left.is_empty(), "{name} left {left:?}");
        }
    }
}

/// Fills a disk of a few megabytes, in a namespace of its own that ends with it, and then makes room.
const ON_A_SMALL_DISK: &str = r#"
    mount -t tmpfs -o size="$1" tmpfs "$PWD" && cd "$PWD" || exit 99
    "$0" seed demo
    code=$?
    mount -o remount,size=256m "$PWD" && "$0" seed demo 2>/dev/null || exit 98
    exit $code
"#;

#[test]
fn a_seed_that_finds_no_room_says_so_and_goes_on_when_there_is_some() {
    // As root, or as a user who may be root in a namespace of their own.
    let ways = [&["--mount"][..], &["--map-root-user", "--mount"]];
    let may = |way: &&&[&str]| {
        let mut tried = Command::new("unshare");
        tried.args(**way).args(["mount", "-t", "tmpfs", "tmpfs", "/mnt"]);
        tried.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let Some(way) = ways.iter().find(may) else {
        eprintln!("left out: nobody may mount a small disk here");
        return;
    };
    let made = "`.chirp/user.db` cannot be written: database or disk is full";
    let filled = "`.chirp` cannot be written: ";
    for (size, sentence) in [("64k", made), ("1m", filled), ("3m", filled)] {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("unshare");
        command.args(*way).args(["sh", "-c", ON_A_SMALL_DISK]).arg(chirp(&[]).get_program());
        let output = command.arg(size).current_dir(folder.path()).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(11), "{size}: {said}");
        let hint = "hint: make room on the disk and run it again, or choose another folder";
        assert!(said.contains(sentence) && said.contains(hint), "{size}: {said}");
    }
}
