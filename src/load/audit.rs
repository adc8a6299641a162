//! Once nothing is on its way: everything that can be read, held against the record.
//!
//! Home and author timelines are walked from the top to where the run began, by pages of changing size,
//! so that cursors are tried as well. Whether a pair that this run did not touch follows each other is
//! what the graph of the seed says; where that does not fit what is seen, the user role is asked, as an
//! earlier run may have changed it.

use std::{collections::BTreeMap, fmt::Write as _, time::Instant};

use futures_util::future::try_join_all;
use sha2::{Digest, Sha256};

use super::{
    api::{Api, Listed, read, shares},
    connection::Target,
    ledger::{Deleted, Ledger, Post, Posted, Sees},
    live,
    seen::{List, Origin},
    violation::{Evidence, Kind},
};
use crate::{domain::TweetId, graph::Random};

/// Tweets of a page: the fewest, and how many more at most.
const PAGE: (u64, u64) = (11, 89);

/// Followers and followees of a user.
pub type Counts = (u64, u64);

/// What is looked at.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Readers whose home timelines are read.
    pub readers: Vec<u32>,
    /// Authors whose own timelines are read.
    pub authors: Vec<u32>,
    /// Users whose counts are compared, with what they were before.
    pub counts: BTreeMap<u32, Counts>,
}

/// What was looked at.
#[derive(Clone, Debug, Default)]
pub struct Audited {
    /// Deliveries that were held against the record.
    pub deliveries: u64,
    /// Users whose counts were compared.
    pub counted: u64,
    /// SHA-256 over which posts of this run each reader is shown.
    pub sha256: String,
}

/// Everything that audits share.
struct Books<'a> {
    ledger: &'a Ledger,
    posts: Vec<Post>,
    /// Of each author, the posts that may be shown.
    by_author: BTreeMap<u32, Vec<u32>>,
    /// Of each user, those with whom this run changed something.
    changed: BTreeMap<u32, Vec<u32>>,
}

/// SHA-256 of the posts that a list shows.
type Digested = [u8; 32];

/// What a list shows of this run: number of the post and tweet, newest first.
type Shown = Vec<(u32, TweetId)>;

