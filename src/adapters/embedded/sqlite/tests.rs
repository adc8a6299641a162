use std::{sync::mpsc, time::Duration};

use rusqlite::params;
use tempfile::TempDir;

use super::*;

const FIRST: &[&str] = &["create table facts (id integer primary key, text text not null);"];

const SCHEMA: Schema = Schema { name: "test", application_id: 7, steps: &[FIRST] };

fn open(dir: &TempDir) -> Db {
    Db::open(&dir.path().join("test.db"), &SCHEMA, Options::default()).unwrap()
}

fn add(conn: &Connection, id: i64) -> Result<i64, Fault> {
    conn.run("insert into facts (id, text) values (?1, 'x')", params![id])?;
    Ok(id)
}

async fn ids(db: &Db) -> Vec<i64> {
    let read = |conn: &Connection| {
        conn.all("select id from facts order by id", [], |row| Ok(row.get::<_, i64>(0)?))
    };
    db.read("test", read).await.unwrap()
}

/// Holds the writer inside a job until the sender is used or dropped.
async fn hold(db: &Db) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (begun, begins) = tokio::sync::oneshot::channel();
    let db = db.clone();
    tokio::spawn(async move {
        let wait = move |_: &Connection| {
            begun.send(()).unwrap();
            // Ends with an error when the sender is dropped.
            let _ = released.recv();
            Ok(())
        };
        assert!(db.write("test", wait).await.is_done());
    });
    begins.await.unwrap();
    release
}

async fn submit(db: &Db, count: i64) -> Vec<tokio::task::JoinHandle<Outcome<i64>>> {
    let tasks = (0..count)
        .map(|id| {
            let db = db.clone();
            tokio::spawn(async move { db.write("test", move |conn| add(conn, id)).await })
        })
        .collect();
    // One thread runs all tasks: after these yields each has submitted its job.
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
    tasks
}

#[tokio::test]
async fn jobs_that_wait_together_share_one_commit() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let before = db.stats();
    let release = hold(&db).await;
    let tasks = submit(&db, 100).await;
    drop(release);
    for task in tasks {
        assert!(task.await.unwrap().is_done());
    }
    let after = db.stats();
    assert_eq!(after.jobs - before.jobs, 101);
    assert_eq!(after.commits - before.commits, 2, "the one that held the writer, and all others");
    assert_eq!(ids(&db).await.len(), 100);
}

#[tokio::test]
async fn a_job_that_fails_or_panics_does_not_harm_its_neighbours() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let release = hold(&db).await;
    let good = submit(&db, 3).await;
    let fails = |conn: &Connection| {
        add(conn, 50)?;
        add(conn, 0)
    };
    let panics = |conn: &Connection| -> Result<i64, Fault> {
        add(conn, 51)?;
        panic!("on purpose")
    };
    let (failed, panicked, last, ()) = tokio::join!(
        db.write("test", fails),
        db.write("test", panics),
        db.write("test", |conn: &Connection| add(conn, 9)),
        async { drop(release) },
    );
    assert!(matches!(failed, Outcome::Failed(_)), "{failed:?}");
    assert!(matches!(panicked, Outcome::Failed(_)), "{panicked:?}");
    assert!(last.is_done());
    for task in good {
        assert!(task.await.unwrap().is_done());
    }
    assert_eq!(ids(&db).await, [0, 1, 2, 9]);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_take_its_write_along() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let release = hold(&db).await;
    for task in submit(&db, 1).await {
        task.abort();
    }
    drop(release);
    assert!(db.write("test", |conn: &Connection| add(conn, 1)).await.is_done());
    assert_eq!(ids(&db).await, [0, 1]);
}

#[tokio::test]
async fn a_full_queue_refuses_and_has_done_nothing() {
    let dir = TempDir::new().unwrap();
    let options = Options { queue_max: 2, ..Options::default() };
    let db = Db::open(&dir.path().join("test.db"), &SCHEMA, options).unwrap();
    let release = hold(&db).await;
    let tasks = submit(&db, 3).await;
    drop(release);
    let mut full = 0;
    for task in tasks {
        match task.await.unwrap() {
            Outcome::Failed(error) if error.kind == Kind::Full => full += 1,
            other => assert!(other.is_done()),
        }
    }
    assert_eq!((full, ids(&db).await.len()), (1, 2));
}

