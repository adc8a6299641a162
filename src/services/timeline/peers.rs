//! What the role asks of the other two: an author's own tweets, which the copy may not have yet, and
//! who a handle is.

use std::{
    hash::{BuildHasherDefault, DefaultHasher},
    sync::Arc,
    time::Duration,
};

use quick_cache::{UnitWeighter, sync::Cache};

use super::{error::Error, merge_store::Own};
use crate::{
    domain::{Body, Handle, TweetId, UserId, Window},
    services::kit::Calls,
    wire::{
        api::User,
        internal::{AUTHOR_TWEETS, AuthorTweets, USER_BY_HANDLE},
        routes::Role,
    },
};

/// The longest a peer is waited for; a page without it is degraded.
const PATIENCE: Duration = Duration::from_secs(2);
/// Most tweets of one call (the tweet role's bound).
const TWEETS_MAX: usize = 200;
/// Calls to find a few of an author's tweets: enough for any page of the newest 800.
const CALLS_MAX: usize = 5;
/// Handles whose users are remembered. They never change hands, so nothing goes stale.
const HANDLES_MAX: usize = 100_000;

/// Handles whose users are known; evicts in an order that depends on nothing but its use.
type Handles = Cache<Handle, UserId, UnitWeighter, BuildHasherDefault<DefaultHasher>>;

/// Calls to the other roles.
pub(super) struct Peers {
    calls: Arc<Calls>,
    handles: Handles,
}

impl Peers {
    pub(super) fn new(calls: Arc<Calls>) -> Self {
        let handles = Cache::with(
            HANDLES_MAX,
            HANDLES_MAX as u64,
            UnitWeighter,
            BuildHasherDefault::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        );
        Self { calls, handles }
    }

    /// Ids of `author`'s live tweets inside `window`, as the tweet role has them. `None` if it does
    /// not answer.
    pub(super) async fn own_tweets(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Option<Own> {
        let answer = self.author_tweets(author, window, limit).await?;
        let ids = answer.tweets.iter().map(|tweet| tweet.id).collect();
        Some(Own { ids, exhausted: answer.exhausted })
    }

    /// `author`'s own tweets among `ids` (newest first), `None` for deleted ones; `None` for all if
    /// the tweet role does not answer or they are too far apart.
    pub(super) async fn own_bodies(
        &self,
        author: UserId,
        ids: &[TweetId],
    ) -> Option<Vec<Option<Body>>> {
        let mut bodies = Vec::with_capacity(ids.len());
        for _ in 0..CALLS_MAX {
            let Some(&first) = ids.get(bodies.len()) else { break };
            let window = Window::Before(TweetId(first.0 + 1));
            let answer = self.author_tweets(author, window, TWEETS_MAX).await?;
            // What is not in it down to its end is not there at all.
            let end = answer.tweets.last().map(|tweet| tweet.id).filter(|_| !answer.exhausted);
            let reached = ids[bodies.len()..].iter().take_while(|&&id| end.is_none_or(|e| id >= e));
            for id in reached.copied().collect::<Vec<_>>() {
                let found = answer.tweets.iter().find(|tweet| tweet.id == id);
                bodies.push(found.cloned().map(Body::from));
            }
        }
        (bodies.len() == ids.len()).then_some(bodies)
    }

    async fn author_tweets(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Option<AuthorTweets> {
        let path = AUTHOR_TWEETS.replace("{author}", &author.to_string());
        let limit = limit.min(TWEETS_MAX);
        let path = match window {
            Window::Latest => format!("{path}?limit={limit}"),
            Window::Before(bound) => format!("{path}?limit={limit}&before={bound}"),
            Window::After(bound) => format!("{path}?limit={limit}&after={bound}"),
        };
        match self.calls.get::<AuthorTweets>(Role::Tweet, &path, PATIENCE).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::warn!(%error, "the tweet role could not be asked");
                None
            }
        }
    }

    /// The user with this handle.
    ///
    /// # Errors
    /// [`Error::NoUser`] if there is none, [`Error::Peer`] if the user role does not answer.
    pub(super) async fn user_of(&self, handle: &Handle) -> Result<UserId, Error> {
        if let Some(user) = self.handles.get(handle) {
            return Ok(user);
        }
        let path = USER_BY_HANDLE.replace("{handle}", handle.as_str());
        match self.calls.get::<User>(Role::User, &path, PATIENCE).await {
            Ok(Some(user)) => {
                self.handles.insert(handle.clone(), user.id);
                Ok(user.id)
            }
            Ok(None) => Err(Error::NoUser),
            Err(error) => {
                tracing::warn!(%error, "the user role could not be asked");
                Err(Error::Peer("user"))
            }
        }
    }
}
