//! Signing keys in `keys.json`, readable by the owner only.
//!
//! A reader finds the old keys or the new ones; compare-and-swap is one step among all processes
//! (see [`durable`]).

use std::{
    io,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};

use super::durable;
use crate::{
    ports::{KeyStore, Kind, Outcome, Read, StoreError, StoredKey},
    rt::Rt,
};

const STORE: &str = "keys";
/// The most keys that are kept: the one that signs and the one before it.
const KEYS_MAX: usize = 2;
/// The file of the keys.
pub const FILE: &str = "keys.json";

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
    let text = match durable::read_secret(&dir.join(FILE)) {
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

/// Writes the new file up to the point of no return.
fn prepare(dir: &Path, keys: &[StoredKey]) -> io::Result<PathBuf> {
    let entry = |key: &StoredKey| KeyEntry {
        kid: key.kid.clone(),
        seed: BASE64.encode(key.seed),
        created_at_ms: key.created_at_ms,
    };
    let text = serde_json::to_vec_pretty(&KeyFile { keys: keys.iter().map(entry).collect() })?;
    durable::prepare(dir, FILE, &text)
}

fn replace(dir: &Path, before: &[StoredKey], after: &[StoredKey]) -> Outcome<Vec<StoredKey>> {
    let attempt = || {
        let lock = durable::lock(dir, "keys.lock")?;
        let now = load(dir)?;
        if now != before {
            return Ok((now, None));
        }
        Ok((after.to_vec(), Some((prepare(dir, after)?, lock))))
    };
    match attempt() {
        Err(error) => Outcome::Failed(trouble(&error)),
        Ok((now, None)) => Outcome::Done(now),
        Ok((keys, Some((new, _lock)))) => match durable::finish(dir, FILE, &new) {
            Ok(()) => Outcome::Done(keys),
            Err(error) => Outcome::Unknown(trouble(&error)),
        },
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
