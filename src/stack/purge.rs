//! What `down --purge` removes: the files of a data folder, by their exact names.

use std::{fs, io, path::Path};

use super::{
    data_dir::{DataDir, Found, SUPERVISOR, Seat, seat},
    kind, processes,
    seed::credentials,
};
use crate::{
    adapters::embedded::{blobs, folder},
    domain::MediaId,
};

impl DataDir {
    /// Removes the files that chirp puts here, by their exact names, and the folder if nothing else is
    /// in it. A folder without chirp's lock is not chirp's: nothing in it is touched.
    ///
    /// # Errors
    /// What the system says; what was removed by then stays removed.
    pub fn purge(&self) -> io::Result<Purged> {
        let root = match fs::canonicalize(self.root()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Purged::Absent),
            root => root?,
        };
        let empty = fs::read_dir(&root)?.next().is_none();
        if !root.join("chirp.lock").exists() && !empty {
            return Ok(Purged::Foreign);
        }
        purge_files(&root)?;
        remove_if_empty(&root)?;
        Ok(Purged::Done)
    }

    /// What a start found, as it must be seen once it has the lock: another may have been here
    /// since, and what that one made is not to be taken back.
    pub(super) fn still(&self, found: Found) -> Found {
        let used = [folder::FILE, kind::FILE].iter().any(|file| self.root().join(file).exists());
        if used { Found::Used } else { found }
    }

    /// Takes back what a start made that then failed. Best effort: the start has failed for a better
    /// reason than this could give. The caller holds the whole folder.
    pub(super) fn undo(&self, found: Found) {
        let root = self.root();
        let undone = match found {
            Found::Nothing => purge_files(root).and_then(|()| remove_if_empty(root)),
            Found::Empty => purge_files(root),
            // Whether a store there was made now cannot be told, so the first one ends the matter.
            Found::Foreign if !root.join(folder::FILE).exists() => {
                // Made by this start, or what was found would be used.
                absent_is_fine(fs::remove_file(root.join(kind::FILE)))
                    .and_then(|()| purge_frame(root))
            }
            Found::Foreign | Found::Used => Ok(()),
        };
        drop(undone);
    }

    /// As [`Self::undo`], for a process that shares the folder: only while nobody else is there, and
    /// nobody has made a store.
    pub(super) fn undo_shared(&self, found: Found) {
        if found == Found::Used {
            return;
        }
        if let Ok(_alone) = self.lock_all()
            && !self.root().join(folder::FILE).exists()
        {
            self.undo(found);
        }
    }
}

/// What came of a purge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// There is no such folder.
    Absent,
    /// It is not a folder of chirp's: nothing was touched.
    Foreign,
    /// What was chirp's is gone.
    Done,
}

/// Removes the files of chirp's in `root`.
fn purge_files(root: &Path) -> io::Result<()> {
    for entry in fs::read_dir(root)? {
        let name = entry?.file_name();
        if name.to_str().is_some_and(is_own) {
            absent_is_fine(fs::remove_file(root.join(&name)))?;
        }
    }
    purge_frame(root)
}

/// Removes what every start makes, whatever comes of it.
fn purge_frame(root: &Path) -> io::Result<()> {
    let media = root.join(blobs::FOLDER);
    for folder in blobs::FOLDERS {
        purge_folder(&media.join(folder), is_picture)?;
    }
    absent_is_fine(remove_if_empty(&media))?;
    purge_folder(&root.join("run"), is_run_file)?;
    purge_folder(&root.join("logs"), is_log)?;
    // Last, so that a purge that was stopped can be repeated.
    absent_is_fine(fs::remove_file(root.join("chirp.lock")))
}

/// Whether `name`, right in the data folder, is a file of chirp's other than its lock.
fn is_own(name: &str) -> bool {
    let token = |rest: &str| rest.len() == 16 && rest.bytes().all(|b| b.is_ascii_hexdigit());
    let store = folder::STORES.iter().any(|store| {
        name.strip_prefix(store).is_some_and(|rest| matches!(rest, "" | "-wal" | "-shm"))
    });
    store
        || matches!(name, "keys.json" | "keys.json.new" | "keys.lock" | "service.token")
        || name.strip_prefix(credentials::FILE).is_some_and(|rest| matches!(rest, "" | ".new"))
        || matches!(name, "stores.json" | "stores.json.new" | "stores.lock")
        || matches!(name, "run.json" | "run.json.new" | "backends.json" | "backends.json.new")
        || name == SUPERVISOR
        || name.strip_prefix("service.token.").is_some_and(token)
}

fn is_run_file(name: &str) -> bool {
    let config = name.strip_prefix(processes::CONFIG);
    seat::is_run_file(name) || matches!(config, Some("" | ".new"))
}

/// An id, in `tmp/` with a random number.
fn is_picture(name: &str) -> bool {
    let (id, number) = name.split_once('.').unwrap_or((name, ""));
    id.parse::<MediaId>().is_ok() && number.bytes().all(|b| b.is_ascii_hexdigit())
}

fn is_log(name: &str) -> bool {
    let Some((process, rest)) = name.split_once(".log") else { return false };
    let old = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit());
    (process == "chirp" || Seat::parse(process).is_some())
        && (rest.is_empty() || rest.strip_prefix('.').is_some_and(old))
}

fn purge_folder(folder: &Path, own: fn(&str) -> bool) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let name = entry?.file_name();
        if name.to_str().is_some_and(own) {
            absent_is_fine(fs::remove_file(folder.join(&name)))?;
        }
    }
    remove_if_empty(folder)
}

fn remove_if_empty(folder: &Path) -> io::Result<()> {
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
        other => absent_is_fine(other),
    }
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::at(&parent.path().join("data"));
        (parent, dir)
    }

    #[test]
    fn a_purge_removes_what_is_chirps_and_nothing_else() {
        let (_parent, dir) = fresh();
        dir.create().unwrap();
        for name in ["user.db", "user.db-wal", "service.token", "chirp.lock", "logs/chirp.log.2"] {
            fs::write(dir.root().join(name), "x").unwrap();
        }
        let others = ["keys.kdbx", "user.db.backup", "logs/mine.log", "run/data", "letter.txt"];
        for name in others {
            fs::write(dir.root().join(name), "mine").unwrap();
        }
        assert_eq!(dir.purge().unwrap(), Purged::Done);
        for name in others {
            assert!(dir.root().join(name).exists(), "{name} is not chirp's");
        }
        for name in ["user.db", "user.db-wal", "service.token", "chirp.lock", "logs/chirp.log.2"] {
            assert!(!dir.root().join(name).exists(), "{name} is chirp's");
        }
        // Without chirp's lock it is no data folder any more.
        fs::write(dir.root().join("user.db"), "somebody else's").unwrap();
        assert_eq!(dir.purge().unwrap(), Purged::Foreign);
        assert!(dir.root().join("user.db").exists());
    }

    #[test]
    fn a_purged_folder_is_gone_and_may_be_purged_again() {
        let (_parent, dir) = fresh();
        dir.create().unwrap();
        fs::write(dir.root().join("chirp.lock"), "").unwrap();
        assert_eq!(dir.purge().unwrap(), Purged::Done);
        assert!(!dir.root().exists());
        assert_eq!(dir.purge().unwrap(), Purged::Absent);
    }
}
