//! Small files that are replaced whole, by one process at a time.
//!
//! A replacement is written beside the file, synced and renamed over it, so that a reader finds the
//! old content or the new one. A lock file makes read-and-replace one step among all processes.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

/// How often and how long it is tried for the lock; its holders write one small file.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const LOCK_TRIES: u32 = 400;

fn owner_only(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Takes the lock `name` in `dir`; the drop of the file frees it.
pub(super) fn lock(dir: &Path, name: &str) -> io::Result<File> {
    let file = owner_only(&dir.join(name))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds the lock"))
}

/// Writes what shall become `name`, up to the point of no return.
pub(super) fn prepare(dir: &Path, name: &str, text: &[u8]) -> io::Result<PathBuf> {
    let path = dir.join(format!("{name}.new"));
    // One left by a crash may have been made by another umask.
    fs::remove_file(&path)
        .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    let mut file = owner_only(&path)?;
    file.write_all(text)?;
    file.sync_all()?;
    Ok(path)
}

/// Reads a secret. One that others may read, by whatever copied it here, is its owner's alone again.
///
/// # Errors
/// What the system says; not if the mode cannot be changed, which only the file's owner may.
pub fn read_secret(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut permissions = file.metadata()?.permissions();
    if permissions.mode() & 0o077 != 0 {
        permissions.set_mode(0o600);
        if let Err(error) = file.set_permissions(permissions) {
            tracing::warn!(path = %path.display(), %error, "others may read this secret");
        }
    }
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    Ok(text)
}

/// Puts what was prepared in place. After an error it may have happened.
pub(super) fn finish(dir: &Path, name: &str, prepared: &Path) -> io::Result<()> {
    fs::rename(prepared, dir.join(name)).and_then(|()| File::open(dir)).and_then(|d| d.sync_all())
}