#[tokio::test]
async fn a_transaction_that_the_engine_undoes_fails_all_its_jobs() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let release = hold(&db).await;
    let good = submit(&db, 1).await;
    let undoes = |conn: &Connection| {
        conn.execute_batch("rollback")?;
        Ok(())
    };
    let (undone, ()) = tokio::join!(db.write("test", undoes), async { drop(release) });
    assert!(matches!(undone, Outcome::Failed(_)), "{undone:?}");
    for task in good {
        assert!(matches!(task.await.unwrap(), Outcome::Failed(_)));
    }
    assert!(db.write("test", |conn: &Connection| add(conn, 8)).await.is_done(), "it goes on");
    assert_eq!(ids(&db).await, [8]);
}

#[tokio::test]
async fn a_full_disk_fails_what_was_not_written_and_passes_when_there_is_room() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let limit = async |pages: u32| {
        let set = move |conn: &Connection| {
            let sql = format!("pragma max_page_count = {pages}");
            Ok(conn.query_row(&sql, [], |_| Ok(()))?)
        };
        assert!(db.write("test", set).await.is_done());
    };
    limit(10).await;
    let release = hold(&db).await;
    let tasks = submit(&db, 3).await;
    let large = |conn: &Connection| {
        conn.run("insert into facts (id, text) values (77, ?1)", ["x".repeat(100_000)])
    };
    let (full, ()) = tokio::join!(db.write("test", large), async { drop(release) });
    assert!(matches!(full, Outcome::Failed(ref e) if e.kind == Kind::Full), "{full:?}");
    let mut answered = Vec::new();
    for task in tasks {
        answered.extend(task.await.unwrap().done());
    }
    assert_eq!(ids(&db).await, answered, "what is there is what was answered with done");
    limit(1_000).await;
    assert!(db.write("test", large).await.is_done());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn processes_that_make_a_file_at_once_agree_on_it() {
    // Often, as it takes luck that one looks at the file while another is making it.
    for _ in 0..40 {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("test.db");
        let opens: Vec<_> = (0..4)
            .map(|_| {
                let path = path.clone();
                tokio::task::spawn_blocking(move || Db::open(&path, &SCHEMA, Options::default()))
            })
            .collect();
        for (id, open) in (0..).zip(opens) {
            let db = open.await.unwrap().unwrap();
            assert!(db.write("test", move |conn| add(conn, id)).await.is_done());
        }
        assert_eq!(ids(&open(&dir)).await, [0, 1, 2, 3]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_openings_of_one_file_write_side_by_side() {
    let dir = TempDir::new().unwrap();
    let (one, two) = (open(&dir), open(&dir));
    let write = |db: Db, first: i64| {
        tokio::spawn(async move {
            for id in first..first + 200 {
                assert_eq!(db.write("test", move |c| add(c, id)).await, Outcome::Done(id));
            }
        })
    };
    let tasks = [write(one.clone(), 0), write(two.clone(), 1_000)];
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(ids(&one).await, ids(&two).await);
    assert_eq!(ids(&one).await.len(), 400);
}

#[tokio::test]
async fn every_commit_is_synced_but_that_of_nothing_but_unsynced_jobs() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let level = |conn: &Connection| {
        let mode = conn.query_row("pragma journal_mode", [], |row| row.get::<_, String>(0))?;
        assert_eq!(mode, "wal");
        Ok(conn.query_row("pragma synchronous", [], |row| row.get::<_, i64>(0))?)
    };
    let (normal, full) = (Outcome::Done(1), Outcome::Done(2));
    assert_eq!(db.write("test", level).await, full);
    let before = db.stats();
    assert_eq!(db.write_unsynced("test", level).await, normal);
    assert_eq!(db.write("test", level).await, full);
    let release = hold(&db).await;
    let (unsynced, synced, ()) =
        tokio::join!(db.write_unsynced("test", level), db.write("test", level), async {
            drop(release);
        });
    assert_eq!((unsynced, synced), (full.clone(), full), "in one transaction the stricter wins");
    let after = db.stats();
    assert_eq!((after.commits - before.commits, after.syncs - before.syncs), (4, 3));
}

#[tokio::test]
async fn a_statement_is_compiled_once_whatever_is_bound_to_it() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let compiled_again = |conn: &Connection| {
        let mut statement = conn.prepare("select id from facts where id > ?1 limit ?2")?;
        for (above, limit) in [(0, 5), (7, 5), (7, 500), (9, 2)] {
            statement.query(params![above, limit])?.next()?;
        }
        Ok(statement.get_status(rusqlite::StatementStatus::RePrepare))
    };
    assert_eq!(db.read("test", compiled_again).await.unwrap(), 0);
    assert_eq!(db.write("test", compiled_again).await, Outcome::Done(0));
}

#[tokio::test]
async fn what_was_answered_is_there_without_a_clean_end() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    assert!(db.write("test", |conn: &Connection| add(conn, 4)).await.is_done());
    // A copy of the files as a kill would leave them: log and index beside an old main file.
    let copy = TempDir::new().unwrap();
    for name in ["test.db", "test.db-wal"] {
        std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    }
    assert_eq!(ids(&open(&copy)).await, [4]);
}

