//! Holds every statement and every table to what Amazon Keyspaces allows, and to what this store
//! promises: one partition each, no clock of a client, nothing of truth deleted or forgotten. What many
//! rows of one partition are written with at once is in [`super::seeds`].

use super::{
    migrate::{STEPS, Step, in_tables},
    seeds,
    statements::TEXTS,
};

/// Values of one `in (...)`, at most.
const IN_MAX: usize = 100;

/// A rule: what breaks it, and a statement that does.
struct Rule {
    name: &'static str,
    broken: fn(&[&str]) -> bool,
    planted: &'static str,
}

fn has(words: &[&str], part: &[&str]) -> bool {
    words.windows(part.len()).any(|window| window == part)
}

/// The number of values in the longest `in (...)`; a marker for a list may bring any number.
fn longest_in(words: &[&str]) -> usize {
    let after = words.iter().enumerate().filter(|(_, word)| **word == "in");
    let lengths = after.map(|(at, _)| match words.get(at + 1) {
        Some(&"(") => {
            1 + words[at..].iter().take_while(|w| **w != ")").filter(|w| **w == ",").count()
        }
        _ => usize::MAX,
    });
    lengths.max().unwrap_or(0)
}

/// Whether every column of the partition key of the statement's table is bound to one value.
fn misses_its_partition(words: &[&str]) -> bool {
    let keys: &[&str] = match words.iter().find_map(|word| word.strip_prefix("ks.")) {
        Some("tweets") => &["tweet_id"],
        Some("author_tweets") => &["author_id", "year"],
        Some("authors") => &["author_id"],
        Some("followers") => &["followee_id", "part"],
        Some("relations" | "home_floors") => &["user_id"],
        Some("home_timelines") => &["user_id", "year"],
        Some("strategies") => &["name"],
        _ => return true,
    };
    let bound = |key: &&str| match words[0] {
        "select" => has(words, &[key, "=", "?"]),
        _ => words.contains(key),
    };
    !keys.iter().all(bound)
}

const OF_ALL: &[Rule] = &[
    Rule {
        name: "no batch",
        broken: |words| words.contains(&"batch"),
        planted: "begin unlogged batch insert into ks.tweets (tweet_id) values (?) apply batch",
    },
    Rule {
        name: "no index, view, function, trigger or type",
        broken: |words| {
            let made = ["index", "view", "function", "aggregate", "trigger", "type"];
            words.contains(&"create") && words.iter().any(|word| made.contains(word))
        },
        planted: "create custom index on ks.tweets (author_id)",
    },
    Rule {
        name: "no light-weight transaction",
        broken: |words| words[0] != "create" && words[0] != "alter" && words.contains(&"if"),
        planted: "insert into ks.tweets (tweet_id) values (?) if not exists",
    },
    Rule {
        name: "no time of a client",
        broken: |words| words.contains(&"timestamp"),
        planted: "insert into ks.tweets (tweet_id) values (?) using timestamp ?",
    },
    Rule {
        name: "no end of life",
        broken: |words| words.contains(&"ttl") || words.contains(&"default_time_to_live"),
        planted: "insert into ks.tweets (tweet_id) values (?) using ttl 60",
    },
    Rule {
        name: "nothing is deleted",
        broken: |words| ["delete", "truncate", "drop"].iter().any(|word| words.contains(word)),
        planted: "delete from ks.tweets where tweet_id = ?",
    },
    Rule {
        name: "nothing is counted in place",
        broken: |words| words[0] == "update" || words.contains(&"counter"),
        planted: "update ks.counts set n = n + 1 where tweet_id = ?",
    },
];

