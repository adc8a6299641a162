//! Pictures: the promise of an upload, the look at its bytes when a tweet uses it, and the end of what
//! no tweet shows.
//!
//! A client sends bytes to the store by itself, so nothing is known of them but what is found when a
//! tweet names them. Then they are looked at, published under a name that nobody can write to, and
//! given to the tweet in the tweet's own transaction. Whatever stops on the way is swept.

use std::sync::Arc;

use crate::{
    domain::{MediaId, MediaKind, MediaShape, UserId},
    ports::{
        Begun, BlobStore, Due, MediaStore, NewUpload, Outcome, Seen, StoreError, Unfit, UploadRow,
        outcome::twice,
    },
    services::kit::{Code, Common, Fault},
    wire::api::{Media, Upload},
};

/// How often one upload is looked at for one tweet: each further time somebody else was faster, or
/// sent other bytes.
const LOOKS: usize = 3;
/// Uploads that one step of a sweep removes.
const SWEEP_BATCH: usize = 100;
/// Steps of one sweep: what is left waits for the next.
const SWEEP_STEPS: usize = 100;

/// Pictures.
pub(super) struct Uploads {
    common: Common,
    store: Arc<dyn MediaStore>,
    blobs: Arc<dyn BlobStore>,
}

impl Uploads {
    pub(super) fn new(
        common: Common,
        store: Arc<dyn MediaStore>,
        blobs: Arc<dyn BlobStore>,
    ) -> Self {
        Self { common, store, blobs }
    }

    /// Promises an upload to `owner`.
    pub(super) async fn begin(
        &self,
        owner: UserId,
        kind: &str,
        bytes: u64,
    ) -> Result<Media, Fault> {
        let (rt, config) = (&self.common.rt, &self.common.config.media);
        let kind = MediaKind::parse(kind).ok_or_else(|| {
            Fault::field("content_type", "jpeg, png, webp and gif are taken, as image/...")
        })?;
        if !(1..=config.bytes_max).contains(&bytes) {
            let why = format!("a picture has 1 to {} bytes", config.bytes_max);
            return Err(Fault::field("bytes", why));
        }
        let mut random = [0; 16];
        rt.fill(&mut random);
        let (id, now_ms) = (MediaId(u128::from_le_bytes(random)), rt.wall_ms());
        let expires_at_ms = now_ms + config.upload_ttl_s * 1_000;
        let new = NewUpload { id, owner, now_ms, expires_at_ms };
        // Before the upload is written down, which counts it.
        let signed = self.blobs.presign(id, kind, bytes, config.upload_ttl()).await?;
        let (begun, _) = twice(|| self.store.begin(&new, config.uploads_per_user)).await;
        match begun {
            Outcome::Done(Begun::Begun) => {}
            Outcome::Done(Begun::TooMany) => {
                let most = config.uploads_per_user;
                let why = format!("{most} uploads wait for a tweet");
                // By then the oldest has ended; when it began is not asked.
                let ended = config.upload_ttl();
                return Err(Fault::from(Code::RateLimited).detail(why).retry_after(ended));
            }
            // One that was written down all the same is swept.
            Outcome::Failed(error) | Outcome::Unknown(error) => return Err(error.into()),
        }
        let headers = signed.headers.into_iter().map(|(name, value)| (name.to_owned(), value));
        let upload =
            Upload { url: signed.url, method: "PUT".to_owned(), headers: headers.collect() };
        Ok(Media { media_id: id, upload, expires_at_ms })
    }

    /// Looks at those of `author`'s uploads that nobody has looked at yet. Whether a tweet can use them
    /// is decided in its transaction, which knows of earlier ones.
    pub(super) async fn check(&self, author: UserId, ids: &[MediaId]) -> Result<(), Fault> {
        if ids.is_empty() {
            return Ok(());
        }
        let rows = self.store.find(ids).await?;
        let now_ms = self.common.rt.wall_ms();
        for (&id, row) in ids.iter().zip(&rows) {
            if UploadRow::fit(row.as_ref(), author, now_ms) == Err(Unfit::Unchecked) {
                self.check_one(id).await?;
            }
        }
        Ok(())
    }

