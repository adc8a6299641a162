//! Holds the source to the house plan: which room may import which, heads of files, lengths,
//! documented defaults, contract suites. Each rule is shown to be able to fail, at the end.

#![allow(clippy::unwrap_used, reason = "a test that fails says why")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// What each room may name of the others (`crate::<room>`), beside itself. `domain` stands alone.
const MAY_IMPORT: [(&str, &[&str]); 13] = [
    ("domain", &[]),
    ("graph", &[]),
    ("wire", &["domain", "rt", "config", "telemetry"]),
    ("ports", &["domain", "wire", "rt", "config", "telemetry"]),
    ("rt", &["config", "telemetry"]),
    ("config", &["domain", "wire", "ports", "rt", "telemetry"]),
    ("telemetry", &["domain", "wire", "ports", "rt", "config"]),
    ("services", &["ports", "wire", "domain", "rt", "config", "telemetry"]),
    ("adapters", &["ports", "wire", "domain", "rt", "config", "telemetry"]),
    ("sim", &["services", "adapters", "ports", "wire", "domain", "rt", "config", "telemetry"]),
    (
        "stack",
        &["graph", "services", "adapters", "ports", "wire", "domain", "rt", "config", "telemetry"],
    ),
    ("load", &["stack", "services", "graph", "wire", "domain", "rt", "config", "telemetry"]),
    (
        "cli",
        &[
            "load",
            "stack",
            "sim",
            "graph",
            "services",
            "adapters",
            "ports",
            "wire",
            "domain",
            "rt",
            "config",
            "telemetry",
        ],
    ),
];

/// Rooms that may name a crate; every other room may not.
const CRATE_ONLY_IN: [(&str, &[&str]); 16] = [
    ("clap", &["cli"]),
    ("clap_complete", &["cli"]),
    ("indicatif", &["cli"]),
    ("rusqlite", &["adapters"]),
    ("sqlx_core", &["adapters"]),
    ("sqlx_postgres", &["adapters"]),
    ("redis", &["adapters"]),
    ("scylla", &["adapters"]),
    ("aws_config", &["adapters"]),
    ("aws_sdk_s3", &["adapters"]),
    ("aws_sdk_sns", &["adapters"]),
    ("aws_sdk_sqs", &["adapters"]),
    ("testcontainers", &["stack"]),
    ("hyper_util", &["adapters", "stack", "load", "cli"]),
    ("rand", &["rt", "adapters", "stack", "cli", "sim"]),
    ("tracing_subscriber", &["telemetry"]),
];

/// Lines a file may have.
const LINES_MAX: usize = 500;
/// Files that may be longer, each with its reason.
const LONGER: [(&str, &str); 0] = [];

/// Ports whose suite has another name than their file, or whose traits share one.
const SUITES: [(&str, &[&str]); 16] = [
    ("blobs", &["blobs"]),
    ("bus", &["bus"]),
    ("cache", &["timeline_cache", "relation_cache", "body_cache"]),
    ("home_store", &["home_store"]),
    ("keys", &["keys"]),
    ("limit", &["limiter", "hints"]),
    ("media", &["media"]),
    ("outbox", &["outbox"]),
    ("timeline_store", &["timeline_store"]),
    ("tweets", &["tweets"]),
    ("users", &["users", "graph"]),
    // Fills all stores at once, and is judged through the ports of each.
    ("seeds", &[]),
    // Not stores: how a call ended; calls between roles, and what logs in to servers, which the scenario
    // tests cover.
    ("outcome", &[]),
    ("rpc", &[]),
    ("tokens", &[]),
    ("mod", &[]),
];

struct Source {
    /// The path below `src`, with slashes; that of a test or benchmark with its folder.
    path: String,
    text: String,
}

