use std::{fs, path::Path};

use crate::{
    adapters::embedded::{OpenError, Stores, folder::STORES, sqlite::Options},
    rt::tokio_rt::TokioRuntime,
};

fn open(dir: &Path) -> Result<(), OpenError> {
    Stores::open(dir, &TokioRuntime::handle(), Options::default()).map(|stores| stores.close())
}

/// A data folder as a stack leaves it.
fn used() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).unwrap();
    dir
}

/// Every file with what is in it.
fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    let mut all: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| read(entry.unwrap())).collect();
    all.sort();
    all
}

#[tokio::test]
async fn a_store_that_was_lost_is_refused_and_nothing_is_changed() {
    let other = used();
    for store in STORES {
        for (what, damage) in [
            ("missing", (|path, _| fs::remove_file(path)) as fn(&Path, &Path) -> _),
            ("empty", |path, _| fs::write(path, "")),
            ("another folder's", |path, other| fs::copy(other, path).map(drop)),
        ] {
            let dir = used();
            let path = dir.path().join(store);
            damage(&path, &other.path().join(store)).unwrap();
            let before = content(dir.path());
            match open(dir.path()) {
                Err(OpenError::Lost { path: named, why }) => {
                    assert!(named == path && why.contains(what), "{named:?} {why}");
                }
                other => panic!("{store} {what}: {other:?}"),
            }
            assert!(content(dir.path()) == before, "{store} {what}");
        }
    }
}

#[tokio::test]
async fn a_first_start_that_was_interrupted_goes_on_where_it_was() {
    let dir = used();
    let list = dir.path().join("stores.json");
    let whole = fs::read_to_string(&list).unwrap();
    let name = whole.split('"').nth(3).unwrap();
    let written = |stores: &str| format!("{{\"folder\":\"{name}\",\"stores\":[{stores}]}}");
    // Before a store was written down; before it had tables; before it was there; before all.
    fs::write(&list, written(r#""user.db","timeline.db""#)).unwrap();
    open(dir.path()).unwrap();
    fs::write(&list, written(r#""user.db""#)).unwrap();
    fs::write(dir.path().join("tweet.db"), "").unwrap();
    open(dir.path()).unwrap();
    fs::write(&list, written("")).unwrap();
    fs::remove_file(dir.path().join("user.db")).unwrap();
    open(dir.path()).unwrap();
    assert_eq!(fs::read_to_string(&list).unwrap(), whole);
}

#[tokio::test]
async fn a_list_that_is_lost_or_damaged_is_not_begun_anew() {
    let dir = used();
    let list = dir.path().join("stores.json");
    for text in ["", "{", r#"{"folder":"x","stores":[]}"#] {
        fs::write(&list, text).unwrap();
        assert!(matches!(open(dir.path()), Err(OpenError::Corrupt { .. })), "{text}");
    }
    fs::remove_file(&list).unwrap();
    let before = content(dir.path());
    assert!(matches!(open(dir.path()), Err(OpenError::Lost { .. })));
    assert!(content(dir.path()) == before);
}

#[tokio::test]
async fn a_folder_of_a_build_without_a_list_is_taken_over() {
    let dir = used();
    fs::remove_file(dir.path().join("stores.json")).unwrap();
    for store in STORES {
        let file = rusqlite::Connection::open(dir.path().join(store)).unwrap();
        file.execute_batch("drop table folder").unwrap();
    }
    open(dir.path()).unwrap();
    fs::remove_file(dir.path().join("tweet.db")).unwrap();
    assert!(matches!(open(dir.path()), Err(OpenError::Lost { .. })), "from then on it is known");
}
