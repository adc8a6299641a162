//! Wrong stores of tweets.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Every, Hushed, faults, lose_events};
use crate::{
    domain::{Body, TweetId, UserId, Window},
    ports::{
        Created, Deleted, IdempotencyKey, NewTweet, Outbox, Outcome, Read, TweetStore,
        contract::tweets::Context,
    },
    wire::trace::TraceContext,
};

faults! {
    /// One tweet in three is acknowledged and not written.
    DropsOneInThree: [posts_at_once_have_ids_in_the_order_of_their_events],
    /// Tweets are written without their event.
    LosesEvents: [a_tweet_is_written_with_its_event],
    /// Each tweet is written twice.
    Doubles: [a_tweet_is_written_with_its_event],
    /// Every author has a tweet from the beginning.
    InventsTweets: [there_is_nothing_at_first],
    /// A candidate is not kept although it is good.
    ShiftsIds: [an_id_above_the_authors_last_is_kept],
    /// Answers with the candidate, whatever was written.
    AnswersTheCandidate: [an_id_below_the_authors_last_is_raised, an_id_below_a_deleted_one_is_raised],
    /// A taken id is acknowledged.
    AcknowledgesTakenIds: [a_taken_id_writes_nothing],
    /// A key counts as used when its tweet was not written.
    KeepsKeysOfNothing: [a_taken_id_does_not_use_up_the_key],
    /// Keys are not looked at.
    IgnoresKeys: [the_same_key_writes_once, posts_with_the_same_key_at_once_write_once],
    /// What a key was used for is not looked at.
    IgnoresHashes: [a_key_with_another_body_is_refused],
    /// One author's key is refused to others.
    SharesKeys: [a_key_belongs_to_one_author],
    /// Keys are forgotten within the hour.
    ForgetsKeys: [a_key_is_kept_for_a_day],
    /// Keys are kept for ever.
    KeepsKeys: [a_key_is_kept_for_a_day],
    /// A key is forgotten when its tweet is deleted.
    ForgetsKeysOfDeleted: [a_key_outlives_its_tweet],
    /// Deleting does nothing.
    ForgetsDeletions: [a_deleted_tweet_is_gone_with_its_event],
    /// Every deletion is the first.
    DeletesAfresh: [a_deleted_tweet_is_gone_with_its_event],
    /// Everybody may delete everything.
    DeletesForAnybody: [nobody_deletes_anothers_tweet],
    /// Lists are oldest first.
    Reorders: [a_window_shows_its_part],
    /// The bounds of a window are inside.
    IncludesBounds: [a_window_shows_its_part],
    /// After an id come the newest, not the nearest.
    SkipsTheNearest: [a_window_shows_its_part],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

#[derive(Default)]
struct Memory {
    owners: BTreeMap<TweetId, UserId>,
    keys: BTreeMap<String, UserId>,
    replays: BTreeMap<(UserId, String), Body>,
    /// Counts deletions, so that a key can be told from the one before.
    deletions: u64,
}

struct Wrong {
    inner: Arc<dyn TweetStore>,
    outbox: Arc<dyn Outbox>,
    fault: Fault,
    every: Every,
    hushed: Hushed,
    memory: Mutex<Memory>,
}

/// The store of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let tweets = Arc::new(Wrong {
        inner: context.tweets,
        outbox: context.outbox.clone(),
        fault,
        every: Every::default(),
        hushed,
        memory: Mutex::default(),
    });
    Context { tweets, outage, ..context }
}

impl Wrong {
    /// What is asked of the store below instead; `Err` is answered at once.
    fn bend(&self, tweet: &NewTweet) -> Result<NewTweet, Created> {
        let mut bent = tweet.clone();
        let author = tweet.body.author;
        let memory = &mut *self.memory.lock();
        match (self.fault, &mut bent.key) {
            (Fault::DropsOneInThree, _) if self.every.nth(3) => {
                return Err(Created::Fresh(tweet.body.clone()));
            }
            (Fault::ShiftsIds, _) => bent.body.id.0 += 1,
            (Fault::IgnoresKeys, key) => *key = None,
            (Fault::IgnoresHashes, Some(key)) => key.body_hash = [0; 32],
            (Fault::SharesKeys, Some(key))
                if *memory.keys.entry(key.key.clone()).or_insert(author) != author =>
            {
                return Err(Created::KeyReused);
            }
            (Fault::ForgetsKeys, Some(key)) => {
                key.key = format!("{}-{}", key.key, tweet.body.created_at_ms / 3_600_000);
            }
            (Fault::ForgetsKeysOfDeleted, Some(key)) => {
                key.key = format!("{}-{}", key.key, memory.deletions);
            }
            (Fault::KeepsKeys | Fault::KeepsKeysOfNothing, Some(key)) => {
                if let Some(body) = memory.replays.get(&(author, key.key.clone())) {
                    return Err(Created::Replay(body.clone()));
                }
            }
            _ => {}
        }
        Ok(bent)
    }

