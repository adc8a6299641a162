//! Uploads beside the tweets, and the bytes of pictures in a store of their own.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

use super::{State, link::Link, tweets::Tweets};
use crate::{
    domain::{Body, MediaId, MediaKind, MediaList, MediaRef, MediaShape, TweetId, UserId},
    ports::{
        Begun, BlobStore, Due, MediaStore, NewTweet, NewUpload, Outcome, Presigned, Read, Seen,
        Unfit, UploadRow, blobs::HEAD_MAX,
    },
};

struct Kept {
    row: UploadRow,
    given_up: bool,
    due_at_ms: Option<u64>,
}

/// The table of uploads.
#[derive(Default)]
pub(super) struct Uploads(BTreeMap<MediaId, Kept>);

impl Uploads {
    /// The pictures that a new tweet shows, or the first upload that it cannot.
    pub(super) fn take(&self, tweet: &NewTweet) -> Result<MediaList, (MediaId, Unfit)> {
        let picture = |&id: &MediaId| {
            let row = self.0.get(&id).filter(|row| !row.given_up).map(|row| &row.row);
            let shape = UploadRow::fit(row, tweet.body.author, tweet.body.created_at_ms);
            shape.map(|shape| MediaRef { id, shape }).map_err(|why| (id, why))
        };
        let pictures: Vec<MediaRef> = tweet.media.iter().map(picture).collect::<Result<_, _>>()?;
        Ok(MediaList::new(pictures).unwrap_or_default())
    }

    /// Gives a tweet its uploads.
    pub(super) fn give(&mut self, body: &Body) {
        for picture in body.media.iter() {
            if let Some(row) = self.0.get_mut(&picture.id) {
                row.row.tweet = Some(body.id);
            }
        }
    }

    /// Makes the uploads of a deleted tweet due.
    pub(super) fn end(&mut self, tweet: TweetId, now_ms: u64) {
        let of = self.0.values_mut().filter(|row| row.row.tweet == Some(tweet));
        of.for_each(|row| row.due_at_ms = Some(now_ms));
    }

    fn begin(&mut self, new: &NewUpload, unused_max: u64) -> Begun {
        let unused = |(id, row): &(&MediaId, &Kept)| {
            row.row.owner == new.owner
                && row.row.tweet.is_none()
                && !row.given_up
                && row.row.expires_at_ms > new.now_ms
                && **id != new.id
        };
        if self.0.iter().filter(unused).count() as u64 >= unused_max {
            return Begun::TooMany;
        }
        let (owner, expires_at_ms): (UserId, u64) = (new.owner, new.expires_at_ms);
        let row = UploadRow { owner, expires_at_ms, shape: None, tweet: None };
        let due_at_ms = Some(new.expires_at_ms);
        self.0.entry(new.id).or_insert(Kept { row, given_up: false, due_at_ms });
        Begun::Begun
    }

    fn checked(&mut self, id: MediaId, shape: MediaShape) -> bool {
        let row = self.0.get_mut(&id).filter(|row| !row.given_up);
        row.map(|row| row.row.shape.get_or_insert(shape)).is_some()
    }

    fn due(&mut self, tweets: &Tweets, before_ms: u64, limit: usize) -> Vec<Due> {
        let time = |row: &Kept| row.due_at_ms.filter(|at| *at <= before_ms);
        let mut ids: Vec<(u64, MediaId)> =
            self.0.iter().filter_map(|(id, row)| Some((time(row)?, *id))).collect();
        ids.sort_unstable();
        ids.truncate(limit);
        let give_up = |(_, id): (u64, MediaId)| {
            let row = self.0.get_mut(&id)?;
            row.given_up |= row.row.tweet.is_none();
            let unused = row.row.tweet.is_none_or(|tweet| tweets.is_deleted(tweet));
            Some(Due { id, unused })
        };
        ids.into_iter().filter_map(give_up).collect()
    }

    fn settle(&mut self, tweets: &Tweets, done: &[Due], before_ms: u64) {
        for due in done {
            let Some(row) = self.0.get_mut(&due.id) else { continue };
            if due.unused && row.row.expires_at_ms <= before_ms {
                self.0.remove(&due.id);
            } else if due.unused {
                row.due_at_ms = Some(row.row.expires_at_ms);
            } else if !row.row.tweet.is_some_and(|tweet| tweets.is_deleted(tweet)) {
                row.due_at_ms = None;
            }
        }
    }
}

