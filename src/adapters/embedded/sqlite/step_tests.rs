//! Files of an older version: the steps that they take, and what stops them.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tempfile::TempDir;

use super::*;

const ONE: &[&str] =
    &["create table facts (id integer primary key)", "insert into facts values (4)"];
const TWO: &[&str] = &["alter table facts add column text text", "create table more (id integer)"];
/// Has done something by the time it fails.
const WRONG: &[&str] =
    &["alter table facts add column text text", "create table facts (id integer)"];
/// Has done much by the time it is killed, and does not end by itself.
const ENDLESS: &[&str] = &[
    "alter table facts add column text text",
    "with recursive count (n) as (select 100 union all select n + 1 from count)
     insert into facts (id) select n from count",
];
/// Names the file that the child of the test about kills opens.
const CHILD: &str = "CHIRP_TEST_STEPS_FILE";

fn schema(steps: &'static [&'static [&'static str]]) -> Schema {
    Schema { name: "test", application_id: 7, steps }
}

fn open(path: &Path, steps: &'static [&'static [&'static str]]) -> Result<Db, OpenError> {
    Db::open(path, &schema(steps), Options::default())
}

/// The version, and the columns of every table.
fn state(path: &Path) -> (i32, String) {
    let conn = Connection::open(path).unwrap();
    let columns = "select group_concat(t.name || '.' || c.name, ' ') from sqlite_schema t
                   join pragma_table_info(t.name) c where t.type = 'table'";
    let version = conn.query_row("pragma user_version", [], |row| row.get(0)).unwrap();
    (version, conn.query_row(columns, [], |row| row.get(0)).unwrap())
}

fn first_version() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("test.db");
    open(&path, &[ONE]).unwrap().close();
    assert_eq!(state(&path), (1, "facts.id".to_owned()));
    (dir, path)
}

async fn facts(db: &Db) -> i64 {
    let read =
        |conn: &Connection| Ok(conn.query_row("select count(*) from facts", [], |row| row.get(0))?);
    db.read("test", read).await.unwrap()
}

#[tokio::test]
async fn a_file_that_is_behind_takes_the_steps_it_lacks_and_keeps_its_rows() {
    let (_dir, old) = first_version();
    let db = open(&old, &[ONE, TWO]).unwrap();
    assert_eq!(facts(&db).await, 1, "the first step is not taken again");
    db.close();
    let new = old.with_file_name("new.db");
    open(&new, &[ONE, TWO]).unwrap().close();
    assert_eq!(state(&old), (2, "facts.id facts.text more.id".to_owned()));
    assert_eq!(state(&old), state(&new), "an old file and a new one end alike");
    open(&old, &[ONE, TWO]).unwrap().close();
}

#[test]
fn a_newer_file_is_refused_and_stays_as_it_is() {
    let (_dir, path) = first_version();
    open(&path, &[ONE, TWO]).unwrap().close();
    let before = std::fs::read(&path).unwrap();
    let refused = open(&path, &[ONE]);
    assert!(
        matches!(refused, Err(OpenError::Version { found: 2, expected: 1, .. })),
        "{refused:?}"
    );
    assert!(std::fs::read(&path).unwrap() == before);
}

#[tokio::test]
async fn a_step_that_fails_leaves_the_old_version() {
    let (_dir, path) = first_version();
    assert!(open(&path, &[ONE, WRONG]).is_err());
    assert_eq!(state(&path), (1, "facts.id".to_owned()));
    assert_eq!(facts(&open(&path, &[ONE, TWO]).unwrap()).await, 1);
}

#[tokio::test]
async fn a_process_that_is_killed_in_a_step_leaves_the_old_version() {
    let (_dir, path) = first_version();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "adapters::embedded::sqlite::step_tests::a_step_without_end"])
        .env(CHILD, &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    // What does not fit into its memory goes into the log: then it is in the middle of the step.
    let log = path.with_file_name("test.db-wal");
    let began = Instant::now();
    while std::fs::metadata(&log).map_or(0, |log| log.len()) < 1 << 20 {
        assert!(began.elapsed() < Duration::from_mins(1), "the step has not begun");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(state(&path), (1, "facts.id".to_owned()));
    assert_eq!(facts(&open(&path, &[ONE, TWO]).unwrap()).await, 1);
}

/// Nothing by itself: the process that the test above kills.
#[test]
fn a_step_without_end() {
    if let Some(path) = std::env::var_os(CHILD) {
        drop(open(Path::new(&path), &[ONE, ENDLESS]));
        unreachable!("the step has no end");
    }
}