#[tokio::test]
async fn a_closed_store_refuses_and_leaves_one_file() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    assert!(db.write("test", |conn: &Connection| add(conn, 4)).await.is_done());
    db.close();
    let late = db.write("test", |conn: &Connection| add(conn, 5)).await;
    assert!(matches!(late, Outcome::Failed(ref e) if e.kind == Kind::Unavailable), "{late:?}");
    assert!(db.read("test", |_| Ok(())).await.is_err());
    let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap()).collect();
    assert_eq!(names.len(), 1, "{names:?}");
    assert_eq!(ids(&open(&dir)).await, [4]);
}

#[test]
fn files_that_cannot_be_used_are_told_apart() {
    let dir = TempDir::new().unwrap();
    let open_at = |path: &Path, schema: Schema| Db::open(path, &schema, Options::default());
    let path = dir.path().join("test.db");
    open_at(&path, SCHEMA).unwrap().close();
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 9).unwrap();
    assert!(matches!(
        open_at(&path, SCHEMA),
        Err(OpenError::Version { found: 9, expected: 1, .. })
    ));
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 1).unwrap();
    assert!(matches!(
        open_at(&path, Schema { application_id: 8, ..SCHEMA }),
        Err(OpenError::Foreign { .. })
    ));
    assert!(open_at(&path, SCHEMA).is_ok(), "a refusal changes nothing");

    let missing = dir.path().join("none").join("test.db");
    assert!(matches!(open_at(&missing, SCHEMA), Err(OpenError::NotWritable { .. })));
    assert!(matches!(open_at(dir.path(), SCHEMA), Err(OpenError::Lost { .. })));

    let text = dir.path().join("text.db");
    std::fs::write(&text, "to whom it may concern").unwrap();
    assert!(matches!(open_at(&text, SCHEMA), Err(OpenError::Corrupt { .. })));
}

#[tokio::test]
async fn a_damaged_page_is_found_when_the_file_is_opened() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let fill = |conn: &Connection| (0..2_000).try_for_each(|id| add(conn, id).map(drop));
    assert!(db.write("test", fill).await.is_done());
    db.close();
    let path = dir.path().join("test.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[3 * 4096..3 * 4096 + 64].fill(0xff);
    std::fs::write(&path, bytes).unwrap();
    let damaged = Db::open(&path, &SCHEMA, Options::default());
    assert!(matches!(damaged, Err(OpenError::Corrupt { .. })), "{damaged:?}");
}