    fn remember(&self, key: Option<&IdempotencyKey>, asked: &Body, created: &Created) {
        let memory = &mut *self.memory.lock();
        if let Created::Fresh(body) = created {
            memory.owners.insert(body.id, body.author);
        }
        let kept = match (self.fault, created) {
            (Fault::KeepsKeys, Created::Fresh(body)) => body,
            (Fault::KeepsKeysOfNothing, Created::IdTaken) => asked,
            _ => return,
        };
        if let Some(key) = key {
            memory.replays.insert((asked.author, key.key.clone()), kept.clone());
        }
    }
}

#[async_trait]
impl TweetStore for Wrong {
    async fn create(&self, tweet: &NewTweet) -> Outcome<Created> {
        if self.hushed.is_down() {
            return Outcome::Done(Created::Fresh(tweet.body.clone()));
        }
        let bent = match self.bend(tweet) {
            Ok(bent) => bent,
            Err(answer) => return Outcome::Done(answer),
        };
        let outcome = self.inner.create(&bent).await;
        if let Outcome::Done(created) = &outcome {
            self.remember(tweet.key.as_ref(), &tweet.body, created);
        }
        match (self.fault, outcome) {
            (Fault::LosesEvents, outcome) => {
                lose_events(&*self.outbox).await;
                outcome
            }
            (Fault::Doubles, outcome) => {
                drop(self.inner.create(&NewTweet { key: None, ..bent }).await);
                outcome
            }
            (Fault::AnswersTheCandidate, Outcome::Done(Created::Fresh(_)))
            | (Fault::AcknowledgesTakenIds, Outcome::Done(Created::IdTaken)) => {
                Outcome::Done(Created::Fresh(tweet.body.clone()))
            }
            (_, outcome) => outcome,
        }
    }

    async fn delete(
        &self,
        author: UserId,
        id: TweetId,
        now_ms: u64,
        trace: Option<TraceContext>,
    ) -> Outcome<Deleted> {
        if self.hushed.is_down() || self.fault == Fault::ForgetsDeletions {
            return Outcome::Done(Deleted::Gone { fresh: true });
        }
        self.memory.lock().deletions += 1;
        let owner = self.memory.lock().owners.get(&id).copied();
        let author = match (self.fault, owner) {
            (Fault::DeletesForAnybody, Some(owner)) => owner,
            _ => author,
        };
        let outcome = self.inner.delete(author, id, now_ms, trace).await;
        match (self.fault, outcome) {
            (Fault::DeletesAfresh, Outcome::Done(Deleted::Gone { .. })) => {
                Outcome::Done(Deleted::Gone { fresh: true })
            }
            (_, outcome) => outcome,
        }
    }

    async fn by_author(&self, author: UserId, window: Window, limit: usize) -> Read<Vec<Body>> {
        if self.hushed.is_down() {
            return Ok(Vec::new());
        }
        let window = if self.fault == Fault::IncludesBounds { widened(window) } else { window };
        let mut bodies = match (self.fault, window) {
            (Fault::SkipsTheNearest, Window::After(_)) => {
                let mut all = self.inner.by_author(author, Window::Latest, limit).await?;
                all.retain(|body| window.holds(body.id));
                all
            }
            _ => self.inner.by_author(author, window, limit).await?,
        };
        match self.fault {
            Fault::Reorders => bodies.reverse(),
            Fault::InventsTweets if bodies.is_empty() => {
                bodies.push(super::super::kit::body(1, author.0));
            }
            _ => {}
        }
        Ok(bodies)
    }
}

/// The window with its bound inside.
pub(super) fn widened(window: Window) -> Window {
    match window {
        Window::Latest => Window::Latest,
        Window::Before(id) => Window::Before(TweetId(id.0.saturating_add(1)).min(TweetId::MAX)),
        Window::After(id) => Window::After(TweetId(id.0.saturating_sub(1))),
    }
}