impl Source {
    fn room(&self) -> &str {
        self.path.split('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// The text without tests, comments and doc texts: what is compiled into the program.
    fn code(&self) -> String {
        let mut kept = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if line != "#[cfg(test)]" {
                kept.extend((!line.trim_start().starts_with("//")).then_some(line));
                continue;
            }
            let item = lines.by_ref().find(|line| !line.starts_with("#[")).unwrap_or_default();
            match (item.contains("mod "), item.ends_with('{')) {
                // A module of tests, here or in a file of its own; whatever else is code.
                (true, true) => drop(lines.by_ref().find(|line| *line == "}")),
                (true, false) => {}
                (false, _) => kept.extend([line, item]),
            }
        }
        kept.join("\n")
    }
}

fn sources() -> Vec<Source> {
    let files = below("src");
    assert!(files.len() > 50, "the source has not been found");
    files
}

/// The program, its tests and its benchmarks; the latter two with their folder in the path.
fn everything() -> Vec<Source> {
    let mut files = sources();
    for folder in ["tests", "benches"] {
        let more = below(folder);
        assert!(more.len() > 5, "`{folder}` has not been found");
        let named = |file: Source| Source { path: format!("{folder}/{}", file.path), ..file };
        files.extend(more.into_iter().map(named));
    }
    files
}

fn below(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut files = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
                files.push(Source { path: name, text: fs::read_to_string(&path).unwrap() });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Every word that follows `path`, such as `crate::`, also inside `crate::{a, b}`.
fn named_after(path: &str, code: &str) -> Vec<String> {
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut rooms = Vec::new();
    for rest in code.split(path).skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            rooms.push(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut item = String::new();
        for c in group.chars() {
            match c {
                '}' if depth == 0 => break,
                ',' if depth == 0 => rooms.push(word(&std::mem::take(&mut item))),
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if depth == 0 && c != ',' && c != '}' {
                item.push(c);
            }
        }
        rooms.push(word(&item));
    }
    rooms.retain(|room| !room.is_empty());
    rooms
}

fn wrong_imports(file: &Source) -> Vec<String> {
    let table: BTreeMap<_, _> = MAY_IMPORT.into_iter().collect();
    let Some(allowed) = table.get(file.room()) else { return Vec::new() };
    let code = file.code();
    let mut wrong: Vec<String> = named_after("crate::", &code)
        .into_iter()
        .filter(|room| table.contains_key(room.as_str()))
        .filter(|room| room != file.room() && !allowed.contains(&room.as_str()))
        .map(|room| format!("{} imports {room}", file.path))
        .collect();
    // The roles are apart: what they share is the kit.
    if let Some((role, place)) =
        file.path.strip_prefix("services/").and_then(|path| path.split_once('/'))
    {
        let mut named = named_after("services::", &code);
        named.extend(named_after("super::super::", &code));
        if place == "mod.rs" {
            named.extend(named_after("super::", &code));
        }
        for other in ["gateway", "user", "tweet", "timeline"] {
            if other != role && named.iter().any(|name| name == other) {
                wrong.push(format!("{} imports the role {other}", file.path));
            }
        }
    }
    for (name, rooms) in CRATE_ONLY_IN {
        // After a path it is a module of ours, and after a letter the end of another name.
        let first = |before: &str| {
            !before.ends_with(|c: char| c.is_alphanumeric() || c == '_')
                && (!before.ends_with("::") || before.ends_with(" ::"))
        };
        let path = format!("{name}::");
        let used = code.match_indices(&path).any(|(at, _)| first(&code[..at]));
        if used && !rooms.contains(&file.room()) {
            wrong.push(format!("{} uses the crate {name}", file.path));
        }
    }
    wrong
}

/// Tests that were moved out of a file belong to it, and so does its head.
fn wrong_head(file: &Source) -> Option<String> {
    let moved = file.path.contains("/tests/") || file.path.ends_with("tests.rs");
    (!moved && !file.text.starts_with("//! "))
        .then(|| format!("{} does not begin with `//! `", file.path))
}

fn wrong_length(file: &Source) -> Option<String> {
    let lines = file.text.lines().count();
    let listed = LONGER.iter().any(|(path, _)| *path == file.path);
    (lines > LINES_MAX && !listed).then(|| format!("{} has {lines} lines", file.path))
}

/// Services run in the simulator as they are: nothing in them may know that it is simulated.
fn wrong_branch(file: &Source) -> Option<String> {
    let branches = |word: &str| {
        file.text.contains(&format!("cfg({word}")) || file.text.contains(&format!("cfg!({word}"))
    };
    let code = file.code();
    let in_code = code.contains("cfg(test)") || code.contains("cfg!(test)");
    let wrong = file.room() == "services" && (branches("sim") || branches("feature") || in_code);
    wrong.then(|| format!("{} branches on how it is built", file.path))
}

fn wrong_select(file: &Source) -> Option<String> {
    let mut rest = file.text.split("select! {").skip(1);
    let wrong = rest.any(|body| !body.trim_start().starts_with("biased;"));
    wrong.then(|| format!("{} has a `select!` without `biased;`", file.path))
}

/// A `match` over facts names every one of them, so that a new kind of event does not compile until
/// somebody has decided what each of them does with it.
fn swallowed_facts(file: &Source) -> Vec<String> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let fact = |line: &str| {
        let line = line.trim_start().trim_start_matches("| ");
        line.starts_with("Fact::") || (file.path == "wire/events.rs" && line.starts_with("Self::"))
    };
    let code = file.code();
    let lines: Vec<&str> = code.lines().filter(|line| !line.trim().is_empty()).collect();
    let swallows = |at: usize| {
        let arm = depth(lines[at]);
        let before = lines[..at].iter().rev();
        let mut arms = before.take_while(|line| depth(line) >= arm);
        arms.any(|line| depth(line) == arm && fact(line))
    };
    let wild = |line: &str| {
        let pattern = line.trim_start().split(" =>").next().unwrap_or_default();
        line.contains(" =>") && pattern.chars().all(|c| c == '_' || c.is_ascii_lowercase())
    };
    let wrong = (0..lines.len()).filter(|&at| wild(lines[at]) && swallows(at));
    wrong.map(|at| format!("{} swallows a fact: `{}`", file.path, lines[at].trim())).collect()
}

/// Every key of a section says its default.
fn undocumented_keys(file: &Source) -> Vec<String> {
    let sections = ["mod.rs", "env.rs", "load.rs"];
    if file.room() != "config" || sections.iter().any(|name| file.path.ends_with(name)) {
        return Vec::new();
    }
    let mut wrong = Vec::new();
    let mut docs = String::new();
    for line in file.code_with_docs().lines() {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            docs.push_str(text);
        } else if line.starts_with("pub ") && line.ends_with(',') && line.contains(": ") {
            if !docs.contains("Default ") {
                wrong.push(format!("{}: `{line}` does not say its default", file.path));
            }
            docs.clear();
        } else if !line.starts_with("#[") {
            docs.clear();
        }
    }
    wrong
}

impl Source {
    fn code_with_docs(&self) -> &str {
        self.text.split("\n#[cfg(test)]").next().unwrap_or_default()
    }
}

fn missing_suites(files: &[Source]) -> Vec<String> {
    let table: BTreeMap<_, _> = SUITES.into_iter().collect();
    let mut wrong = Vec::new();
    for file in files.iter().filter(|file| file.room() == "ports") {
        let Some(name) = file.path.strip_prefix("ports/").filter(|name| !name.contains('/')) else {
            continue;
        };
        let Some(suites) = table.get(name.trim_end_matches(".rs")) else {
            wrong.push(format!("{} is not in the table of suites", file.path));
            continue;
        };
        for suite in *suites {
            let there = |wanted: String| files.iter().any(|file| file.path == wanted);
            if !there(format!("ports/contract/{suite}.rs"))
                && !there(format!("ports/contract/{suite}/mod.rs"))
            {
                wrong.push(format!("{} has no contract suite `{suite}`", file.path));
            }
        }
    }
    wrong
}

fn none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n  {}\n", wrong.join("\n  "));
}

