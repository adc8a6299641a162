//! Scenarios of the data folder.

use super::*;
use crate::rt::tokio_rt::TokioRuntime;

fn run_file(pid: u32) -> RunFile {
    let here: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let (version, started_at_ms) = ("0".to_owned(), 1);
    RunFile { pid, version, started_at_ms, address: here, admin: here, replicas: vec![] }
}

fn fresh() -> (tempfile::TempDir, DataDir) {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::at(&parent.path().join("data"));
    (parent, dir)
}

#[test]
fn a_whole_stack_and_single_roles_exclude_each_other() {
    let (_parent, dir) = fresh();
    assert_eq!(dir.create().unwrap(), Found::Nothing);
    let all = dir.lock_all().unwrap();
    assert!(matches!(dir.lock_all(), Err(StackError::Locked { .. })));
    assert!(matches!(dir.lock_roles(&[Role::User]), Err(StackError::Locked { .. })));
    drop(all);
    let user = dir.lock_roles(&[Role::User]).unwrap();
    let tweet = dir.lock_roles(&[Role::Tweet]).unwrap();
    assert!(matches!(dir.lock_roles(&[Role::User]), Err(StackError::Locked { .. })));
    assert!(matches!(dir.lock_all(), Err(StackError::Locked { .. })));
    drop((user, tweet));
    drop(dir.lock_all().unwrap());
}

#[test]
fn a_run_file_counts_only_while_its_lock_is_held() {
    let (_parent, dir) = fresh();
    dir.create().unwrap();
    dir.write_run(None, &run_file(7)).unwrap();
    assert_eq!(dir.running(), Running::Nothing);
    let lock = dir.lock_all().unwrap();
    assert_eq!(dir.running(), Running::Starting, "the file of the dead process is gone");
    dir.write_run(None, &run_file(8)).unwrap();
    assert_eq!(dir.running(), Running::Up(run_file(8)));
    drop(lock);
    let lock = dir.lock_roles(&[Role::Tweet]).unwrap();
    dir.write_run(Some(Role::Tweet.into()), &run_file(9)).unwrap();
    assert_eq!(dir.running(), Running::Roles(vec![(Role::Tweet, run_file(9))]));
    drop(lock);
}

#[test]
fn a_lock_names_its_holder_from_the_first_moment_and_nobody_else() {
    let (_parent, dir) = fresh();
    dir.create().unwrap();
    let own = BTreeSet::from([std::process::id()]);
    let roles = dir.lock_roles(&[Role::Tweet]).unwrap();
    assert_eq!(dir.holders(), own);
    drop(roles);
    assert_eq!(dir.holders(), BTreeSet::new());
    let lock = dir.lock_all().unwrap();
    assert_eq!((dir.running(), dir.holders()), (Running::Starting, own));
    // As a holder leaves it that has the lock and has not signed yet.
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    fs::write(dir.root().join("chirp.lock"), other.id().to_string()).unwrap();
    assert_eq!(dir.holders(), BTreeSet::new(), "a stranger is never named");
    other.kill().unwrap();
    other.wait().unwrap();
    drop(lock);
}

#[test]
fn a_lock_that_was_removed_with_its_folder_guards_nothing() {
    let (_parent, dir) = fresh();
    dir.create().unwrap();
    let (first, path) = (dir.lock_all().unwrap(), dir.root().join("chirp.lock"));
    let waiting = File::open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    let second = dir.lock_all().unwrap();
    drop(first);
    waiting.try_lock().unwrap();
    assert!(matches!(dir.lock_all(), Err(StackError::Locked { .. })));
    drop(second);
}

#[test]
fn what_a_failed_start_made_is_taken_back_and_nothing_else() {
    let (_parent, dir) = fresh();
    for (found, left) in [
        (Found::Nothing, None),
        (Found::Empty, Some(vec![])),
        (Found::Foreign, Some(vec!["letter.txt", "user.db"])),
    ] {
        if let Some(names) = &left {
            fs::create_dir(dir.root()).unwrap();
            for name in names {
                fs::write(dir.root().join(name), "mine").unwrap();
            }
        }
        assert_eq!(dir.create().unwrap(), found);
        let lock = dir.lock_all().unwrap();
        fs::write(dir.log_file(), "line").unwrap();
        dir.undo(dir.still(found));
        drop(lock);
        let names = |entries: fs::ReadDir| {
            let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let now = fs::read_dir(dir.root()).ok().map(names);
        assert_eq!(now, left.map(|l| l.into_iter().map(Into::into).collect::<Vec<_>>()));
        drop(fs::remove_dir_all(dir.root()));
    }
    // Another start was faster, made a store and has gone again.
    let found = dir.create().unwrap();
    let lock = dir.lock_all().unwrap();
    fs::write(dir.root().join("stores.json"), "{}").unwrap();
    dir.undo(dir.still(found));
    assert!(dir.root().join("stores.json").exists());
    drop(lock);
}

#[tokio::test]
async fn the_token_is_made_once_is_private_and_a_damaged_one_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let (_parent, dir) = fresh();
    dir.create().unwrap();
    let rt = TokioRuntime::handle();
    let token = dir.service_token(&rt).unwrap();
    assert!(dir.service_token(&rt).unwrap() == token);
    let path = dir.root().join("service.token");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    dir.read_token().unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "a copy with another mode is tightened");
    fs::write(&path, "short").unwrap();
    assert!(matches!(dir.service_token(&rt), Err(StackError::Corrupt { .. })));
}

#[test]
fn a_role_is_believed_to_run_only_while_its_lock_is_held() {
    let (_parent, dir) = fresh();
    dir.create().unwrap();
    let address = "127.0.0.1:9".parse().unwrap();
    let run = RunFile {
        pid: 1,
        version: "0".to_owned(),
        started_at_ms: 1,
        address,
        admin: address,
        replicas: Vec::new(),
    };
    let lock = dir.lock_roles(&[Role::User]).unwrap();
    let text = serde_json::to_vec(&run).unwrap();
    fs::write(dir.run_file(Some(Role::User.into())), text).unwrap();
    assert_eq!(dir.running_seats(Role::User), std::slice::from_ref(&run));
    assert_eq!(dir.running_seats(Role::User), [run], "asking takes nothing");
    drop(lock);
    assert_eq!(dir.running_seats(Role::User), [], "its port may be anybody's");
}

#[test]
fn a_folder_that_cannot_be_made_leaves_nothing_behind() {
    let parent = tempfile::tempdir().unwrap();
    fs::write(parent.path().join("file"), "").unwrap();
    let dir = DataDir::at(&parent.path().join("file").join("data"));
    let error = dir.create().unwrap_err().to_string();
    assert!(error.ends_with("cannot be written: not a directory"), "{error}");
}
