//! Posting, deleting, and an author's own tweets.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::media::{Uploads, unfit};
use crate::{
    domain::{Body, MediaId, MediaList, TweetId, TweetText, UserId, Window, snowflake::Snowflake},
    ports::{
        Created, Deleted, Hint, HintStream, Hints, IdempotencyKey, NewTweet, Outcome, TweetStore,
        outcome::twice,
    },
    rt::points,
    services::kit::{
        Call, Caller, Calls, Code, Common, Fault, Kit, Relay,
        apply::{HIDE_BUDGET, SHOW_BUDGET, apply},
    },
    wire::{
        api::{PostedTweet, Tweet},
        events::{Event, Fact},
        internal::{AuthorTweet, AuthorTweets},
        trace::TraceContext,
    },
};

/// Candidate ids tried for one tweet.
const IDS_TRIED: usize = 8;

/// What is asked for by a post.
pub(super) struct Post {
    pub(super) text: TweetText,
    /// Uploads to show: at most 4, none twice.
    pub(super) media: Vec<MediaId>,
    pub(super) key: Option<IdempotencyKey>,
    /// Wait this long for the projection.
    pub(super) wait: Option<Duration>,
}

/// A post that is safe.
#[derive(Debug)]
pub(super) struct Posted {
    pub(super) tweet: PostedTweet,
    /// Another call with the same key wrote it.
    pub(super) replayed: bool,
    /// The wait was asked for and ended with the projection.
    pub(super) projected: bool,
}

/// Tweets.
pub(super) struct Tweets {
    common: Common,
    calls: Arc<Calls>,
    store: Arc<dyn TweetStore>,
    /// Pictures.
    pub(super) uploads: Arc<Uploads>,
    hints: Arc<dyn Hints>,
    relay: Arc<Relay>,
    ids: Mutex<Snowflake>,
}

impl Tweets {
    pub(super) fn new(
        kit: &Kit,
        store: Arc<dyn TweetStore>,
        uploads: Arc<Uploads>,
        hints: Arc<dyn Hints>,
        relay: Arc<Relay>,
    ) -> Self {
        let common = kit.common.clone();
        let ids = Mutex::new(Snowflake::new(common.replica as u16));
        Self { common, calls: Arc::clone(&kit.calls), store, uploads, hints, relay, ids }
    }

    /// The shortest time limit on the way of a post.
    pub(super) fn request_limit(&self) -> Duration {
        let config = &self.common.config;
        config.http.request_timeout().min(config.gateway.attempt_timeout())
    }

    /// Posts a tweet; it is safe when this returns `Ok`.
    pub(super) async fn post(
        &self,
        caller: &Caller,
        call: &Call,
        post: Post,
    ) -> Result<Posted, Fault> {
        let rt = &self.common.rt;
        self.uploads.check(caller.user, &post.media).await?;
        // Before the commit: a projection that ends at once must not be missed.
        let hints = match post.wait {
            Some(limit) => Some((self.hints.subscribe(caller.user).await, rt.now().plus(limit))),
            None => None,
        };
        let body = Body {
            id: TweetId(0),
            author: caller.user,
            handle: caller.handle.clone(),
            name: caller.name.clone(),
            text: post.text,
            media: MediaList::default(),
            created_at_ms: rt.wall_ms(),
        };
        let trace = Some(call.trace.clone());
        let new = NewTweet { body, media: post.media, key: post.key, trace };
        let (body, replayed) = self.create(new).await?;
        self.relay.wake();
        // Also for a replay: the first answer may have been lost before its author could read it.
        let event = Event::tweet_created(&body, Some(call.trace.clone()));
        let shown = apply(rt, &self.calls, event, SHOW_BUDGET).await;
        let projected = match hints {
            Some((hints, end)) if !replayed => {
                let left = end.since(rt.now());
                rt.timeout(left, projection(hints, body.id)).await.unwrap_or(false)
            }
            _ => false,
        };
        let tweet = PostedTweet {
            tweet: Tweet::of(&body, &self.common.config.media.base_url),
            degraded: !shown,
        };
        Ok(Posted { tweet, replayed, projected })
    }

