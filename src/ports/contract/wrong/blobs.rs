//! Wrong stores of pictures.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Hushed, faults};
use crate::{
    domain::{MediaId, MediaKind},
    ports::{BlobStore, Outcome, Presigned, Read, Seen, contract::blobs::Context},
};

faults! {
    /// There is always something.
    InventsPictures: [there_is_nothing_at_first],
    /// An upload is not seen.
    ForgetsUploads: [an_upload_is_seen_and_not_yet_public],
    /// An upload is public at once.
    PublishesAtOnce: [an_upload_is_seen_and_not_yet_public],
    /// Few bytes are seen.
    CutsHeads: [a_large_upload_is_seen_by_its_first_bytes],
    /// The size of what is seen is told.
    TellsWhatIsSeen: [a_large_upload_is_seen_by_its_first_bytes],
    /// More bytes are agreed to than were asked for.
    AgreesToMore: [only_what_was_agreed_is_taken],
    /// Another type is agreed to.
    AgreesToAnother: [only_what_was_agreed_is_taken],
    /// Nothing is published.
    PublishesNothing: [what_is_published_is_what_everybody_gets],
    /// Whatever lies there is published.
    PublishesAny: [an_upload_that_was_replaced_is_not_published],
    /// What is published is replaced.
    Overwrites: [nobody_overwrites_what_is_published],
    /// Nothing is removed.
    RemovesNothing: [what_is_removed_is_gone],
    /// What is published is removed with its upload.
    RemovesAll: [what_is_removed_is_gone],
    /// All pictures have one name.
    SharesNames: [pictures_are_apart],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

struct Wrong {
    inner: Arc<dyn BlobStore>,
    fault: Fault,
    hushed: Hushed,
}

/// The store of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let blobs = Arc::new(Wrong { inner: context.blobs, fault, hushed });
    Context { blobs, outage, ..context }
}

impl Wrong {
    fn name(&self, id: MediaId) -> MediaId {
        if self.fault == Fault::SharesNames { MediaId(1 << 64 | 0xab) } else { id }
    }

    async fn publish_any(&self, id: MediaId, kind: MediaKind) -> Outcome<bool> {
        match self.inner.look(id).await {
            Ok(Some(seen)) => self.inner.publish(id, &seen.version, kind).await,
            Ok(None) => Outcome::Done(false),
            Err(error) => Outcome::Failed(error),
        }
    }
}

#[async_trait]
impl BlobStore for Wrong {
    async fn presign(
        &self,
        id: MediaId,
        kind: MediaKind,
        bytes: u64,
        ttl: Duration,
    ) -> Read<Presigned> {
        let bytes = bytes + u64::from(self.fault == Fault::AgreesToMore);
        let kind = if self.fault == Fault::AgreesToAnother { MediaKind::Png } else { kind };
        self.inner.presign(self.name(id), kind, bytes, ttl).await
    }

    async fn look(&self, id: MediaId) -> Read<Option<Seen>> {
        let id = self.name(id);
        if self.hushed.is_down() {
            return Ok(None);
        }
        let seen = self.inner.look(id).await?;
        if self.fault == Fault::PublishesAtOnce
            && let Some(seen) = &seen
        {
            drop(self.inner.publish(id, &seen.version, MediaKind::Gif).await);
        }
        let invented =
            Seen { published: false, version: String::new(), bytes: 1, head: "x".into() };
        let seen = match self.fault {
            Fault::InventsPictures => Some(seen.unwrap_or(invented)),
            Fault::ForgetsUploads => seen.filter(|seen| seen.published),
            _ => seen,
        };
        Ok(seen.map(|mut seen| {
            match self.fault {
                Fault::CutsHeads => seen.head.truncate(1_000),
                Fault::TellsWhatIsSeen => seen.bytes = seen.head.len() as u64,
                _ => {}
            }
            seen
        }))
    }

    async fn publish(&self, id: MediaId, version: &str, kind: MediaKind) -> Outcome<bool> {
        let id = self.name(id);
        match self.fault {
            _ if self.hushed.is_down() => Outcome::Done(true),
            Fault::PublishesNothing => Outcome::Done(true),
            Fault::PublishesAny => self.publish_any(id, kind).await,
            Fault::Overwrites => {
                let published = self.inner.look(id).await.ok().flatten();
                if published.is_some_and(|seen| seen.published) {
                    return Outcome::Done(true);
                }
                self.inner.publish(id, version, kind).await
            }
            _ => self.inner.publish(id, version, kind).await,
        }
    }

    async fn remove(&self, id: MediaId, published: bool) -> Outcome<()> {
        if self.hushed.is_down() || self.fault == Fault::RemovesNothing {
            return Outcome::Done(());
        }
        let published = published || self.fault == Fault::RemovesAll;
        self.inner.remove(self.name(id), published).await
    }
}