#[tokio::test]
async fn the_log_does_not_grow_for_ever() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    for round in 0..20 {
        let fill = move |conn: &Connection| {
            (round * 5_000..(round + 1) * 5_000).try_for_each(|id| add(conn, id).map(drop))
        };
        assert!(db.write("test", fill).await.is_done());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let log = std::fs::metadata(dir.path().join("test.db-wal")).unwrap().len();
    let file = std::fs::metadata(dir.path().join("test.db")).unwrap().len();
    assert!(file > 800_000 && log < 400_000, "file {file} bytes, log {log} bytes");
}

#[tokio::test]
async fn whoever_closes_a_file_last_leaves_no_log_beside_it() {
    let dir = TempDir::new().unwrap();
    // Each round is a race of the threads for the last connection.
    for round in 0..20 {
        let db = open(&dir);
        db.write("test", move |conn| add(conn, round)).await.certain().unwrap();
        db.close();
        let left = std::fs::read_dir(dir.path()).unwrap().map(|file| file.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["test.db"], "round {round}");
    }
}

/// Submits pieces of the bulk lane; each tells when it runs.
async fn submit_bulk(
    db: &Db,
    ids: std::ops::Range<i64>,
    ran: &Arc<Mutex<Vec<i64>>>,
) -> Vec<tokio::task::JoinHandle<Outcome<i64>>> {
    let count = ids.end - ids.start;
    let tasks = ids
        .map(|id| {
            let (db, ran) = (db.clone(), Arc::clone(ran));
            tokio::spawn(async move {
                let piece = move |conn: &Connection| {
                    ran.lock().push(id);
                    add(conn, id)
                };
                db.write_bulk("test", piece).await
            })
        })
        .collect();
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
    tasks
}

#[tokio::test]
async fn whoever_writes_little_waits_for_no_piece_of_large_work_that_came_before() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let ran = Arc::default();
    let release = hold(&db).await;
    let pieces = submit_bulk(&db, 100..200, &ran).await;
    let small = Arc::clone(&ran);
    let small = async move {
        let write = move |conn: &Connection| {
            small.lock().push(1);
            add(conn, 1)
        };
        db.write("test", write).await
    };
    let small = tokio::spawn(small);
    tokio::task::yield_now().await;
    drop(release);
    assert!(small.await.unwrap().is_done());
    for piece in pieces {
        assert!(piece.await.unwrap().is_done());
    }
    let ran = ran.lock();
    // The transaction that was held up takes one piece along.
    assert!(ran.iter().position(|&id| id == 1).unwrap() <= 1, "{ran:?}");
    assert_eq!(ran.len(), 101);
}

#[tokio::test]
async fn pieces_of_large_work_are_written_although_others_never_cease() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy = {
        let (db, done) = (db.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut id = 1_000;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let writes = (id..id + 8).map(|id| {
                    let db = db.clone();
                    tokio::spawn(async move {
                        db.write_unsynced("test", move |conn| add(conn, id)).await
                    })
                });
                for write in writes.collect::<Vec<_>>() {
                    assert!(write.await.unwrap().is_done());
                }
                id += 8;
            }
        })
    };
    for piece in submit_bulk(&db, 0..20, &Arc::default()).await {
        assert!(piece.await.unwrap().is_done());
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    busy.await.unwrap();
    assert_eq!(ids(&db).await[..20], (0..20).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_piece_that_fails_undoes_nothing_else() {
    let dir = TempDir::new().unwrap();
    let db = open(&dir);
    let release = hold(&db).await;
    let pieces = submit_bulk(&db, 0..5, &Arc::default()).await;
    let twice = submit_bulk(&db, 3..4, &Arc::default()).await;
    drop(release);
    for piece in pieces {
        assert!(piece.await.unwrap().is_done());
    }
    for piece in twice {
        assert!(matches!(piece.await.unwrap(), Outcome::Failed(_)));
    }
    assert_eq!(ids(&db).await, [0, 1, 2, 3, 4]);
}
