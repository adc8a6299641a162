//! Judges a page as it comes, by what was known before it was asked for.

use std::collections::BTreeSet;

use super::{
    ledger::{Deleted, Ledger, Newest, Posted, Sees},
    seen::{List, Origin, Read, Tweet},
    violation::{Evidence, Kind},
};
use crate::domain::TweetId;

/// What one reader has seen may be unseen by another replica for this long, in microseconds: twice the time
/// for which a replica keeps what it has near (`timeline.near_ttl_ms`, 250 ms unless configured). Of a target
/// with more than this, [`Kind::WentBack`] says nothing.
pub const NEAR_US: u64 = 500_000;

/// Judges what a page shows, wherever in its list it begins; what is wrong goes into the record.
pub fn judge_shown(ledger: &Ledger, read: &Read<'_>) {
    let _newest = shown(ledger, read);
}

fn shown<'a>(ledger: &'a Ledger, read: &'a Read<'a>) -> Judge<'a> {
    let mut judge = Judge { ledger, read, newest: None };
    judge.shape();
    for tweet in &read.page.tweets {
        if tweet.id >= ledger.first {
            judge.tweet(tweet);
        }
    }
    judge
}

/// Judges a page that is the first of its list, or begins at a cursor, and what it does not show.
pub fn judge(ledger: &Ledger, read: &Read<'_>) {
    let judge = shown(ledger, read);
    if read.list == List::Home && read.before.is_none() && !read.page.degraded {
        judge.own();
        judge.went_back();
        if let Some(newest) = judge.newest {
            ledger.saw_newest(read.reader, newest);
        }
    }
}

struct Judge<'a> {
    ledger: &'a Ledger,
    read: &'a Read<'a>,
    /// The newest of the run's tweets that the page has.
    newest: Option<Newest>,
}

