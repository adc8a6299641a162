//! A broken promise, with everything that is needed to look for its cause.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    time::Duration,
};

use serde::Serialize;

use super::history::Who;
use crate::domain::TweetId;

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Invariant {
    /// Every tweet that is shown was attempted by its author.
    Phantom,
    /// No tweet twice.
    Duplicate,
    /// Newest first.
    Order,
    /// Authors see their own writes at once.
    OwnWrites,
    /// A delete is honoured.
    Delete,
    /// An unfollow is honoured.
    Unfollow,
    /// A block is honoured.
    Block,
    /// Ids are unique, and increase per author in the order of acknowledgements.
    Ids,
    /// What failed for certain never appears.
    FailedAbsent,
    /// What has to be refused is refused.
    BadInput,
    /// What was acknowledged is in the truth.
    Durable,
    /// One tweet per idempotency key, and the same one for every retry.
    OneTweetPerKey,
    /// Edges are what was acknowledged.
    Edges,
    /// A home timeline holds exactly what it should.
    HomeSet,
    /// Counts of followers and followees are right.
    Counts,
    /// An author's timeline holds exactly what it should.
    AuthorSet,
    /// A share of reads is answered in whole while things are broken.
    ReadsAnswered,
    /// A share of writes is answered in whole while things are broken.
    WritesAnswered,
    /// Queues drain after everything has healed.
    Drain,
    /// Everything is answered in whole after it has healed.
    Healed,
    /// Nothing panics, no answer is 500.
    Panic,
}

impl Invariant {
    /// Its name in reports.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Phantom => "S1.no_phantom",
            Self::Duplicate => "S2.no_duplicate",
            Self::Order => "S3.order",
            Self::OwnWrites => "S4.own_writes",
            Self::Delete => "S5.delete_honoured",
            Self::Unfollow => "S6.unfollow_honoured",
            Self::Block => "S7.block_honoured",
            Self::Ids => "S10.ids",
            Self::FailedAbsent => "S11.failed_absent",
            Self::BadInput => "S12.bad_input_refused",
            Self::Durable => "D1.durable",
            Self::OneTweetPerKey => "D2.one_tweet_per_key",
            Self::Edges => "D4.edges",
            Self::HomeSet => "C1.home_set",
            Self::Counts => "C4.counts",
            Self::AuthorSet => "C5.author_set",
            Self::ReadsAnswered => "A1.reads_answered",
            Self::WritesAnswered => "A2.writes_answered",
            Self::Drain => "L1.drain",
            Self::Healed => "L2.healed_answers",
            Self::Panic => "X0.no_panic",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One broken promise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Violation(Box<Facts>);

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Which, by name.
    pub invariant: &'static str,
    /// In which epoch, from 1; 0 is the setup.
    pub epoch: u32,
    /// When it was seen, in virtual milliseconds.
    pub at_ms: u64,
    /// What was seen.
    pub detail: String,
    /// Who saw it, as a number of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Who>,
    /// Whose tweet it is about, as a number of the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<Who>,
    /// Which tweet it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tweet: Option<String>,
    /// When the tweet was acknowledged, in virtual milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acked_ms: Option<u64>,
}

impl Violation {
    /// `invariant` was seen broken at `at_ms`.
    #[must_use]
    pub fn new(invariant: Invariant, at_ms: u64, detail: impl Into<String>) -> Self {
        Self(Box::new(Facts {
            invariant: invariant.as_str(),
            epoch: 0,
            at_ms,
            detail: detail.into(),
            user: None,
            author: None,
            tweet: None,
            acked_ms: None,
        }))
    }

    /// Who saw it.
    #[must_use]
    pub fn user(mut self, who: Who) -> Self {
        self.user = Some(who);
        self
    }

    /// Whose tweet.
    #[must_use]
    pub fn author(mut self, who: Who) -> Self {
        self.author = Some(who);
        self
    }

    /// Which tweet.
    #[must_use]
    pub fn tweet(mut self, id: TweetId) -> Self {
        self.tweet = Some(id.to_string());
        self
    }

    /// When the tweet was acknowledged.
    #[must_use]
    pub fn acked(mut self, ms: u64) -> Self {
        self.acked_ms = Some(ms);
        self
    }
}

impl Deref for Violation {
    type Target = Facts;

    fn deref(&self) -> &Facts {
        &self.0
    }
}

impl DerefMut for Violation {
    fn deref_mut(&mut self) -> &mut Facts {
        &mut self.0
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = Duration::from_millis(self.at_ms).as_secs_f64();
        write!(f, "{}  epoch {}  t={seconds:.3}s  {}", self.invariant, self.epoch, self.detail)
    }
}