    async fn check_one(&self, id: MediaId) -> Result<(), Fault> {
        for _ in 0..LOOKS {
            let Some(seen) = self.blobs.look(id).await? else {
                return Err(unfit(id, Unfit::Unchecked));
            };
            let shape = self.judge(id, &seen)?;
            if !seen.published {
                match self.blobs.publish(id, &seen.version, shape.kind).await {
                    Outcome::Done(true) => {}
                    Outcome::Failed(error) => return Err(error.into()),
                    // What is there now is looked at.
                    Outcome::Done(false) | Outcome::Unknown(_) => continue,
                }
            }
            let (checked, _) = twice(|| self.store.checked(id, shape)).await;
            // One that was given up meanwhile is refused by the transaction.
            return checked.certain().map(drop).map_err(Fault::from);
        }
        Err(Fault::from(Code::Unavailable).detail(format!("picture {id} keeps changing")))
    }

    /// What the bytes are, or why they are not taken.
    fn judge(&self, id: MediaId, seen: &Seen) -> Result<MediaShape, Fault> {
        let config = &self.common.config.media;
        let refused = |why: String| {
            Err(Fault::from(Code::MediaRefused).detail(format!("picture {id} {why}")))
        };
        if seen.bytes > config.bytes_max {
            return refused(format!("has {} bytes, at most {}", seen.bytes, config.bytes_max));
        }
        let Some(kind) = MediaKind::of_bytes(&seen.head) else {
            return refused("is no jpeg, png, webp or gif".to_owned());
        };
        let Ok(found) = imagesize::blob_size(&seen.head) else {
            return refused("does not say how large it is".to_owned());
        };
        let (width, height) = (found.width as u64, found.height as u64);
        let sides = 1..=config.side_max.min(u64::from(u32::MAX));
        let within = sides.contains(&width) && sides.contains(&height);
        if !within || width * height > config.pixels_max {
            let (side, pixels) = (config.side_max, config.pixels_max);
            return refused(format!("is {width}x{height}, at most {side} a side, {pixels} in all"));
        }
        Ok(MediaShape { kind, width: width as u32, height: height as u32 })
    }

    /// Sweeps until the role stops.
    pub(super) async fn run(self: Arc<Self>) {
        let common = &self.common;
        let forever = async {
            loop {
                common.rt.sleep(common.config.media.sweep()).await;
                self.sweep().await;
            }
        };
        common.shutdown.run_until_cancelled(forever).await;
    }

    /// Removes what no tweet shows (any more). Every step may be repeated, also by other replicas.
    async fn sweep(&self) {
        let before_ms = self.common.rt.wall_ms().saturating_sub(self.common.config.media.grace_ms);
        for _ in 0..SWEEP_STEPS {
            let due = match self.store.due(before_ms, SWEEP_BATCH).await.certain() {
                Ok(due) => due,
                Err(error) => return self.complain("uploads could not be listed", &error),
            };
            let mut gone: Vec<Due> = Vec::with_capacity(due.len());
            for one in &due {
                match self.blobs.remove(one.id, one.unused).await.certain() {
                    Ok(()) => gone.push(*one),
                    Err(error) => self.complain("a picture could not be removed", &error),
                }
            }
            if let Err(error) = self.store.settle(&gone, before_ms).await.certain() {
                return self.complain("removed pictures could not be forgotten", &error);
            }
            if due.len() < SWEEP_BATCH || gone.is_empty() {
                return;
            }
        }
    }

    fn complain(&self, what: &'static str, error: &StoreError) {
        self.common.metrics.store_error(error);
        tracing::warn!(%error, "{what}");
    }
}

/// Why a tweet cannot show an upload, as an answer.
pub(super) fn unfit(id: MediaId, why: Unfit) -> Fault {
    let (code, why) = match why {
        Unfit::Unknown => (Code::MediaUnknown, "is no upload of yours"),
        Unfit::Expired => (Code::MediaExpired, "came too late"),
        Unfit::Unchecked => (Code::MediaNotUploaded, "was not sent yet"),
        Unfit::Used => (Code::MediaUsed, "is shown by another tweet"),
    };
    Fault::from(code).detail(format!("picture {id} {why}"))
}