impl Judge<'_> {
    fn found(&self, kind: Kind, tweet: &Tweet<'_>, about: impl AsRef<str>) {
        let post = match self.ledger.tag.origin(&tweet.text) {
            Origin::Post(post) => Some(post),
            Origin::Driver | Origin::Foreign => None,
        };
        let author = self.ledger.population.rank(tweet.author.id);
        self.put(kind, post, Some((tweet.id, author)), about.as_ref());
    }

    fn put(
        &self,
        kind: Kind,
        post: Option<u32>,
        tweet: Option<(TweetId, Option<u32>)>,
        about: &str,
    ) {
        let list = match self.read.list {
            List::Home => "home timeline".to_owned(),
            List::Author(author) => {
                let handle = &self.ledger.population.users[author as usize].handle;
                format!("timeline of {handle}")
            }
        };
        self.ledger.found(&Evidence {
            kind,
            post,
            tweet: tweet.map(|(id, _)| id),
            author: tweet.and_then(|(_, author)| author),
            reader: self.read.reader,
            seen_us: self.read.came_us,
            about: format!("{list}: {about}"),
        });
    }

    /// Newest first, nothing twice, nothing above the cursor.
    fn shape(&self) {
        let tweets = &self.read.page.tweets;
        if tweets.windows(2).all(|two| two[0].id > two[1].id) && self.read.before.is_none() {
            return;
        }
        let (mut seen, mut last) = (BTreeSet::new(), None::<TweetId>);
        for tweet in tweets {
            if !seen.insert(tweet.id) {
                self.found(Kind::Duplicate, tweet, "it is twice in one page");
                continue;
            }
            if last.is_some_and(|last| last < tweet.id) {
                self.found(Kind::Order, tweet, "it comes after an older one");
            }
            if self.read.before.is_some_and(|before| tweet.id >= before) {
                self.found(Kind::CursorRepeat, tweet, "it is not below the cursor");
            }
            last = Some(tweet.id);
        }
    }

    fn tweet(&mut self, tweet: &Tweet<'_>) {
        let ledger = self.ledger;
        let number = match ledger.tag.origin(&tweet.text) {
            Origin::Driver => return,
            Origin::Foreign => {
                return self.found(Kind::Phantom, tweet, "it is no post of this run");
            }
            Origin::Post(number) => number,
        };
        let author = ledger.population.rank(tweet.author.id);
        let Some(post) = ledger.post(number).filter(|post| Some(post.author) == author) else {
            return self.found(Kind::Phantom, tweet, "nobody wrote it");
        };
        match (post.state, post.id) {
            (Posted::Unsent | Posted::Refused, _) => {
                return self.found(Kind::Phantom, tweet, "it was not sent, or refused");
            }
            (Posted::Acknowledged, Some(id)) if id != tweet.id => {
                return self.found(
                    Kind::Duplicate,
                    tweet,
                    format!("the post was answered as {id}"),
                );
            }
            (Posted::Acknowledged | Posted::Unknown, _) => {}
        }
        if post.deleted == Deleted::Done && post.at_us < self.read.asked_us {
            self.found(Kind::DeletedShown, tweet, "its delete was answered 204 before");
        }
        self.relation(tweet, post.author);
        if post.deleted == Deleted::No && self.newest.is_none_or(|newest| newest.id < tweet.id) {
            self.newest = Some(Newest { id: tweet.id, post: number, came_us: self.read.came_us });
        }
    }

    /// Whether the reader may see the author there.
    fn relation(&self, tweet: &Tweet<'_>, author: u32) {
        let (ledger, reader) = (self.ledger, self.read.reader);
        let before = |since: Option<u64>| since.is_some_and(|since| since < self.read.asked_us);
        let pair = ledger.pair(reader, author);
        match self.read.list {
            List::Home => match (ledger.sees(reader, author), pair) {
                ((Sees::No, since), Some(pair)) if before(since) => {
                    let kind =
                        if pair.by_block { Kind::BlockedShown } else { Kind::UnfollowedShown };
                    self.found(kind, tweet, "the author had been hidden before");
                }
                ((Sees::No, _), None) => ledger.suspect(reader, author),
                _ => {}
            },
            List::Author(listed) if listed != author => {
                self.found(Kind::Leaked, tweet, "it is another author's");
            }
            List::Author(_) => {
                let blocked = pair.filter(|pair| pair.blocked == Sees::Yes);
                if blocked.is_some_and(|pair| before(pair.sides[0].hidden_us)) {
                    self.found(Kind::BlockedShown, tweet, "a block had been answered before");
                }
            }
        }
    }

    /// The author reads their own writes.
    fn own(&self) {
        let Some(number) = self.ledger.own(self.read.reader) else { return };
        let Some(post) = self.ledger.post(number) else { return };
        let Some(id) = post.id.filter(|_| post.deleted == Deleted::No) else { return };
        if post.at_us < self.read.asked_us && self.must_show(id) {
            let author = Some(self.read.reader);
            let about = "it was acknowledged before the page was asked for";
            self.put(Kind::OwnUnseen, Some(number), Some((id, author)), about);
        }
    }

    /// Whether the page reaches down to `id` and does not have it.
    fn must_show(&self, id: TweetId) -> bool {
        let page = &self.read.page;
        let reaches = page.next.is_none() || page.tweets.last().is_some_and(|last| last.id < id);
        reaches && !page.tweets.iter().any(|tweet| tweet.id == id)
    }

    /// What was seen stays seen.
    fn went_back(&self) {
        let Some(known) = self.ledger.newest(self.read.reader) else { return };
        if known.came_us + NEAR_US >= self.read.asked_us || !self.must_show(known.id) {
            return;
        }
        let Some(post) = self.ledger.post(known.post) else { return };
        let visible = self.ledger.sees(self.read.reader, post.author).0 == Sees::Yes
            || self.ledger.pair(self.read.reader, post.author).is_none();
        if post.deleted == Deleted::No && visible {
            let about = format!("a page that came after {} ms had it", known.came_us / 1_000);
            self.put(Kind::WentBack, Some(known.post), Some((known.id, Some(post.author))), &about);
        }
    }
}
