//! Wrong stores of uploads.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Hushed, faults};
use crate::{
    domain::{Body, MediaId, MediaList, MediaShape, TweetId, UserId, Window},
    ports::{
        Begun, Created, Deleted, Due, MediaStore, NewTweet, NewUpload, Outcome, Read, TweetStore,
        Unfit, UploadRow, contract::media::Context,
    },
    wire::trace::TraceContext,
};

faults! {
    /// A promise is acknowledged and not written.
    ForgetsPromises: [an_upload_is_found_as_it_was_promised],
    /// A promise that comes again is refused.
    RefusesRepeats: [a_repeated_promise_changes_nothing],
    /// Nothing is counted.
    AllowsAll: [unused_uploads_are_counted_for_each_owner, promises_at_once_are_all_counted],
    /// All owners share one count.
    SharesCounts: [unused_uploads_are_counted_for_each_owner],
    /// What was checked last counts.
    BelievesTheLast: [what_was_checked_first_stands],
    /// Everything can be checked.
    ChecksNothing: [what_was_checked_first_stands],
    /// A tweet is written without its pictures.
    DropsPictures: [a_tweet_shows_its_uploads_in_its_order],
    /// The last picture comes first.
    Reorders: [a_tweet_shows_its_uploads_in_its_order],
    /// What a tweet cannot show is left out.
    LeavesOut: [a_tweet_with_an_unfit_upload_writes_nothing],
    /// An upload is shown by every tweet that wants it.
    UsesTwice: [an_upload_goes_to_one_of_two_tweets_at_once],
    /// Uploads are looked at before the key.
    LooksFirst: [a_repeated_post_is_answered_before_its_uploads],
    /// Nothing is ever due.
    KeepsAll: [an_unused_upload_is_due_when_it_expires_and_given_up, an_upload_that_is_shown_is_due_once,
        the_uploads_of_a_deleted_tweet_are_due],
    /// All is due at once.
    HurriesAll: [an_unused_upload_is_due_when_it_expires_and_given_up],
    /// What is due is told once.
    TellsOnce: [an_unused_upload_is_due_when_it_expires_and_given_up],
    /// What a tweet shows is removed too.
    RemovesShown: [an_upload_that_is_shown_is_due_once],
    /// What a deleted tweet showed is kept.
    KeepsDeleted: [the_uploads_of_a_deleted_tweet_are_due],
    /// Nothing is settled.
    SettlesNothing: [an_unused_upload_is_due_when_it_expires_and_given_up],
    /// A settlement counts for what came since.
    SettlesTooMuch: [a_deletion_during_a_settlement_is_not_forgotten],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

struct Wrong {
    media: Arc<dyn MediaStore>,
    tweets: Arc<dyn TweetStore>,
    fault: Fault,
    hushed: Hushed,
    /// Promises, each with what was checked last.
    memory: Mutex<BTreeMap<MediaId, Option<MediaShape>>>,
}

/// The stores of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let (media, tweets) = (context.media, context.tweets);
    let wrong = Arc::new(Wrong { media, tweets, fault, hushed, memory: Mutex::default() });
    Context { media: wrong.clone(), tweets: wrong, outage, ..context }
}

#[async_trait]
impl MediaStore for Wrong {
    async fn begin(&self, new: &NewUpload, unused_max: u64) -> Outcome<Begun> {
        if self.hushed.is_down() || self.fault == Fault::ForgetsPromises {
            return Outcome::Done(Begun::Begun);
        }
        let known = self.memory.lock().len() as u64;
        let repeated = self.memory.lock().contains_key(&new.id);
        let refused = match self.fault {
            Fault::RefusesRepeats => repeated,
            Fault::SharesCounts => !repeated && known >= unused_max,
            _ => false,
        };
        if refused {
            return Outcome::Done(Begun::TooMany);
        }
        self.memory.lock().insert(new.id, None);
        let most = if self.fault == Fault::AllowsAll { u64::MAX } else { unused_max };
        self.media.begin(new, most).await
    }

    async fn find(&self, ids: &[MediaId]) -> Read<Vec<Option<UploadRow>>> {
        if self.hushed.is_down() {
            return Ok(vec![None; ids.len()]);
        }
        let mut rows = self.media.find(ids).await?;
        if self.fault == Fault::BelievesTheLast {
            for (id, row) in ids.iter().zip(&mut rows) {
                if let (Some(row), Some(last)) = (row, self.memory.lock().get(id)) {
                    row.shape = *last;
                }
            }
        }
        Ok(rows)
    }

    async fn checked(&self, id: MediaId, shape: MediaShape) -> Outcome<bool> {
        if self.hushed.is_down() {
            return Outcome::Done(true);
        }
        self.memory.lock().insert(id, Some(shape));
        let checked = self.media.checked(id, shape).await;
        checked.map(|known| known || self.fault == Fault::ChecksNothing)
    }

    async fn due(&self, before_ms: u64, limit: usize) -> Outcome<Vec<Due>> {
        if self.hushed.is_down() || self.fault == Fault::KeepsAll {
            return Outcome::Done(Vec::new());
        }
        let before_ms = if self.fault == Fault::HurriesAll { u64::MAX } else { before_ms };
        let due = self.media.due(before_ms, limit).await;
        if let (Fault::TellsOnce, Outcome::Done(due)) = (self.fault, &due) {
            drop(self.media.settle(due, before_ms).await);
        }
        due.map(|mut due| {
            for one in &mut due {
                one.unused |= self.fault == Fault::RemovesShown;
                one.unused &= self.fault != Fault::KeepsDeleted;
            }
            due
        })
    }

    async fn settle(&self, done: &[Due], before_ms: u64) -> Outcome<()> {
        if self.hushed.is_down() || self.fault == Fault::SettlesNothing {
            return Outcome::Done(());
        }
        let mut done = done.to_vec();
        if self.fault == Fault::SettlesTooMuch {
            for due in &mut done {
                due.unused = true;
            }
        }
        self.media.settle(&done, before_ms).await
    }
}

#[async_trait]
impl TweetStore for Wrong {
    async fn create(&self, tweet: &NewTweet) -> Outcome<Created> {
        let mut bent = tweet.clone();
        match self.fault {
            Fault::DropsPictures => bent.media.clear(),
            Fault::Reorders => bent.media.reverse(),
            Fault::LooksFirst => {
                let rows = self.media.find(&tweet.media).await.unwrap_or_default();
                if rows.iter().flatten().any(|row| row.tweet.is_some()) {
                    return Outcome::Done(Created::Unfit(tweet.media[0], Unfit::Used));
                }
            }
            _ => {}
        }
        let created = self.tweets.create(&bent).await;
        let Outcome::Done(Created::Unfit(_, why)) = &created else { return created };
        match self.fault {
            Fault::LeavesOut => self.tweets.create(&NewTweet { media: Vec::new(), ..bent }).await,
            Fault::UsesTwice if *why == Unfit::Used => {
                let media = MediaList::default();
                Outcome::Done(Created::Fresh(Body { media, ..bent.body }))
            }
            _ => created,
        }
    }

    async fn delete(
        &self,
        author: UserId,
        id: TweetId,
        now_ms: u64,
        trace: Option<TraceContext>,
    ) -> Outcome<Deleted> {
        self.tweets.delete(author, id, now_ms, trace).await
    }

    async fn by_author(&self, author: UserId, window: Window, limit: usize) -> Read<Vec<Body>> {
        self.tweets.by_author(author, window, limit).await
    }
}