const OF_STATEMENTS: &[Rule] = &[
    Rule {
        name: "no filtering",
        broken: |words| words.contains(&"filtering"),
        planted: "select text from ks.tweets where tweet_id = ? allow filtering",
    },
    Rule {
        name: "at most 100 values",
        broken: |words| longest_in(words) > IN_MAX,
        planted: "select text from ks.tweets where tweet_id = ? and author_id in ?",
    },
    Rule {
        name: "columns are named",
        broken: |words| words.contains(&"*"),
        planted: "select * from ks.tweets where tweet_id = ?",
    },
    Rule {
        name: "one partition",
        broken: misses_its_partition,
        planted: "select tweet_id from ks.author_tweets where author_id = ? and year > ? limit 1",
    },
    Rule {
        name: "a bound on what is read",
        broken: |words| {
            // One row per partition needs none.
            words[0] == "select" && !words.contains(&"limit") && !words.contains(&"ks.tweets")
        },
        planted: "select other_id from ks.relations where user_id = ?",
    },
    Rule {
        name: "no aggregate, no group",
        broken: |words| words.contains(&"count") || words.contains(&"group"),
        planted: "select count (1) from ks.relations where user_id = ? limit 1",
    },
];

const OF_TABLES: &[Rule] = &[Rule {
    name: "taken twice it does no harm",
    broken: |words| {
        let made = has(words, &["create", "table", "if", "not", "exists"]);
        let widened =
            has(words, &["alter", "table"]) && has(words, &["add", "if", "not", "exists"]);
        !made && !widened
    },
    planted: "create table ks.a (b int primary key)",
}];

/// Lower-case words, each sign one of its own.
fn apart(cql: &str) -> String {
    let mut text = cql.to_lowercase();
    for sign in ["(", ")", ",", "=", "?", "<", ">", "*"] {
        text = text.replace(sign, &format!(" {sign} "));
    }
    text
}

fn broken<'a>(cql: &str, rules: &[&'a [Rule]]) -> Vec<&'a str> {
    let text = apart(cql);
    let words: Vec<&str> = text.split_whitespace().collect();
    let rules = rules.iter().copied().flatten();
    rules.filter(|rule| (rule.broken)(&words)).map(|rule| rule.name).collect()
}

#[test]
fn every_statement_keeps_every_rule() {
    assert!(TEXTS.len() > 10);
    for (name, cql) in TEXTS {
        assert_eq!(broken(cql, &[OF_ALL, OF_STATEMENTS]), Vec::<&str>::new(), "{name}: {cql}");
    }
}

#[test]
fn every_table_keeps_every_rule() {
    for statement in STEPS.iter().flat_map(Step::statements) {
        let broken = broken(&in_tables(&statement), &[OF_ALL, OF_TABLES]);
        assert_eq!(broken, Vec::<&str>::new(), "{statement}");
    }
}

#[test]
fn each_rule_finds_a_statement_that_breaks_it() {
    for rule in [OF_ALL, OF_STATEMENTS, OF_TABLES].into_iter().flatten() {
        let found = broken(rule.planted, &[OF_ALL, OF_STATEMENTS, OF_TABLES]);
        assert!(found.contains(&rule.name), "{}: {}", rule.name, rule.planted);
    }
    let many = format!("select text from ks.tweets where tweet_id in ({}?)", "?, ".repeat(100));
    assert!(broken(&many, &[OF_STATEMENTS]).contains(&"at most 100 values"));
}

#[test]
fn only_a_seed_batches_and_only_a_few_rows_of_one_partition_without_a_log() {
    let code = include_str!("seeds.rs");
    const { assert!(seeds::BATCH_ROWS <= 30) };
    assert_eq!(code.matches("Batch::new").count(), 1);
    assert!(code.contains("Batch::new(BatchType::Unlogged)"));
}

#[test]
fn the_driver_neither_stamps_nor_batches_nor_retries() {
    // What the driver can be told is told in these files.
    let files = [
        include_str!("cql.rs"),
        include_str!("statements.rs"),
        include_str!("store.rs"),
        include_str!("followers.rs"),
        include_str!("homes.rs"),
        include_str!("migrate.rs"),
    ];
    let words = ["timestamp_generator", "set_timestamp", "Batch", "batch(", "SerialConsistency"];
    for word in words {
        assert!(files.iter().all(|file| !file.contains(word)), "{word}");
    }
    assert!(files[0].contains("FallthroughRetryPolicy"));
    assert!(files[1].contains("const CONSISTENCY: Consistency = Consistency::LocalQuorum;"));
}