#[test]
fn imports_run_one_way() {
    none(&sources().iter().flat_map(wrong_imports).collect::<Vec<_>>());
}

#[test]
fn every_file_says_at_its_head_what_lives_there() {
    none(&everything().iter().filter_map(wrong_head).collect::<Vec<_>>());
}

#[test]
fn files_are_short_enough_to_be_read() {
    none(&everything().iter().filter_map(wrong_length).collect::<Vec<_>>());
}

#[test]
fn services_do_not_know_how_they_are_built() {
    none(&sources().iter().filter_map(wrong_branch).collect::<Vec<_>>());
}

#[test]
fn every_select_is_biased() {
    none(&sources().iter().filter_map(wrong_select).collect::<Vec<_>>());
}

#[test]
fn no_fact_is_swallowed() {
    none(&sources().iter().flat_map(swallowed_facts).collect::<Vec<_>>());
}

#[test]
fn every_key_of_the_configuration_says_its_default() {
    none(&sources().iter().flat_map(undocumented_keys).collect::<Vec<_>>());
}

#[test]
fn every_port_has_a_contract_suite() {
    none(&missing_suites(&sources()));
}

#[test]
fn main_only_parses_and_dispatches() {
    let files = sources();
    let main = files.iter().find(|file| file.path == "main.rs").unwrap();
    assert!(main.text.lines().count() <= 40);
}

/// Every rule above, on the smallest source that breaks it, and on one that does not.
mod rules {
    use super::*;

