//! What checkers may look at: the state behind the ports.

use super::{OutboxView, TweetRow, World};
use crate::{
    domain::{PairChange, TweetId, UserId, fanout::Class},
    ports::{Account, Queue, StoredBody},
};

/// What is still under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Rows of the user role's outbox that are not sent.
    pub user_outbox: u64,
    /// Rows of the tweet role's outbox that are not sent.
    pub tweet_outbox: u64,
    /// Messages that wait, delayed ones included.
    pub depth: u64,
    /// Messages that were received and not acknowledged.
    pub in_flight: u64,
    /// Parked messages.
    pub parked: u64,
    /// Calls that take effect after their caller gave up.
    pub late: u64,
}

impl Pending {
    /// Whether nothing is under way but what is parked.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        self.user_outbox + self.tweet_outbox + self.depth + self.in_flight + self.late == 0
    }
}

impl World {
    /// What is still under way.
    #[must_use]
    pub fn pending(&self) -> Pending {
        self.with(|state, now| {
            let mut pending = Pending {
                user_outbox: state.user_outbox.unsent(),
                tweet_outbox: state.tweet_outbox.unsent(),
                late: state.late.len() as u64,
                ..Pending::default()
            };
            for queue in Queue::ALL {
                let stats = state.bus.stats(queue, now);
                pending.depth += stats.depth;
                pending.in_flight += stats.in_flight;
                pending.parked += stats.parked;
            }
            pending
        })
    }

    /// All accounts, by id.
    #[must_use]
    pub fn accounts(&self) -> Vec<Account> {
        self.with(|state, _| state.users.accounts.values().map(|u| u.account.clone()).collect())
    }

    /// All pairs that ever changed, as the user role has them.
    #[must_use]
    pub fn pairs(&self) -> Vec<PairChange> {
        self.with(|state, _| state.graph.pairs.values().copied().collect())
    }

    /// All tweets, deleted ones included, as the tweet role has them, by id.
    #[must_use]
    pub fn tweet_rows(&self) -> Vec<TweetRow> {
        self.with(|state, _| state.tweets.rows.values().cloned().collect())
    }

    /// The user role's outbox, sent rows included, by number.
    #[must_use]
    pub fn user_events(&self) -> Vec<OutboxView> {
        self.with(|state, _| state.user_outbox.view())
    }

    /// The tweet role's outbox, sent rows included, by number.
    #[must_use]
    pub fn tweet_events(&self) -> Vec<OutboxView> {
        self.with(|state, _| state.tweet_outbox.view())
    }

    /// A tweet as the timeline role's store has it.
    #[must_use]
    pub fn stored_body(&self, id: TweetId) -> Option<StoredBody> {
        self.with(|state, _| state.store.body(id))
    }

    /// The class of an author in the timeline role's store.
    #[must_use]
    pub fn class(&self, author: UserId) -> Class {
        self.with(|state, _| state.store.author(author).class)
    }
}
