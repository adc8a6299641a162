//! The bytes of pictures: a place where clients put them by themselves, and one from where everybody
//! gets them. Only what was checked goes from the first to the second, where nobody writes again.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use super::{Outcome, Read};
use crate::domain::{MediaId, MediaKind};

/// The most bytes that [`BlobStore::look`] gives of a picture: what stands before the dimensions of a
/// JPEG, such as a preview and a colour profile, is far smaller.
pub const HEAD_MAX: usize = 256 * 1024;

/// What a client uploads with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presigned {
    /// Where to; without a scheme it is meant from the root of the API. It is a permission, and is not
    /// logged.
    pub url: String,
    /// Headers that the request has to have, beside `content-length`.
    pub headers: Vec<(&'static str, String)>,
}

/// What lies there of a picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// It is the published one. Otherwise it is what was uploaded last.
    pub published: bool,
    /// Tells these very bytes from those of another upload under the same name.
    pub version: String,
    /// The size, in bytes.
    pub bytes: u64,
    /// The first bytes, at most [`HEAD_MAX`].
    pub head: Bytes,
}

/// Bytes of pictures.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Lets whoever has the answer send exactly `bytes` bytes of the type `kind` by `PUT`, any number
    /// of times within `ttl`; they lie where only [`Self::look`] sees them.
    async fn presign(
        &self,
        id: MediaId,
        kind: MediaKind,
        bytes: u64,
        ttl: Duration,
    ) -> Read<Presigned>;

    /// What is published under `id`; else what was uploaded; else `None`.
    async fn look(&self, id: MediaId) -> Read<Option<Seen>>;

    /// Publishes the upload of this `version`, as a picture of `kind`, and nothing else. `false` if that
    /// is not what lies there, or if something is published already: then nothing was changed. After
    /// *unknown* [`Self::look`] tells.
    async fn publish(&self, id: MediaId, version: &str, kind: MediaKind) -> Outcome<bool>;

    /// Removes what was uploaded, and with `published` what was published. Repeating it changes
    /// nothing.
    async fn remove(&self, id: MediaId, published: bool) -> Outcome<()>;
}