    /// Commits a tweet. Gives it, and whether an earlier call wrote it.
    async fn create(&self, mut new: NewTweet) -> Result<(Body, bool), Fault> {
        let rt = &self.common.rt;
        let mut repeated = false;
        for _ in 0..IDS_TRIED {
            new.body.id = TweetId(self.ids.lock().next(rt.wall_ms()));
            rt.point(points::COMMIT).await;
            let outcome = if new.key.is_some() {
                let (outcome, again) = twice(|| self.store.create(&new)).await;
                repeated |= again;
                outcome
            } else {
                self.store.create(&new).await
            };
            rt.point(points::COMMIT).await;
            match outcome {
                Outcome::Done(Created::Fresh(body)) => return Ok((body, false)),
                // After a repetition it is this call that wrote it, as far as the client can tell.
                Outcome::Done(Created::Replay(body)) => return Ok((body, !repeated)),
                Outcome::Done(Created::KeyReused) => return Err(Code::KeyReused.into()),
                Outcome::Done(Created::IdTaken) => {}
                Outcome::Done(Created::Unfit(id, why)) => return Err(unfit(id, why)),
                Outcome::Failed(error) => return Err(error.into()),
                Outcome::Unknown(error) => {
                    tracing::warn!(%error, "the outcome of a post is unknown");
                    return Err(Fault::from(Code::UnknownOutcome).detail(if new.key.is_some() {
                        "retry with the same idempotency-key"
                    } else {
                        "it may have been posted; send an idempotency-key to retry safely"
                    }));
                }
            }
        }
        Err(Code::Unavailable.into())
    }

    /// Deletes a tweet of `author`. `true` once no read shows it.
    pub(super) async fn delete(
        &self,
        author: UserId,
        id: TweetId,
        trace: TraceContext,
    ) -> Result<bool, Fault> {
        let rt = &self.common.rt;
        let at_ms = rt.wall_ms();
        rt.point(points::COMMIT).await;
        let (outcome, _) =
            twice(|| self.store.delete(author, id, at_ms, Some(trace.clone()))).await;
        rt.point(points::COMMIT).await;
        match outcome {
            Outcome::Done(Deleted::Gone { .. }) => {}
            Outcome::Done(Deleted::NotOwner) => return Err(Code::NotOwner.into()),
            Outcome::Done(Deleted::Missing) => return Err(missing()),
            Outcome::Failed(error) => return Err(error.into()),
            Outcome::Unknown(error) => {
                tracing::warn!(%error, "the outcome of a delete is unknown");
                let fault = Fault::from(Code::UnknownOutcome);
                return Err(fault.detail("it may be deleted: asking again is safe"));
            }
        }
        self.relay.wake();
        // Also if it was deleted before: that call may have been answered 202.
        let event = Event { at_ms, trace: Some(trace), fact: Fact::TweetDeleted { id, author } };
        Ok(apply(rt, &self.calls, event, HIDE_BUDGET).await)
    }

    /// An author's live tweets, straight from the truth.
    pub(super) async fn by_author(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Result<AuthorTweets, Fault> {
        let mut bodies = self.store.by_author(author, window, limit + 1).await?;
        let exhausted = bodies.len() <= limit;
        if !exhausted {
            // The one too many is the farthest from where the page begins.
            match window {
                Window::After(_) => drop(bodies.remove(0)),
                Window::Latest | Window::Before(_) => bodies.truncate(limit),
            }
        }
        Ok(AuthorTweets { tweets: bodies.into_iter().map(AuthorTweet::from).collect(), exhausted })
    }
}

/// There is no such tweet.
pub(super) fn missing() -> Fault {
    Fault::from(Code::NotFound).detail("there is no such tweet")
}

/// Waits until every chain of the tweet's fan-out is done; `false` if the source has gone.
async fn projection(mut hints: Box<dyn HintStream>, id: TweetId) -> bool {
    let mut done = BTreeSet::new();
    while let Some(hint) = hints.next().await {
        if let Hint::Projected { tweet, part, parts, .. } = hint
            && tweet == id
        {
            done.insert(part);
            if done.len() >= usize::from(parts) {
                return true;
            }
        }
    }
    false
}