/// Reads and judges; what is wrong goes into the record.
///
/// # Errors
/// What could not be read, so that the audit says nothing.
pub async fn audit(ledger: &Ledger, target: &Target, scope: &Scope) -> Result<Audited, String> {
    let books = &Books::new(ledger);
    let mut audited = Audited::default();
    let walks = shares(scope.readers.clone()).into_iter().map(|share| async move {
        let mut api = Api::new(ledger, target.clone());
        let mut digests = Vec::new();
        for reader in share {
            digests.push(books.home(&mut api, reader).await?);
        }
        Ok::<_, String>(digests)
    });
    let mut digests: Vec<(u32, u64, Digested)> =
        try_join_all(walks).await?.into_iter().flatten().collect();
    digests.sort_unstable();
    let mut hash = Sha256::new();
    for (reader, deliveries, digest) in &digests {
        audited.deliveries += deliveries;
        hash.update(reader.to_le_bytes());
        hash.update(digest);
    }
    audited.sha256 = hex(&hash.finalize());
    let walks = shares(scope.authors.clone()).into_iter().map(|share| async move {
        let mut api = Api::new(ledger, target.clone());
        for author in share {
            books.author(&mut api, author).await?;
        }
        Ok::<_, String>(())
    });
    try_join_all(walks).await?;
    let mut api = Api::new(ledger, target.clone());
    books.suspects(&mut api).await?;
    for (&user, &before) in &scope.counts {
        audited.counted += u64::from(books.counts(&mut api, user, before).await?);
    }
    Ok(audited)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

impl<'a> Books<'a> {
    fn new(ledger: &'a Ledger) -> Self {
        let posts = ledger.posts();
        let mut by_author: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (number, post) in posts.iter().enumerate() {
            if matches!(post.state, Posted::Acknowledged | Posted::Unknown) {
                by_author.entry(post.author).or_default().push(number as u32);
            }
        }
        let mut changed: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for ((low, high), _) in ledger.pairs() {
            changed.entry(low).or_default().push(high);
            changed.entry(high).or_default().push(low);
        }
        Self { ledger, posts, by_author, changed }
    }

    /// The posts that an author's list must have, newest first by their tweets.
    fn must(&self, author: u32) -> impl Iterator<Item = (u32, TweetId)> + '_ {
        let numbers = self.by_author.get(&author).into_iter().flatten();
        numbers.filter_map(|&number| {
            let post = &self.posts[number as usize];
            let sure = post.state == Posted::Acknowledged && post.deleted == Deleted::No;
            Some((number, post.id.filter(|_| sure)?))
        })
    }

    /// Walks a list down to the beginning of the run.
    async fn walk(
        &self,
        api: &mut Api<'_>,
        reader: u32,
        list: List,
    ) -> Result<Option<Shown>, String> {
        let mut random = Random::new(u64::from(reader) << 8 | 1);
        let (mut shown, mut before) = (Shown::new(), None);
        loop {
            let limit = PAGE.0 + random.below(PAGE.1);
            let (answer, asked_us, came_us) = match api.list(reader, list, limit, before).await? {
                Listed::Page(answer, asked_us, came_us) => (answer, asked_us, came_us),
                Listed::Blocked => {
                    if let List::Author(author) = list {
                        self.refused(api, reader, author).await?;
                    }
                    return Ok(None);
                }
            };
            let read = read(&answer, (reader, list, before), (asked_us, came_us))?;
            live::judge(self.ledger, &read);
            for tweet in &read.page.tweets {
                if tweet.id >= self.ledger.first
                    && let Origin::Post(number) = self.ledger.tag.origin(&tweet.text)
                {
                    shown.push((number, tweet.id));
                }
            }
            let below = read.page.tweets.last().is_some_and(|last| last.id < self.ledger.first);
            match read.page.next {
                Some(next) if !below && before.is_none_or(|before| next < before) => {
                    before = Some(next);
                }
                Some(next) if !below => {
                    self.found(
                        Kind::CursorRepeat,
                        None,
                        reader,
                        format!("the cursor {next} leads nowhere"),
                    );
                    return Ok(Some(shown));
                }
                _ => return Ok(Some(shown)),
            }
        }
    }

    fn found(&self, kind: Kind, post: Option<u32>, reader: u32, about: String) {
        let seen_us = self.ledger.us(Instant::now());
        let evidence = Evidence { kind, post, tweet: None, author: None, reader, seen_us, about };
        self.ledger.found(&evidence);
    }

    /// Whether somebody who was refused for a block had reason to be.
    async fn refused(&self, api: &mut Api<'_>, reader: u32, author: u32) -> Result<(), String> {
        let viewer = api.profile(reader, author).await?.viewer.unwrap_or_default();
        if !viewer.blocking && !viewer.blocked_by {
            let handle = &self.ledger.population.users[author as usize].handle;
            let about = format!("timeline of {handle}: refused for a block that is not there");
            self.found(Kind::Missing, None, reader, about);
        }
        Ok(())
    }

    /// A post of this run stands in a list once, under one tweet, also if its end is not known.
    fn once(&self, reader: u32, shown: &Shown) {
        let mut numbers: Vec<u32> = shown.iter().map(|&(number, _)| number).collect();
        numbers.sort_unstable();
        for two in numbers.windows(2).filter(|two| two[0] == two[1]) {
            let about = "the post is in the list more than once".to_owned();
            self.found(Kind::Duplicate, Some(two[0]), reader, about);
        }
    }

    /// A home timeline: reader, deliveries that had to be there, digest.
    async fn home(&self, api: &mut Api<'_>, reader: u32) -> Result<(u32, u64, Digested), String> {
        let shown = self.walk(api, reader, List::Home).await?.unwrap_or_default();
        self.once(reader, &shown);
        let mut truth = BTreeMap::new();
        let mut deliveries = 0;
        let there: std::collections::BTreeSet<u32> =
            shown.iter().map(|&(number, _)| number).collect();
        for author in self.seen_by(reader) {
            for (number, id) in self.must(author) {
                deliveries += 1;
                if !there.contains(&number) && self.follows(api, &mut truth, reader, author).await?
                {
                    let about = format!(
                        "home timeline: tweet {id} is not there once all has been delivered"
                    );
                    self.found(Kind::Missing, Some(number), reader, about);
                }
            }
        }
        for &(number, _) in &shown {
            self.must_not(api, &mut truth, reader, number).await?;
        }
        // Two posts at one instant stand in either order, from run to run.
        let mut numbers: Vec<u32> = shown.into_iter().map(|(number, _)| number).collect();
        numbers.sort_unstable();
        let mut digest = Sha256::new();
        for number in numbers {
            digest.update(number.to_le_bytes());
        }
        Ok((reader, deliveries, digest.finalize().into()))
    }

    /// All authors of this run whom `reader` sees, or may see.
    fn seen_by(&self, reader: u32) -> Vec<u32> {
        let population = &self.ledger.population;
        let changed = self.changed.get(&reader).into_iter().flatten().copied();
        let mut all: Vec<u32> =
            population.followees(reader).chain(changed).chain([reader]).collect();
        all.sort_unstable();
        all.dedup();
        all.retain(|&author| {
            self.by_author.contains_key(&author) && self.ledger.sees(reader, author).0 != Sees::No
        });
        all
    }

    /// Whether `reader` follows `author`, as the user role says where the record may be wrong.
    async fn follows(
        &self,
        api: &mut Api<'_>,
        truth: &mut BTreeMap<u32, bool>,
        reader: u32,
        author: u32,
    ) -> Result<bool, String> {
        if reader == author {
            return Ok(true);
        }
        let told = self.ledger.told(reader, author);
        match self.ledger.sees(reader, author).0 {
            Sees::Yes if told => Ok(true),
            Sees::No if told => Ok(false),
            _ => {
                if let Some(&follows) = truth.get(&author) {
                    return Ok(follows);
                }
                let profile = api.profile(reader, author).await?;
                let follows = profile.viewer.is_some_and(|viewer| viewer.following);
                truth.insert(author, follows);
                Ok(follows)
            }
        }
    }

    /// What pages are not judged by as they come: what was accepted, and is done by now.
    async fn must_not(
        &self,
        api: &mut Api<'_>,
        truth: &mut BTreeMap<u32, bool>,
        reader: u32,
        number: u32,
    ) -> Result<(), String> {
        let post = &self.posts[number as usize];
        if post.deleted == Deleted::Pending {
            let about = "home timeline: its delete was accepted, and is not done".to_owned();
            self.found(Kind::DeletedShown, Some(number), reader, about);
        }
        if let Some(pair) = self.ledger.pair(reader, post.author)
            && !self.follows(api, truth, reader, post.author).await?
        {
            let kind = if pair.by_block { Kind::BlockedShown } else { Kind::UnfollowedShown };
            let about =
                "home timeline: the author is hidden, once all has been delivered".to_owned();
            self.found(kind, Some(number), reader, about);
        }
        Ok(())
    }

    /// An author timeline, as a follower or the author reads it.
    async fn author(&self, api: &mut Api<'_>, author: u32) -> Result<(), String> {
        let followers = self.ledger.population.followers(author);
        let reader = followers.get(followers.len() / 2).copied().unwrap_or(author);
        let Some(shown) = self.walk(api, reader, List::Author(author)).await? else {
            return Ok(());
        };
        self.once(reader, &shown);
        for &(number, _) in &shown {
            if self.posts[number as usize].deleted == Deleted::Pending {
                let about = "author timeline: its delete was accepted, and is not done".to_owned();
                self.found(Kind::DeletedShown, Some(number), reader, about);
            }
        }
        for (number, id) in self.must(author) {
            if !shown.iter().any(|&(there, _)| there == number) {
                let handle = &self.ledger.population.users[author as usize].handle;
                let about = format!("timeline of {handle}: tweet {id} is not there");
                self.found(Kind::Missing, Some(number), reader, about);
            }
        }
        Ok(())
    }

    /// Whoever saw somebody they did not follow when the data set was seeded.
    async fn suspects(&self, api: &mut Api<'_>) -> Result<(), String> {
        for (reader, author) in self.ledger.suspects() {
            if self.ledger.pair(reader, author).is_some() {
                continue;
            }
            let viewer = api.profile(reader, author).await?.viewer;
            if !viewer.is_some_and(|viewer| viewer.following) {
                let handle = &self.ledger.population.users[author as usize].handle;
                let about = format!("home timeline: it shows {handle}, who is not followed");
                self.found(Kind::Leaked, None, reader, about);
            }
        }
        Ok(())
    }

    /// Whether counts could be compared: nothing that changes them has an unknown end.
    async fn counts(&self, api: &mut Api<'_>, user: u32, before: Counts) -> Result<bool, String> {
        let (mut followers, mut following) = (before.0, before.1);
        for &other in self.changed.get(&user).into_iter().flatten() {
            for (count, reader, author) in
                [(&mut followers, other, user), (&mut following, user, other)]
            {
                let was = u64::from(self.ledger.population.follows(reader, author));
                let is = match self.ledger.sees(reader, author).0 {
                    Sees::Yes => 1,
                    Sees::No => 0,
                    Sees::Unknown => return Ok(false),
                };
                *count = *count + is - was;
            }
        }
        let reader = u32::from(user == 0);
        let now = api.profile(reader, user).await?;
        if (now.followers, now.following) != (followers, following) {
            let about = format!(
                "{} followers and {} followees, and should have {followers} and {following}",
                now.followers, now.following
            );
            self.found(Kind::Counter, None, user, about);
        }
        Ok(true)
    }
}
