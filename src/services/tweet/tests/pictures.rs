//! Scenarios of pictures, and the fakes under them.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::{Mem, Tweets, id};
use crate::{
    domain::{MediaId, MediaKind, MediaList, MediaRef, MediaShape},
    ports::{
        Begun, BlobStore, Due, MediaStore, NewTweet, NewUpload, Outcome, Presigned, Read, Seen,
        Unfit, UploadRow, blobs::HEAD_MAX,
    },
    services::kit::fakes::{Answer, Plan, World, Wrong},
};

/// Uploads in memory, with whether each was given up.
#[derive(Default)]
pub(super) struct Table {
    rows: Mutex<BTreeMap<MediaId, (UploadRow, bool)>>,
    due: Mutex<Vec<Due>>,
}

impl Table {
    pub(super) fn take(&self, new: &NewTweet) -> Result<MediaList, (MediaId, Unfit)> {
        let mut rows = self.rows.lock();
        let mut pictures = Vec::new();
        for &id in &new.media {
            let row = rows.get(&id).filter(|(_, given_up)| !given_up).map(|(row, _)| row);
            let shape = UploadRow::fit(row, new.body.author, new.body.created_at_ms);
            pictures.push(MediaRef { id, shape: shape.map_err(|why| (id, why))? });
        }
        for picture in &pictures {
            if let Some((row, _)) = rows.get_mut(&picture.id) {
                row.tweet = Some(new.body.id);
            }
        }
        Ok(MediaList::new(pictures).unwrap())
    }
}

#[async_trait]
impl MediaStore for Mem {
    async fn begin(&self, new: &NewUpload, unused_max: u64) -> Outcome<Begun> {
        self.plan.write(|| {
            let mut rows = self.uploads.rows.lock();
            let own = rows.iter().filter(|(id, (row, _))| {
                row.owner == new.owner && row.tweet.is_none() && **id != new.id
            });
            if own.count() as u64 >= unused_max {
                return Begun::TooMany;
            }
            let NewUpload { owner, expires_at_ms, .. } = *new;
            let row = UploadRow { owner, expires_at_ms, shape: None, tweet: None };
            rows.entry(new.id).or_insert((row, false));
            Begun::Begun
        })
    }

    async fn find(&self, ids: &[MediaId]) -> Read<Vec<Option<UploadRow>>> {
        let rows = self.uploads.rows.lock();
        Ok(ids.iter().map(|id| rows.get(id).map(|(row, _)| *row)).collect())
    }

    async fn checked(&self, id: MediaId, shape: MediaShape) -> Outcome<bool> {
        self.plan.write(|| {
            let mut rows = self.uploads.rows.lock();
            rows.get_mut(&id).map(|(row, _)| row.shape.get_or_insert(shape)).is_some()
        })
    }

    async fn due(&self, before_ms: u64, limit: usize) -> Outcome<Vec<Due>> {
        self.plan.write(|| {
            let mut rows = self.uploads.rows.lock();
            let over = rows.iter_mut().filter(|(_, (row, _))| row.expires_at_ms <= before_ms);
            let due = over.map(|(&id, (row, given_up))| {
                *given_up |= row.tweet.is_none();
                Due { id, unused: row.tweet.is_none() }
            });
            due.take(limit).collect()
        })
    }

    async fn settle(&self, done: &[Due], _before_ms: u64) -> Outcome<()> {
        self.plan.write(|| {
            for due in done {
                self.uploads.rows.lock().remove(&due.id);
                self.uploads.due.lock().push(*due);
            }
        })
    }
}

/// Bytes of pictures: uploaded and published.
#[derive(Default)]
pub(super) struct Album {
    uploaded: Mutex<BTreeMap<MediaId, Bytes>>,
    published: Mutex<BTreeMap<MediaId, Bytes>>,
    /// What somebody sends between the look and the publication.
    meanwhile: Mutex<Option<Bytes>>,
    looks: Mutex<usize>,
    plan: Plan,
}