/// Uploads at one node.
pub(super) struct SimMedia(pub(super) Link);

#[async_trait]
impl MediaStore for SimMedia {
    async fn begin(&self, new: &NewUpload, unused_max: u64) -> Outcome<Begun> {
        let new = *new;
        let begin = move |state: &mut State, _| Ok(state.uploads.begin(&new, unused_max));
        self.0.write("begin", new.id, begin).await
    }

    async fn find(&self, ids: &[MediaId]) -> Read<Vec<Option<UploadRow>>> {
        let look = |state: &mut State, _| {
            let row = |id: &MediaId| state.uploads.0.get(id).filter(|row| !row.given_up);
            Ok(ids.iter().map(|id| row(id).map(|row| row.row)).collect())
        };
        self.0.read("find", ids, look).await
    }

    async fn checked(&self, id: MediaId, shape: MediaShape) -> Outcome<bool> {
        let check = move |state: &mut State, _| Ok(state.uploads.checked(id, shape));
        self.0.write("checked", (id, shape), check).await
    }

    async fn due(&self, before_ms: u64, limit: usize) -> Outcome<Vec<Due>> {
        let due = move |state: &mut State, _| {
            let State { uploads, tweets, .. } = state;
            Ok(uploads.due(tweets, before_ms, limit))
        };
        self.0.write("due", (before_ms, limit), due).await
    }

    async fn settle(&self, done: &[Due], before_ms: u64) -> Outcome<()> {
        let asked = done.to_vec();
        let settle = move |state: &mut State, _| {
            let State { uploads, tweets, .. } = state;
            uploads.settle(tweets, &asked, before_ms);
            Ok(())
        };
        self.0.write("settle", (done, before_ms), settle).await
    }
}

/// Bytes of pictures. A version is the number of the upload.
#[derive(Default)]
pub(super) struct Blobs {
    uploaded: BTreeMap<MediaId, (u64, Bytes)>,
    published: BTreeMap<MediaId, (u64, Bytes)>,
    uploads: u64,
}

impl Blobs {
    /// What a client does with its signed URL.
    pub(super) fn upload(&mut self, id: MediaId, bytes: Bytes) {
        self.uploads += 1;
        self.uploaded.insert(id, (self.uploads, bytes));
    }

    /// What everybody gets.
    pub(super) fn picture(&self, id: MediaId) -> Option<Bytes> {
        self.published.get(&id).map(|(_, bytes)| bytes.clone())
    }

    fn look(&self, id: MediaId) -> Option<Seen> {
        let published = self.published.get(&id);
        let (version, bytes) = published.or_else(|| self.uploaded.get(&id))?;
        Some(Seen {
            published: published.is_some(),
            version: version.to_string(),
            bytes: bytes.len() as u64,
            head: bytes.slice(..bytes.len().min(HEAD_MAX)),
        })
    }

    fn publish(&mut self, id: MediaId, version: &str) -> bool {
        let found = self.uploaded.get(&id).filter(|(own, _)| own.to_string() == version);
        match found {
            Some(found) if !self.published.contains_key(&id) => {
                self.published.insert(id, found.clone());
                true
            }
            _ => false,
        }
    }
}

/// Bytes of pictures as one node reaches them.
pub(super) struct SimBlobs(pub(super) Link);

#[async_trait]
impl BlobStore for SimBlobs {
    async fn presign(
        &self,
        id: MediaId,
        kind: MediaKind,
        bytes: u64,
        _ttl: Duration,
    ) -> Read<Presigned> {
        // Nothing is called for it.
        let headers = vec![("content-type", kind.as_str().to_owned())];
        Ok(Presigned { url: format!("up/{id}?bytes={bytes}"), headers })
    }

    async fn look(&self, id: MediaId) -> Read<Option<Seen>> {
        self.0.read("look", id, |state: &mut State, _| Ok(state.blobs.look(id))).await
    }

    async fn publish(&self, id: MediaId, version: &str, _kind: MediaKind) -> Outcome<bool> {
        let version = version.to_owned();
        let publish = move |state: &mut State, _| Ok(state.blobs.publish(id, &version));
        self.0.write("publish", id, publish).await
    }

    async fn remove(&self, id: MediaId, published: bool) -> Outcome<()> {
        let remove = move |state: &mut State, _| {
            state.blobs.uploaded.remove(&id);
            if published {
                state.blobs.published.remove(&id);
            }
            Ok(())
        };
        self.0.write("remove", (id, published), remove).await
    }
}
