//! What every [`BlobStore`] does, and what a client can do with what it gives.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{
    Check, Outage, behaviours,
    kit::{Must, is_error, not_done, same, that},
};
use crate::{
    domain::{MediaId, MediaKind},
    ports::{BlobStore, Presigned, Seen, blobs::HEAD_MAX},
    rt::Rt,
};

/// Somebody outside, without any right of their own.
#[async_trait]
pub trait Visitor: Send + Sync {
    /// Sends `bytes` as `kind` to where they may; whether they were taken.
    async fn sends(&self, to: &Presigned, kind: MediaKind, bytes: Bytes) -> bool;

    /// Gets a picture: its type and its bytes; `None` if there is none.
    async fn gets(&self, id: MediaId) -> Option<(String, Bytes)>;
}

/// A store without pictures.
#[derive(Clone)]
pub struct Context {
    /// The store.
    pub blobs: Arc<dyn BlobStore>,
    /// A client of it.
    pub visitor: Arc<dyn Visitor>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes the store down.
    pub outage: Option<Outage>,
}

behaviours![
    there_is_nothing_at_first,
    an_upload_is_seen_and_not_yet_public,
    a_large_upload_is_seen_by_its_first_bytes,
    only_what_was_agreed_is_taken,
    what_is_published_is_what_everybody_gets,
    an_upload_that_was_replaced_is_not_published,
    nobody_overwrites_what_is_published,
    what_is_removed_is_gone,
    pictures_are_apart,
    an_outage_is_an_error,
];

const KIND: MediaKind = MediaKind::Gif;
const TTL: Duration = Duration::from_mins(5);

fn id(n: u128) -> MediaId {
    MediaId(n << 64 | 0xab)
}

/// A file of `KIND`, which `mark` tells from others.
fn file(mark: u8, size: usize) -> Bytes {
    let mut bytes = b"GIF89a\x01\0\x01\0\0\0\0".to_vec();
    bytes.resize(size, mark);
    bytes.into()
}

impl Context {
    async fn send(&self, n: u128, bytes: Bytes) -> Check {
        let to = self.blobs.presign(id(n), KIND, bytes.len() as u64, TTL).await.must("presign")?;
        that(self.visitor.sends(&to, KIND, bytes).await, "an upload is taken")
    }

    async fn look(&self, n: u128) -> Result<Option<Seen>, String> {
        self.blobs.look(id(n)).await.must("look")
    }

    async fn seen(&self, n: u128) -> Result<Seen, String> {
        self.look(n).await?.ok_or_else(|| "what was sent is not seen".to_owned())
    }

    async fn publish(&self, n: u128, version: &str) -> Result<bool, String> {
        self.blobs.publish(id(n), version, KIND).await.must("publish")
    }

    async fn gets(&self, n: u128, expected: Option<&Bytes>) -> Check {
        let expected = expected.map(|bytes| (KIND.as_str().to_owned(), bytes.clone()));
        same(&format!("picture {n}"), &self.visitor.gets(id(n)).await, &expected)
    }

    async fn sent_and_published(&self, n: u128, bytes: Bytes) -> Check {
        self.send(n, bytes).await?;
        let version = self.seen(n).await?.version;
        same("published", &self.publish(n, &version).await?, &true)
    }
}

async fn there_is_nothing_at_first(context: Context) -> Check {
    same("seen", &context.look(1).await?, &None)?;
    context.gets(1, None).await?;
    same("published", &context.publish(1, "1").await?, &false)?;
    context.blobs.remove(id(1), true).await.must("remove")
}

async fn an_upload_is_seen_and_not_yet_public(context: Context) -> Check {
    let bytes = file(1, 100);
    context.send(1, bytes.clone()).await?;
    let seen = context.seen(1).await?;
    same("published", &seen.published, &false)?;
    same("size", &seen.bytes, &100)?;
    same("bytes", &seen.head, &bytes)?;
    context.gets(1, None).await
}

async fn a_large_upload_is_seen_by_its_first_bytes(context: Context) -> Check {
    let bytes = file(2, HEAD_MAX + 1_000);
    context.send(1, bytes.clone()).await?;
    let seen = context.seen(1).await?;
    same("size", &seen.bytes, &(bytes.len() as u64))?;
    that(seen.head == bytes[..HEAD_MAX], "the first bytes are seen")
}

async fn only_what_was_agreed_is_taken(context: Context) -> Check {
    let to = context.blobs.presign(id(1), KIND, 100, TTL).await.must("presign")?;
    for (kind, size) in [(KIND, 99), (KIND, 101), (MediaKind::Png, 100)] {
        let taken = context.visitor.sends(&to, kind, file(1, size)).await;
        that(!taken, &format!("{size} bytes of {} are refused", kind.as_str()))?;
    }
    same("seen", &context.look(1).await?, &None)?;
    that(context.visitor.sends(&to, KIND, file(1, 100)).await, "what was agreed is taken")
}

async fn what_is_published_is_what_everybody_gets(context: Context) -> Check {
    let bytes = file(1, 100);
    context.sent_and_published(1, bytes.clone()).await?;
    context.gets(1, Some(&bytes)).await?;
    let seen = context.seen(1).await?;
    same("published", &(seen.published, seen.bytes, seen.head), &(true, 100, bytes))
}

async fn an_upload_that_was_replaced_is_not_published(context: Context) -> Check {
    context.send(1, file(1, 100)).await?;
    let first = context.seen(1).await?;
    context.send(1, file(2, 100)).await?;
    same("the first", &context.publish(1, &first.version).await?, &false)?;
    context.gets(1, None).await?;
    let second = context.seen(1).await?;
    same("seen", &second.head, &file(2, 100))?;
    same("the second", &context.publish(1, &second.version).await?, &true)?;
    context.gets(1, Some(&file(2, 100))).await
}

async fn nobody_overwrites_what_is_published(context: Context) -> Check {
    context.sent_and_published(1, file(1, 100)).await?;
    let version = context.seen(1).await?.version;
    context.send(1, file(2, 100)).await?;
    let seen = context.seen(1).await?;
    same("seen", &(seen.published, seen.head), &(true, file(1, 100)))?;
    same("published again", &context.publish(1, &version).await?, &false)?;
    context.gets(1, Some(&file(1, 100))).await
}

async fn what_is_removed_is_gone(context: Context) -> Check {
    let bytes = file(1, 100);
    context.send(2, bytes.clone()).await?;
    context.sent_and_published(1, bytes.clone()).await?;
    for _ in 0..2 {
        context.blobs.remove(id(2), false).await.must("remove")?;
        same("an upload", &context.look(2).await?, &None)?;
        context.blobs.remove(id(1), false).await.must("remove")?;
        context.gets(1, Some(&bytes)).await?;
    }
    for _ in 0..2 {
        context.blobs.remove(id(1), true).await.must("remove")?;
        same("a picture", &context.look(1).await?, &None)?;
        context.gets(1, None).await?;
    }
    Ok(())
}

async fn pictures_are_apart(context: Context) -> Check {
    context.sent_and_published(1, file(1, 100)).await?;
    context.sent_and_published(2, file(2, 100)).await?;
    context.blobs.remove(id(2), true).await.must("remove")?;
    context.gets(1, Some(&file(1, 100))).await
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.send(1, file(1, 100)).await?;
    let version = context.seen(1).await?.version;
    outage.begin();
    is_error("look", &context.blobs.look(id(1)).await)?;
    not_done("publish", &context.blobs.publish(id(1), &version, KIND).await)?;
    not_done("remove", &context.blobs.remove(id(1), true).await)
}