#[async_trait]
impl BlobStore for Album {
    async fn presign(
        &self,
        id: MediaId,
        kind: MediaKind,
        bytes: u64,
        ttl: Duration,
    ) -> Read<Presigned> {
        let url = format!("up/{id}?{bytes}&{}", ttl.as_secs());
        Ok(Presigned { url, headers: vec![("content-type", kind.as_str().to_owned())] })
    }

    async fn look(&self, id: MediaId) -> Read<Option<Seen>> {
        *self.looks.lock() += 1;
        let published = self.published.lock().get(&id).cloned();
        let uploaded = self.uploaded.lock().get(&id).cloned();
        if let Some(bytes) = self.meanwhile.lock().take() {
            self.uploaded.lock().insert(id, bytes);
        }
        let seen = |published: bool, bytes: Bytes| Seen {
            published,
            version: format!("{bytes:?}"),
            bytes: bytes.len() as u64,
            head: bytes.slice(..bytes.len().min(HEAD_MAX)),
        };
        let upload = uploaded.map(|bytes| seen(false, bytes));
        Ok(published.map(|bytes| seen(true, bytes)).or(upload))
    }

    async fn publish(&self, id: MediaId, version: &str, _kind: MediaKind) -> Outcome<bool> {
        self.plan.write(|| {
            let found = self.uploaded.lock().get(&id).cloned();
            let Some(bytes) = found.filter(|bytes| format!("{bytes:?}") == version) else {
                return false;
            };
            let mut published = self.published.lock();
            !published.contains_key(&id) && published.insert(id, bytes).is_none()
        })
    }

    async fn remove(&self, id: MediaId, published: bool) -> Outcome<()> {
        self.plan.write(|| {
            self.uploaded.lock().remove(&id);
            if published {
                self.published.lock().remove(&id);
            }
        })
    }
}

/// The head of a PNG of this size.
fn png(width: u32, height: u32) -> Bytes {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend(b"\x08\x06\0\0\0and the rest");
    bytes.into()
}

impl Tweets {
    async fn asks(&self, user: u64, line: &str, body: Value, headers: &[(&str, &str)]) -> Answer {
        let bearer = format!("Bearer {}", self.issuer.token(user));
        let all = [&[("authorization", bearer.as_str())], headers].concat();
        self.replica.ask(line, &all, &body.to_string()).await
    }

    async fn begins(&self, user: u64) -> MediaId {
        let body = json!({"content_type": "image/png", "bytes": 41});
        let answer = self.asks(user, "POST /media", body, &[]).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json["media_id"].as_str().unwrap().parse().unwrap()
    }

    /// User 1 sends these bytes.
    async fn uploads(&self, bytes: Bytes) -> MediaId {
        let id = self.begins(1).await;
        self.album.uploaded.lock().insert(id, bytes);
        id
    }

