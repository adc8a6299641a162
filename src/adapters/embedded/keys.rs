//! Signing keys in `keys.json`, readable by the owner only.
//!
//! A replacement is written beside the file, synced and renamed over it, so that a reader finds the
//! old keys or the new ones. A lock file makes compare-and-swap one step among all processes.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};

use crate::{
    ports::{KeyStore, Kind, Outcome, Read, StoreError, StoredKey},
    rt::Rt,
};

const STORE: &str = "keys";
/// The most keys that are kept: the one that signs and the one before it.
const KEYS_MAX: usize = 2;
/// How often and how long a replacement tries for the lock; its holders write one small file.
const LOCK_PAUSE: Duration = Duration::from_millis(5);
const LOCK_TRIES: u32 = 400;

#[derive(Serialize, Deserialize)]
struct KeyFile {
    keys: Vec<KeyEntry>,
}

#[derive(Serialize, Deserialize)]
struct KeyEntry {
    kid: String,
    seed: String,
    created_at_ms: u64,
}

/// Signing keys in a folder.
#[derive(Clone, Debug)]
pub struct FileKeys {
    dir: PathBuf,
    rt: Rt,
}

impl FileKeys {
    /// The keys in `dir`, which exists.
    #[must_use]
    pub fn new(dir: &Path, rt: Rt) -> Self {
        Self { dir: dir.to_owned(), rt }
    }
}

fn trouble(error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Full,
        io::ErrorKind::InvalidData => Kind::Corrupt,
        io::ErrorKind::TimedOut => Kind::Timeout,
        _ => Kind::Unavailable,
    };
    StoreError::new(kind, STORE, format!("keys.json: {error}"))
}

/// Says nothing of what the file holds, as that is secret.
fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the file does not hold keys")
}

fn load(dir: &Path) -> io::Result<Vec<StoredKey>> {
    let text = match fs::read(dir.join("keys.json")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let file: KeyFile = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let key = |entry: KeyEntry| {
        let seed = BASE64.decode(&entry.seed).ok().and_then(|seed| seed.try_into().ok());
        let seed = seed.ok_or_else(damaged)?;
        Ok(StoredKey { kid: entry.kid, seed, created_at_ms: entry.created_at_ms })
    };
    file.keys.into_iter().map(key).collect()
}

fn owner_only(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Writes the new file up to the point of no return.
fn prepare(dir: &Path, keys: &[StoredKey]) -> io::Result<PathBuf> {
    let entry = |key: &StoredKey| KeyEntry {
        kid: key.kid.clone(),
        seed: BASE64.encode(key.seed),
        created_at_ms: key.created_at_ms,
    };
    let text = serde_json::to_vec_pretty(&KeyFile { keys: keys.iter().map(entry).collect() })?;
    let path = dir.join("keys.json.new");
    // One left by a crash may have been made by another umask.
    fs::remove_file(&path)
        .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
    let mut file = owner_only(&path)?;
    file.write_all(&text)?;
    file.sync_all()?;
    Ok(path)
}

fn lock(dir: &Path) -> io::Result<File> {
    let file = owner_only(&dir.join("keys.lock"))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds the lock"))
}

fn replace(dir: &Path, before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>> {
    let attempt = || {
        let lock = lock(dir)?;
        let now = load(dir)?;
        if now != before {
            return Ok((now, None));
        }
        Ok((after.to_vec(), Some((prepare(dir, after)?, lock))))
    };
    match attempt() {
        Err(error) => Outcome::Failed(trouble(&error)),
        Ok((now, None)) => Outcome::Done(now),
        Ok((keys, Some((new, _lock)))) => {
            let renamed = fs::rename(&new, dir.join("keys.json"))
                .and_then(|()| File::open(dir))
                .and_then(|dir| dir.sync_all());
            match renamed {
                Ok(()) => Outcome::Done(keys),
                Err(error) => Outcome::Unknown(trouble(&error)),
            }
        }
    }
}

#[async_trait]
impl KeyStore for FileKeys {
    async fn load(&self) -> Read<Vec<StoredKey>> {
        let dir = self.dir.clone();
        match self.rt.blocking(move || load(&dir)).await {
            Some(keys) => keys.map_err(|error| trouble(&error)),
            None => Err(StoreError::new(Kind::Unavailable, STORE, "the read panicked")),
        }
    }

    async fn replace(&self, before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>> {
        if after.len() > KEYS_MAX {
            let error = StoreError::new(Kind::Unavailable, STORE, "more keys than may be kept");
            return Outcome::Failed(error);
        }
        let (dir, before, after) = (self.dir.clone(), before.to_vec(), after.to_vec());
        let lost =
            || Outcome::Unknown(StoreError::new(Kind::Unavailable, STORE, "the write panicked"));
        self.rt.blocking(move || replace(&dir, &before, &after)).await.unwrap_or_else(lost)
    }
}