    fn file(path: &str, text: &str) -> Source {
        Source { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn an_import_against_the_stream_is_found_in_every_form() {
        for (path, text) in [
            ("domain/ids.rs", "use crate::wire::api;"),
            ("services/user/logic.rs", "use crate::adapters::near;"),
            ("services/user/logic.rs", "use crate::{ports::Bus, stack::up};"),
            (
                "services/user/logic.rs",
                "use crate::{\n    ports::{Bus, Outbox},\n    adapters,\n};",
            ),
            ("services/user/logic.rs", "fn f() { crate::cli::main(); }"),
            ("services/user/logic.rs", "use crate::services::tweet::Deps;"),
            ("services/user/logic.rs", "use crate::services::{kit::Common, tweet::Deps};"),
            ("services/user/logic.rs", "use super::super::tweet::Deps;"),
            ("services/user/mod.rs", "use super::tweet::Deps;"),
            ("services/user/mod.rs", "use super::{kit::Common, tweet::Deps};"),
            ("services/user/mod.rs", "#[cfg(test)]\nmod tests;\nuse crate::adapters::near;"),
            (
                "services/user/mod.rs",
                "#[cfg(test)]\nmod tests {\n    use x;\n}\nuse crate::adapters::near;",
            ),
            ("services/user/logic.rs", "use hyper_util::client;"),
            ("adapters/near.rs", "use crate::services::kit;"),
            ("stack/up.rs", "use crate::cli;"),
            ("domain/ids.rs", "use rusqlite::Connection;"),
            ("config/mod.rs", "pub use self::redis::Redis; use ::redis::Client;"),
            ("services/kit/mod.rs", "use clap::Parser;"),
        ] {
            assert_eq!(wrong_imports(&file(path, text)).len(), 1, "{path}: {text}");
        }
        for (path, text) in [
            ("services/user/logic.rs", "use crate::{ports::{Bus, Outbox}, wire::api, domain};"),
            ("services/user/logic.rs", "use crate::services::kit::Common;"),
            ("services/user/logic.rs", "// as crate::adapters does"),
            (
                "services/user/logic.rs",
                "fn f() {}\n#[cfg(test)]\nmod tests { use crate::adapters; }",
            ),
            ("cli/up.rs", "use crate::{stack, config}; use clap::Parser;"),
            ("config/mod.rs", "pub mod redis; pub use self::redis::Redis;"),
        ] {
            assert_eq!(wrong_imports(&file(path, text)), Vec::<String>::new(), "{path}: {text}");
        }
    }

    #[test]
    fn a_file_without_a_head_and_a_long_file_are_found() {
        assert!(wrong_head(&file("domain/ids.rs", "use std::fmt;")).is_some());
        assert!(wrong_head(&file("domain/ids.rs", "//! Ids.\n")).is_none());
        assert!(wrong_length(&file("domain/ids.rs", &"\n".repeat(LINES_MAX + 1))).is_some());
        assert!(wrong_length(&file("domain/ids.rs", &"\n".repeat(LINES_MAX))).is_none());
    }

    #[test]
    fn a_service_that_branches_on_its_build_is_found() {
        for text in [
            "#[cfg(sim)]\nfn f() {}",
            "if cfg!(test) {}",
            "    #[cfg(test)]\n    fn f() {}",
            "#[cfg(test)]\nmod tests;\n#[cfg(test)]\nfn f() {}",
        ] {
            assert!(wrong_branch(&file("services/kit/mod.rs", text)).is_some(), "{text}");
        }
        let fine = "fn f() {}\n\n#[cfg(test)]\nmod tests {}";
        assert!(wrong_branch(&file("services/kit/mod.rs", fine)).is_none());
    }

    #[test]
    fn a_select_without_bias_is_found() {
        assert!(wrong_select(&file("stack/up.rs", "tokio::select! {\n a = b => {} }")).is_some());
        assert!(wrong_select(&file("stack/up.rs", "tokio::select! {\n biased;\n }")).is_none());
    }

    #[test]
    fn a_match_that_swallows_facts_is_found() {
        let arms = |rest: &str| format!("match f {{\n    Fact::A {{ .. }} => 1,\n    {rest}\n}}");
        for rest in ["_ => 2,", "other => 2,"] {
            assert_eq!(swallowed_facts(&file("sim/x.rs", &arms(rest))).len(), 1, "{rest}");
        }
        let named = arms("| Fact::B => match g {\n        _ => 2,\n    },");
        assert_eq!(swallowed_facts(&file("sim/x.rs", &named)), Vec::<String>::new());
        let own = arms("_ => 2,").replace("Fact", "Self");
        assert_eq!(swallowed_facts(&file("wire/events.rs", &own)).len(), 1);
        assert_eq!(swallowed_facts(&file("wire/routes.rs", &own)).len(), 0);
    }

    #[test]
    fn a_key_without_a_default_and_a_port_without_a_suite_are_found() {
        let key = |doc: &str| file("config/up.rs", &format!("/// {doc}\n    pub port: u64,\n"));
        assert_eq!(undocumented_keys(&key("A port.")).len(), 1);
        assert_eq!(undocumented_keys(&key("A port. Default 8080.")).len(), 0);
        let suite = file("ports/contract/bus.rs", "");
        assert_eq!(missing_suites(&[file("ports/bus.rs", "")]).len(), 1);
        assert_eq!(missing_suites(&[file("ports/bus.rs", ""), suite]).len(), 0);
        assert_eq!(missing_suites(&[file("ports/mail.rs", "")]).len(), 1);
    }
}