    async fn shows(&self, user: u64, ids: &[MediaId], headers: &[(&str, &str)]) -> Answer {
        let ids: Vec<String> = ids.iter().map(MediaId::to_string).collect();
        let body = json!({"text": "look", "media": ids});
        self.asks(user, "POST /tweets", body, headers).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_tweet_shows_what_the_bytes_of_its_pictures_say() {
    let tweets = Tweets::start().await;
    let (one, two) = (tweets.uploads(png(640, 480)).await, tweets.uploads(png(3, 5)).await);
    let answer = tweets.shows(1, &[two, one], &[]).await;
    id(&answer);
    let picture = |id: MediaId, width, height| json!({"url": format!("media/m/{id}"), "type": "image/png", "width": width, "height": height});
    assert_eq!(answer.json["media"], json!([picture(two, 3, 5), picture(one, 640, 480)]));
    assert_eq!(tweets.album.published.lock().get(&one), Some(&png(640, 480)));
    let (body, _) = tweets.mem.tweets.lock().values().next().unwrap().clone();
    assert_eq!(body.media.iter().map(|picture| picture.id).collect::<Vec<_>>(), [two, one]);
    assert!(tweets.applier.applied.lock()[0].contains(&one.to_string()), "events carry them");
}

#[tokio::test(start_paused = true)]
async fn bad_promises_are_refused_and_unused_ones_are_bounded() {
    let tweets = Tweets::start().await;
    for (body, field) in [
        (json!({"content_type": "image/svg+xml", "bytes": 9}), "content_type"),
        (json!({"content_type": "image/png", "bytes": 0}), "bytes"),
        (json!({"content_type": "image/png", "bytes": (5 << 20) + 1}), "bytes"),
        (json!({"content_type": "image/png"}), "bytes"),
    ] {
        let answer = tweets.asks(1, "POST /media", body, &[]).await;
        assert_eq!((answer.status, &answer.json["field"]), (422, &json!(field)), "{answer:?}");
    }
    for _ in 0..16 {
        tweets.begins(1).await;
    }
    let body = json!({"content_type": "image/png", "bytes": 41});
    let answer = tweets.asks(1, "POST /media", body, &[]).await;
    assert_eq!((answer.status, answer.code()), (429, "rate-limited"));
    // The oldest has surely ended by then.
    assert_eq!(answer.header("retry-after"), Some("900"));
    tweets.begins(2).await;
}

#[tokio::test(start_paused = true)]
async fn what_a_tweet_cannot_show_is_told_and_changes_nothing() {
    let tweets = Tweets::start().await;
    let good = tweets.uploads(png(1, 1)).await;
    let others = tweets.begins(2).await;
    let silent = tweets.begins(1).await;
    let mut huge = png(1, 1).to_vec();
    huge.resize((5 << 20) + 1, 0);
    let refused = [
        Bytes::from_static(b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        Bytes::from_static(b"\x89PNG\r\n\x1a\n"),
        png(8_193, 1),
        png(0, 7),
        png(8_000, 8_000),
        huge.into(),
    ];
    for bytes in refused {
        let bad = tweets.uploads(bytes).await;
        let answer = tweets.shows(1, &[good, bad], &[]).await;
        assert_eq!((answer.status, answer.code()), (422, "media-refused"), "{answer:?}");
        assert!(!tweets.album.published.lock().contains_key(&bad));
    }
    for (id, status, code) in [
        (MediaId(5), 422, "media-unknown"),
        (others, 422, "media-unknown"),
        (silent, 409, "media-not-uploaded"),
    ] {
        let answer = tweets.shows(1, &[good, id], &[]).await;
        assert_eq!((answer.status, answer.code()), (status, code), "{answer:?}");
    }
    for ids in [vec![good, good], (1..6).map(MediaId).collect()] {
        let answer = tweets.shows(1, &ids, &[]).await;
        assert_eq!((answer.status, &answer.json["field"]), (422, &json!("media")));
    }
    let body = json!({"text": "x", "media": ["../../user.db"]});
    assert_eq!(tweets.asks(1, "POST /tweets", body, &[]).await.status, 422);
    assert!(tweets.mem.tweets.lock().is_empty());
    id(&tweets.shows(1, &[good], &[]).await);
    let again = tweets.shows(1, &[good], &[]).await;
    assert_eq!((again.status, again.code()), (409, "media-used"));
    let late = tweets.uploads(png(1, 1)).await;
    tweets.world.rt.sleep(Duration::from_mins(15)).await;
    let answer = tweets.shows(1, &[late], &[]).await;
    assert_eq!((answer.status, answer.code()), (410, "media-expired"));
}

#[tokio::test(start_paused = true)]
async fn bytes_that_were_not_looked_at_are_never_published() {
    let tweets = Tweets::start().await;
    let swapped = tweets.uploads(png(1, 1)).await;
    *tweets.album.meanwhile.lock() = Some(Bytes::from_static(b"<html>"));
    let answer = tweets.shows(1, &[swapped], &[]).await;
    assert_eq!((answer.status, answer.code()), (422, "media-refused"));
    assert!(tweets.album.published.lock().is_empty());
    let swapped = tweets.uploads(png(1, 1)).await;
    *tweets.album.meanwhile.lock() = Some(png(2, 2));
    let answer = tweets.shows(1, &[swapped], &[]).await;
    assert_eq!(answer.json["media"][0]["width"], 2, "what lies there is what is told");
}

#[tokio::test(start_paused = true)]
async fn a_repeated_post_needs_no_picture_a_second_time() {
    let tweets = Tweets::start().await;
    let picture = tweets.uploads(png(1, 1)).await;
    let key = [("idempotency-key", "k")];
    let first = tweets.shows(1, &[picture], &key).await;
    let looks = *tweets.album.looks.lock();
    let again = tweets.shows(1, &[picture], &key).await;
    assert_eq!((again.status, &again.text), (201, &first.text));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(*tweets.album.looks.lock(), looks);
    let without = tweets.shows(1, &[], &key).await;
    assert_eq!((without.status, without.code()), (422, "idempotency-key-reused"));
}

#[tokio::test(start_paused = true)]
async fn a_publication_of_unknown_fate_is_looked_after() {
    for wrong in [Wrong::Applied, Wrong::Lost] {
        let tweets = Tweets::start().await;
        let picture = tweets.uploads(png(1, 1)).await;
        tweets.album.plan.next([Some(wrong)]);
        id(&tweets.shows(1, &[picture], &[]).await);
        assert_eq!(tweets.album.published.lock().get(&picture), Some(&png(1, 1)));
    }
    let tweets = Tweets::start().await;
    let picture = tweets.uploads(png(1, 1)).await;
    tweets.album.plan.next([Some(Wrong::Failed)]);
    let answer = tweets.shows(1, &[picture], &[]).await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    // Published, and then the word about it was lost, twice.
    tweets.mem.plan.next([Some(Wrong::Lost), Some(Wrong::Lost)]);
    let answer = tweets.shows(1, &[picture], &[]).await;
    assert_eq!((answer.status, answer.code()), (503, "unavailable"));
    assert!(tweets.mem.tweets.lock().is_empty());
    id(&tweets.shows(1, &[picture], &[]).await);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_no_tweet_used_is_swept_and_one_that_cannot_be_removed_comes_again() {
    let mut world = World::new();
    world.config.media.sweep_ms = 10_000;
    let tweets = Tweets::start_in(world).await;
    let (used, unused) = (tweets.uploads(png(1, 1)).await, tweets.uploads(png(2, 2)).await);
    id(&tweets.shows(1, &[used], &[]).await);
    // The stated time: 15 minutes, one of grace, and a pause of the sweep.
    tweets.world.rt.sleep(Duration::from_secs(15 * 60 + 59)).await;
    assert!(tweets.album.uploaded.lock().contains_key(&unused));
    tweets.album.plan.next([Some(Wrong::Failed), Some(Wrong::Failed)]);
    tweets.world.rt.sleep(Duration::from_secs(11)).await;
    assert!(tweets.album.uploaded.lock().contains_key(&unused), "it could not be removed");
    assert!(tweets.mem.uploads.due.lock().is_empty());
    tweets.world.rt.sleep(Duration::from_secs(10)).await;
    assert!(tweets.album.uploaded.lock().is_empty());
    assert_eq!(tweets.album.published.lock().keys().collect::<Vec<_>>(), [&used]);
    let mut settled = tweets.mem.uploads.due.lock().clone();
    settled.sort_by_key(|due| due.unused);
    assert_eq!(settled, [Due { id: used, unused: false }, Due { id: unused, unused: true }]);
    assert_eq!(tweets.shows(1, &[unused], &[]).await.code(), "media-unknown");
}
