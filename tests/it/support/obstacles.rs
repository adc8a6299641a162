//! What can stand in the way of a command. Each brings its condition about in the folder where the
//! command is run, and gives what must be held until the command has ended, and a text for its
//! arguments.

use std::{fs, net::TcpListener, path::Path, process::Child};

use super::{chirp, patience, run_in};

/// What is held for as long as the obstacle shall last.
pub enum Holder {
    Port(#[expect(dead_code, reason = "held, not read")] TcpListener),
    Process(Child),
}

impl Drop for Holder {
    fn drop(&mut self) {
        if let Self::Process(child) = self {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

pub fn busy_port(_: &Path) -> (Option<Holder>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    (Some(Holder::Port(listener)), port)
}

/// A data folder as a stack leaves it.
pub fn stopped_stack(folder: &Path) {
    let args = ["up", "--detach", "--port", "0", "--admin-port", "0"];
    let up = run_in(folder, &args);
    assert!(up.status.success(), "{up:?}");
    let down = run_in(folder, &["down"]);
    assert!(down.status.success(), "{down:?}");
}

pub fn damaged_store(folder: &Path) -> (Option<Holder>, String) {
    stopped_stack(folder);
    fs::write(folder.join(".chirp/user.db"), "this is no database, but long enough").unwrap();
    (None, String::new())
}

pub fn damaged_page(folder: &Path) -> (Option<Holder>, String) {
    stopped_stack(folder);
    let path = folder.join(".chirp/user.db");
    let file = rusqlite::Connection::open(&path).unwrap();
    let number = |sql: &str| -> usize {
        let number: i64 = file.query_row(sql, [], |row| row.get(0)).unwrap();
        usize::try_from(number).unwrap()
    };
    let (size, pages) = (number("pragma page_size"), number("pragma page_count"));
    let whose = number("select rootpage from sqlite_schema where name = 'folder'");
    // Any page but the first and the one that says whose file it is.
    let page = (2..=pages).find(|page| *page != whose).unwrap();
    drop(file);
    let mut bytes = fs::read(&path).unwrap();
    bytes[(page - 1) * size..page * size].fill(0xff);
    fs::write(&path, bytes).unwrap();
    (None, String::new())
}

pub fn newer_store(folder: &Path) -> (Option<Holder>, String) {
    stopped_stack(folder);
    let file = rusqlite::Connection::open(folder.join(".chirp/tweet.db")).unwrap();
    file.pragma_update(None, "user_version", 999).unwrap();
    (None, String::new())
}

pub fn lost_store(folder: &Path) -> (Option<Holder>, String) {
    stopped_stack(folder);
    fs::remove_file(folder.join(".chirp/tweet.db")).unwrap();
    (None, String::new())
}

pub fn empty_store(folder: &Path) -> (Option<Holder>, String) {
    stopped_stack(folder);
    fs::write(folder.join(".chirp/timeline.db"), "").unwrap();
    (None, String::new())
}

pub fn swapped_store(folder: &Path) -> (Option<Holder>, String) {
    stopped_stack(folder);
    let other = tempfile::tempdir().unwrap();
    stopped_stack(other.path());
    fs::copy(other.path().join(".chirp/user.db"), folder.join(".chirp/user.db")).unwrap();
    (None, String::new())
}

pub fn damaged_token(folder: &Path) -> (Option<Holder>, String) {
    stopped_stack(folder);
    fs::write(folder.join(".chirp/service.token"), "short").unwrap();
    (None, String::new())
}

pub fn damaged_keys(folder: &Path) -> (Option<Holder>, String) {
    stopped_stack(folder);
    fs::write(folder.join(".chirp/keys.json"), "{").unwrap();
    (None, String::new())
}

pub fn file_for_folder(folder: &Path) -> (Option<Holder>, String) {
    fs::create_dir(folder.join(".chirp")).unwrap();
    fs::write(folder.join(".chirp/run"), "").unwrap();
    (None, String::new())
}

pub fn role_runs(folder: &Path) -> (Option<Holder>, String) {
    let mut command = chirp(&["serve", "--role", "user"]);
    let child = command.current_dir(folder).stderr(std::process::Stdio::null()).spawn().unwrap();
    let began = std::time::Instant::now();
    while !folder.join(".chirp/run/user.json").exists() {
        assert!(began.elapsed() < patience());
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    (Some(Holder::Process(child)), String::new())
}

pub fn config(text: &'static str, folder: &Path) -> (Option<Holder>, String) {
    fs::write(folder.join("chirp.toml"), text).unwrap();
    (None, String::new())
}
