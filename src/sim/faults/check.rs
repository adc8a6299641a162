//! What every single page must obey, also while everything is broken.

use std::fmt;

use super::{
    bounds::Op,
    client::{Client, Cursor, who_of},
    history::{History, PostState, Stamp, Who},
    violation::{Invariant, Violation},
};
use crate::{
    domain::TweetId,
    wire::api::{Page, Tweet},
};

/// Which list was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// The reader's home timeline.
    Home,
    /// An author's tweets.
    Author(Who),
}

/// One page that was read.
pub struct Seen<'a> {
    /// Who read it.
    pub reader: Who,
    /// Which list.
    pub list: List,
    /// With what.
    pub cursor: Cursor,
    /// The most tweets that were asked for.
    pub limit: usize,
    /// When it was asked for.
    pub from: Stamp,
    /// When it came.
    pub to: Stamp,
    /// The page.
    pub page: &'a Page,
}

impl Seen<'_> {
    /// Judges the page and learns from it which unknown posts exist.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(&self, history: &mut History) -> Result<(), Violation> {
        self.check_order()?;
        for tweet in &self.page.tweets {
            let at = self.check_origin(history, tweet)?;
            self.check_hidden(history, at, tweet)?;
        }
        self.check_own(history)
    }

    fn fault(&self, invariant: Invariant, detail: impl fmt::Display) -> Violation {
        let Self { reader, list, cursor, from, to, .. } = self;
        let list = match list {
            List::Home => "home timeline".to_owned(),
            List::Author(author) => format!("tweets of user {author}"),
        };
        let read =
            format!("{list} read by user {reader} ({cursor:?}) at {}..{} ms", from.ms, to.ms);
        Violation::new(invariant, to.ms, format!("{detail}; {read}")).user(*reader)
    }

    /// S2 and S3, and that the cursor is kept.
    fn check_order(&self) -> Result<(), Violation> {
        for pair in self.page.tweets.windows(2) {
            let (upper, lower) = (pair[0].id, pair[1].id);
            if upper == lower {
                return Err(self.fault(Invariant::Duplicate, format!("tweet {upper} twice")));
            }
            if upper < lower {
                let detail = format!("tweet {upper} above the newer {lower}");
                return Err(self.fault(Invariant::Order, detail));
            }
        }
        if let Some(outside) = self.page.tweets.iter().find(|t| !self.cursor.holds(t.id)) {
            let detail = format!("tweet {} outside the cursor", outside.id);
            return Err(self.fault(Invariant::Order, detail));
        }
        if self.page.tweets.len() > self.limit {
            let detail = format!("{} tweets, asked were {}", self.page.tweets.len(), self.limit);
            return Err(self.fault(Invariant::Order, detail));
        }
        Ok(())
    }

    /// S1, S11 and D2.
    fn check_origin(&self, history: &mut History, tweet: &Tweet) -> Result<usize, Violation> {
        let author = who_of(tweet.author.handle.as_str());
        let attempt = history.by_text(tweet.text.as_str());
        let Some(at) = attempt.filter(|&at| Some(history.posts[at].author) == author) else {
            let detail =
                format!("tweet {} {:?} was never attempted by its author", tweet.id, tweet.text);
            return Err(self.fault(Invariant::Phantom, detail));
        };
        let post = &history.posts[at];
        if post.state == PostState::Absent {
            let detail = format!("tweet {} {:?} had failed for certain", tweet.id, post.text);
            return Err(self.fault(Invariant::FailedAbsent, detail).tweet(tweet.id));
        }
        if self.list == List::Home || self.list == List::Author(post.author) {
            history
                .learn_id(at, tweet.id)
                .map_err(|why| self.fault(Invariant::OneTweetPerKey, why).tweet(tweet.id))?;
            history.posts[at].state = PostState::Exists;
            return Ok(at);
        }
        let detail = format!("tweet {} by user {author:?} in another's list", tweet.id);
        Err(self.fault(Invariant::Phantom, detail).tweet(tweet.id))
    }

    /// S5, S6 and S7.
    fn check_hidden(&self, history: &History, at: usize, tweet: &Tweet) -> Result<(), Violation> {
        let post = &history.posts[at];
        let author = post.author;
        let named = |violation: Violation| violation.tweet(tweet.id).author(author);
        if let Some(acked) = post.delete_acked.filter(|acked| *acked <= self.from) {
            let detail = format!("tweet {} was deleted at {} ms", tweet.id, acked.ms);
            return Err(named(self.fault(Invariant::Delete, detail)));
        }
        if author == self.reader {
            return Ok(());
        }
        for (actor, target) in [(self.reader, author), (author, self.reader)] {
            if history.surely_blocks(actor, target, self.from, self.to) {
                let detail = format!("tweet {}: user {actor} blocks user {target}", tweet.id);
                return Err(named(self.fault(Invariant::Block, detail)));
            }
        }
        let may = history.may_follow(self.reader, author, self.from, self.to);
        if self.list == List::Home && !may {
            let ends = history.edges.get(&(self.reader, author)).map_or(&[][..], Vec::as_slice);
            let detail = format!(
                "tweet {}: user {} does not follow user {author} (since {} ms; {ends:?})",
                tweet.id, self.reader, history.settled_at.ms
            );
            return Err(named(self.fault(Invariant::Unfollow, detail)));
        }
        Ok(())
    }

    /// S4: one's own acknowledged tweets are there.
    fn check_own(&self, history: &History) -> Result<(), Violation> {
        let own = matches!(self.list, List::Author(author) if author == self.reader);
        if self.page.degraded || !(own || self.list == List::Home) {
            return Ok(());
        }
        for post in history.posts.iter().filter(|post| post.author == self.reader) {
            let (Some(shown), Some(id)) = (post.shown, post.id) else { continue };
            let due = shown <= self.from && post.delete_invoked.is_none_or(|at| at > self.to);
            let there = || self.page.tweets.iter().any(|tweet| tweet.id == id);
            if due && self.covers(id) && !there() {
                let detail = format!("tweet {id}, acknowledged at {} ms, is missing", shown.ms);
                let fault = self.fault(Invariant::OwnWrites, detail).tweet(id);
                return Err(fault.author(post.author).acked(shown.ms));
            }
        }
        Ok(())
    }

    /// Whether the page speaks for this id: what lies beyond its end is for the next page.
    fn covers(&self, id: TweetId) -> bool {
        if !self.cursor.holds(id) {
            return false;
        }
        match self.cursor {
            Cursor::Latest | Cursor::Before(_) => self.page.next.is_none_or(|next| id >= next),
            // Upwards a page goes as far as its newest tweet; an empty one says that nothing is there.
            Cursor::After(_) => self.page.prev.is_none_or(|prev| id <= prev),
        }
    }
}

/// Reads one page and judges it. `None` if it could not be had.
///
/// # Errors
/// The first rule that it breaks.
pub async fn read(
    run: &super::run::Run,
    client: &Client,
    list: List,
    cursor: Cursor,
    limit: usize,
) -> Result<Option<Page>, Violation> {
    let path = match list {
        List::Home => "/timeline".to_owned(),
        List::Author(author) => format!("/users/{}/tweets", super::client::handle_of(author)),
    };
    let from = run.stamp();
    let answer = client.page(&path, cursor, limit).await;
    let to = run.stamp();
    match answer {
        Ok(page) => {
            let seen = Seen { reader: client.who, list, cursor, limit, from, to, page: &page };
            seen.check(&mut run.history.lock())?;
            run.judge_answer(client.who, Op::Read, &path, !page.degraded)?;
            Ok(Some(page))
        }
        Err(answer) => {
            run.judge_failure(client.who, Op::Read, &path, &answer)?;
            Ok(None)
        }
    }
}
