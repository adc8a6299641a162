//! What clients asked for and what they were told: the only source of what is expected.
//!
//! Every event takes a stamp of one sequence, so that "before" has a meaning inside a millisecond.
//! An operation without a certain end may take effect at any time until it is resolved, which the
//! audit at the end of an epoch does by looking.

use std::collections::BTreeMap;

use crate::domain::TweetId;

/// A moment: its place in the sequence of all events, and the virtual milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Place in the sequence.
    pub seq: u64,
    /// Virtual milliseconds since the start.
    pub ms: u64,
}

/// A user's number within a run, from 0.
pub type Who = usize;

/// How far a post got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PostState {
    /// It may or may not exist.
    Unknown,
    /// It was acknowledged, or seen, and so exists.
    Exists,
    /// It was refused for certain, or looked for in vain after everything had settled.
    Absent,
}

/// One attempt to post; retries under the same key are the same attempt.
#[derive(Clone, Debug)]
pub struct Post {
    /// Who wrote it.
    pub author: Who,
    /// Its text, which no other attempt has.
    pub text: String,
    /// The idempotency key that it was sent with.
    pub key: Option<String>,
    /// When it was first sent.
    pub invoked: Stamp,
    /// When it was first acknowledged.
    pub acked: Option<Stamp>,
    /// Its id, once known.
    pub id: Option<TweetId>,
    /// How far it got.
    pub state: PostState,
    /// When it was first acknowledged without saying that its author may not see it yet.
    pub shown: Option<Stamp>,
    /// When a delete was first sent.
    pub delete_invoked: Option<Stamp>,
    /// When a delete was answered with 204.
    pub delete_acked: Option<Stamp>,
    /// The delete is certain to have happened (204, 202 or looked for in vain).
    pub deleted: bool,
}

/// What one user asked to do to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Follow.
    Follow,
    /// Stop following.
    Unfollow,
    /// Block.
    Block,
    /// Lift the block.
    Unblock,
}

/// One request to change an edge.
#[derive(Clone, Copy, Debug)]
pub struct EdgeOp {
    /// What was asked.
    pub ask: Ask,
    /// When it was sent.
    pub invoked: Stamp,
    /// When it was certain to be over; `None` if that is not known.
    pub done: Option<Stamp>,
    /// It was refused because of a block. A copy of the request may have come when the block was
    /// lifted, so it may have happened all the same, before the answer.
    pub blocked: bool,
    /// It was answered so that every later read honours it (not 202).
    pub honoured: bool,
}

/// What one user does to another, as seen when everything had settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Follows.
    pub follows: bool,
    /// Blocks.
    pub blocks: bool,
}

/// The history of one run.
#[derive(Debug, Default)]
pub struct History {
    seq: u64,
    /// Every attempt to post, in the order of invocation.
    pub posts: Vec<Post>,
    by_text: BTreeMap<String, usize>,
    by_id: BTreeMap<TweetId, usize>,
    /// Requests since everything last settled, by actor and target.
    pub edges: BTreeMap<(Who, Who), Vec<EdgeOp>>,
    /// Edges when everything last settled.
    pub settled: BTreeMap<(Who, Who), Settled>,
    /// When that was.
    pub settled_at: Stamp,
}

impl History {
    /// The next moment.
    pub fn stamp(&mut self, ms: u64) -> Stamp {
        self.seq += 1;
        Stamp { seq: self.seq, ms }
    }

    /// An attempt to post begins; gives its number.
    pub fn post(&mut self, author: Who, text: &str, key: Option<&str>, ms: u64) -> usize {
        let invoked = self.stamp(ms);
        let at = self.posts.len();
        self.by_text.insert(text.to_owned(), at);
        self.posts.push(Post {
            author,
            text: text.to_owned(),
            key: key.map(str::to_owned),
            invoked,
            acked: None,
            id: None,
            state: PostState::Unknown,
            shown: None,
            delete_invoked: None,
            delete_acked: None,
            deleted: false,
        });
        at
    }

    /// The attempt with this text.
    pub fn by_text(&self, text: &str) -> Option<usize> {
        self.by_text.get(text).copied()
    }

    /// The attempt with this id.
    pub fn by_id(&self, id: TweetId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// An attempt turns out to have made this tweet. `Err` names what contradicts it.
    pub fn learn_id(&mut self, at: usize, id: TweetId) -> Result<(), String> {
        if let Some(known) = self.posts[at].id
            && known != id
        {
            return Err(format!("one attempt made the tweets {known} and {id}"));
        }
        match self.by_id.insert(id, at) {
            Some(other) if other != at => {
                let text = &self.posts[other].text;
                return Err(format!("the id {id} also belongs to {text:?}"));
            }
            _ => {}
        }
        self.posts[at].id = Some(id);
        Ok(())
    }

    /// A request to change an edge begins; gives its place.
    pub fn edge(&mut self, actor: Who, target: Who, ask: Ask, ms: u64) -> usize {
        let invoked = self.stamp(ms);
        let ops = self.edges.entry((actor, target)).or_default();
        ops.push(EdgeOp { ask, invoked, done: None, blocked: false, honoured: false });
        ops.len() - 1
    }

    /// A request to change an edge was answered.
    pub fn edge_done(&mut self, actor: Who, target: Who, at: usize, honoured: bool, ms: u64) {
        let stamp = self.stamp(ms);
        if let Some(op) = self.edges.get_mut(&(actor, target)).and_then(|ops| ops.get_mut(at)) {
            op.done = Some(stamp);
            op.honoured = honoured;
        }
    }

    /// A follow was refused because of a block.
    pub fn edge_blocked(&mut self, actor: Who, target: Who, at: usize, ms: u64) {
        self.edge_done(actor, target, at, false, ms);
        if let Some(op) = self.edges.get_mut(&(actor, target)).and_then(|ops| ops.get_mut(at)) {
            op.blocked = true;
        }
    }

    /// A request to change an edge was refused: it never was.
    pub fn edge_refused(&mut self, actor: Who, target: Who, at: usize) {
        if let Some(ops) = self.edges.get_mut(&(actor, target)) {
            // Requests of one actor follow each other, so nobody holds a later place.
            ops.truncate(at);
        }
    }

    /// Everything has settled, and the edges are these.
    pub fn settle(&mut self, edges: BTreeMap<(Who, Who), Settled>, ms: u64) {
        self.settled_at = self.stamp(ms);
        self.settled = edges;
        self.edges.clear();
    }
}
