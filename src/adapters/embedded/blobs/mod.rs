//! Pictures in `media/` of the data folder: `up/` has what was uploaded, `m/` what is published, `tmp/`
//! what is being written. Start with [`FileBlobs`]; [`serve`] is the HTTP side, of the gateway's
//! process.
//!
//! A file is written in `tmp/`, synced, and renamed to its name in `up/`; publishing is a hard link, which
//! fails where something is published. So no two processes need a lock, bytes that were checked are
//! the bytes that are published, and nobody writes into a published file.

pub mod serve;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use aws_lc_rs::hmac;

use crate::{
    domain::{MediaId, MediaKind},
    ports::{BlobStore, Kind, Outcome, Presigned, Read, Seen, StoreError, blobs::HEAD_MAX},
    rt::Rt,
};

const STORE: &str = "blobs";
/// The folder of pictures in the data folder.
pub const FOLDER: &str = "media";
/// Its folders: uploaded, published, being written.
pub const FOLDERS: [&str; 3] = ["up", "m", "tmp"];
/// Where uploads are sent, from the root of the API.
const UPLOADS: &str = "media/up/";
/// A file in `tmp/` that nobody has written to for so long was left by a process that died: far
/// longer than an upload may take.
const LEFT_BEHIND: Duration = Duration::from_mins(10);

/// Pictures in a folder. Clones share it, and so do processes that were made with the same token.
#[derive(Clone)]
pub struct FileBlobs {
    root: PathBuf,
    key: hmac::Key,
    rt: Rt,
}

impl std::fmt::Debug for FileBlobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileBlobs").field("root", &self.root).finish_non_exhaustive()
    }
}

/// What a signed URL permits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Permit {
    id: MediaId,
    kind: MediaKind,
    bytes: u64,
    expires_ms: u64,
}

impl Permit {
    fn text(&self) -> String {
        let Self { id, kind, bytes, expires_ms } = self;
        format!("chirp upload: {id} {} {bytes} {expires_ms}", kind.as_str())
    }
}

fn trouble(error: &io::Error) -> StoreError {
    let kind = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Kind::Full,
        _ => Kind::Unavailable,
    };
    StoreError::new(kind, STORE, format!("media: {error}"))
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// What tells a file from every other that had its name.
fn version_of(file: &fs::Metadata) -> String {
    format!("{}-{}.{}-{}", file.ino(), file.mtime(), file.mtime_nsec(), file.len())
}

impl FileBlobs {
    /// The pictures in the data folder `dir`. Makes what is missing, and removes what a process left
    /// behind that died. URLs are signed with a key that follows from `token`. Blocks shortly.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(dir: &Path, token: &str, rt: Rt) -> io::Result<Self> {
        let root = dir.join(FOLDER);
        for folder in FOLDERS {
            DirBuilder::new().recursive(true).mode(0o700).create(root.join(folder))?;
        }
        let now_s = rt.wall_ms() / 1_000;
        for entry in fs::read_dir(root.join("tmp"))? {
            let entry = entry?;
            // Another process may end what it writes meanwhile.
            let Ok(file) = entry.metadata() else { continue };
            let written_s = u64::try_from(file.mtime()).unwrap_or(0);
            if written_s + LEFT_BEHIND.as_secs() < now_s {
                absent_is_fine(fs::remove_file(entry.path()))?;
            }
        }
        let secret = hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes());
        let key = hmac::sign(&secret, b"chirp: the key of uploads");
        Ok(Self { root, key: hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), rt })
    }

    fn uploaded(&self, id: MediaId) -> PathBuf {
        self.root.join("up").join(id.to_string())
    }

    fn published(&self, id: MediaId) -> PathBuf {
        self.root.join("m").join(id.to_string())
    }

    /// A name in `tmp/` that nobody else has.
    fn fresh(&self, id: MediaId) -> PathBuf {
        self.root.join("tmp").join(format!("{id}.{:016x}", self.rt.random_u64()))
    }

    fn sync(&self, folder: &str) -> io::Result<()> {
        File::open(self.root.join(folder))?.sync_all()
    }

    fn seen(&self, id: MediaId) -> io::Result<Option<Seen>> {
        for (path, published) in [(self.published(id), true), (self.uploaded(id), false)] {
            let file = match File::open(path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                file => file?,
            };
            let about = file.metadata()?;
            let mut head = Vec::new();
            file.take(HEAD_MAX as u64).read_to_end(&mut head)?;
            let (version, bytes) = (version_of(&about), about.len());
            return Ok(Some(Seen { published, version, bytes, head: head.into() }));
        }
        Ok(None)
    }

    /// Pins the upload under another name, looks which one it is, and links it.
    fn link(&self, id: MediaId, version: &str) -> Outcome<bool> {
        let pinned = self.fresh(id);
        let attempt = || {
            match fs::hard_link(self.uploaded(id), &pinned) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                linked => linked?,
            }
            if version_of(&pinned.metadata()?) != version {
                return Ok(false);
            }
            match fs::hard_link(&pinned, self.published(id)) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                linked => linked.map(|()| true),
            }
        };
        let linked = attempt();
        drop(fs::remove_file(&pinned));
        match linked {
            Ok(false) => Outcome::Done(false),
            Ok(true) => match self.sync("m") {
                Ok(()) => Outcome::Done(true),
                Err(error) => Outcome::Unknown(trouble(&error)),
            },
            Err(error) => Outcome::Failed(trouble(&error)),
        }
    }

    fn unlink(&self, id: MediaId, published: bool) -> io::Result<()> {
        absent_is_fine(fs::remove_file(self.uploaded(id)))?;
        self.sync("up")?;
        if published {
            absent_is_fine(fs::remove_file(self.published(id)))?;
            self.sync("m")?;
        }
        Ok(())
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(Self) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let own = self.clone();
        let done = self.rt.blocking(move || job(own)).await;
        done.ok_or_else(|| StoreError::new(Kind::Unavailable, STORE, "the call panicked"))
    }
}

#[async_trait]
impl BlobStore for FileBlobs {
    async fn presign(
        &self,
        id: MediaId,
        kind: MediaKind,
        bytes: u64,
        ttl: Duration,
    ) -> Read<Presigned> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        let expires_ms = self.rt.wall_ms().saturating_add(ttl_ms);
        let permit = Permit { id, kind, bytes, expires_ms };
        let signature = hmac::sign(&self.key, permit.text().as_bytes());
        let signature = serve::to_text(signature.as_ref());
        let kind = kind.as_str();
        let url = format!(
            "{UPLOADS}{id}?type={kind}&bytes={bytes}&expires={expires_ms}&signature={signature}"
        );
        Ok(Presigned { url, headers: vec![("content-type", kind.to_owned())] })
    }

    async fn look(&self, id: MediaId) -> Read<Option<Seen>> {
        self.blocking(move |own| own.seen(id)).await?.map_err(|error| trouble(&error))
    }

    async fn publish(&self, id: MediaId, version: &str, _kind: MediaKind) -> Outcome<bool> {
        let version = version.to_owned();
        let linked = self.blocking(move |own| own.link(id, &version)).await;
        linked.unwrap_or_else(Outcome::Unknown)
    }

    async fn remove(&self, id: MediaId, published: bool) -> Outcome<()> {
        match self.blocking(move |own| own.unlink(id, published)).await {
            Ok(Ok(())) => Outcome::Done(()),
            Ok(Err(error)) => Outcome::Unknown(trouble(&error)),
            Err(error) => Outcome::Unknown(error),
        }
    }
}
