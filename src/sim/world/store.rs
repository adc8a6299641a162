//! The timeline store. A call is a list of statements, each a step of its own: others may look
//! between two of them, and a call may end after some. No statement deletes, so any order of the
//! same statements gives the same rows.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;

use super::{
    State,
    link::{Chance, Link},
    tweets::nearest,
};
use crate::{
    domain::{
        Body, Entry, PairChange, TweetId, UserId, Window,
        fanout::{Class, bucket_of},
        relations::Relation,
        ring::Slice,
    },
    ports::{
        AuthorRow, Chosen, FollowerPage, HomeStore, Kind, Outcome, Read, StoredBody, TimelineStore,
        home_store::HOMES_MAX, timeline_store::IDS_MAX,
    },
    wire::events::FollowerCursor,
};

#[derive(Default)]
struct Tweet {
    body: Option<Body>,
    deleted: bool,
}

#[derive(Clone, Copy, Default)]
struct Versioned<T> {
    version: u64,
    value: T,
}

/// The store's tables.
#[derive(Default)]
pub(super) struct Tables {
    tweets: BTreeMap<TweetId, Tweet>,
    author_tweets: BTreeMap<UserId, BTreeSet<TweetId>>,
    authors: BTreeMap<UserId, AuthorRow>,
    relations: BTreeMap<UserId, BTreeMap<UserId, Versioned<Relation>>>,
    followers: BTreeMap<UserId, BTreeMap<(u16, UserId), Versioned<bool>>>,
    homes: BTreeMap<UserId, BTreeMap<TweetId, UserId>>,
    floors: BTreeMap<UserId, TweetId>,
    chosen: Chosen,
}

/// One write to one row.
#[derive(Clone, Debug)]
enum Statement {
    Body(Body),
    AuthorTweet(UserId, TweetId),
    Latest(UserId, TweetId),
    Deleted(TweetId),
    Class(UserId, Class),
    Relation(UserId, u64, Relation),
    Follower { author: UserId, follower: UserId, version: u64, follows: bool },
    Home(UserId, Entry),
    Floor(UserId, TweetId),
    Choice(Chosen),
}

impl Tables {
    fn run(&mut self, statement: Statement) {
        match statement {
            Statement::Body(body) => {
                self.tweets.entry(body.id).or_default().body.get_or_insert(body);
            }
            Statement::AuthorTweet(author, id) => {
                self.author_tweets.entry(author).or_default().insert(id);
            }
            Statement::Latest(author, id) => {
                let row = self.authors.entry(author).or_default();
                row.latest = row.latest.max(id);
            }
            Statement::Deleted(id) => self.tweets.entry(id).or_default().deleted = true,
            Statement::Class(author, class) => {
                let row = self.authors.entry(author).or_default();
                row.class = row.class.max(class);
            }
            Statement::Relation(user, version, value) => {
                let rows = self.relations.entry(user).or_default();
                let row = rows.entry(value.other).or_insert(Versioned { version: 0, value });
                if version > row.version {
                    *row = Versioned { version, value };
                }
            }
            Statement::Follower { author, follower, version, follows } => {
                let rows = self.followers.entry(author).or_default();
                let row = rows.entry((bucket_of(follower), follower)).or_default();
                if version > row.version {
                    *row = Versioned { version, value: follows };
                }
            }
            Statement::Home(user, Entry { tweet, author }) => {
                self.homes.entry(user).or_default().insert(tweet, author);
            }
            Statement::Floor(user, floor) => {
                let row = self.floors.entry(user).or_default();
                *row = floor.max(*row);
            }
            Statement::Choice(chosen) => {
                if chosen.version > self.chosen.version {
                    self.chosen = chosen;
                }
            }
        }
    }

    pub(super) fn body(&self, id: TweetId) -> Option<StoredBody> {
        let tweet = self.tweets.get(&id)?;
        if tweet.deleted {
            return Some(StoredBody::Deleted);
        }
        tweet.body.clone().map(StoredBody::Live)
    }

    pub(super) fn author(&self, author: UserId) -> AuthorRow {
        self.authors.get(&author).copied().unwrap_or_default()
    }

    fn author_tweets(&self, author: UserId, window: Window, limit: usize) -> Vec<TweetId> {
        let ids = self.author_tweets.get(&author).into_iter().flatten();
        nearest(ids.copied().filter(|id| window.holds(*id)), window, limit)
    }

    fn home(&self, user: UserId, window: Window, limit: usize) -> Slice {
        let floor = self.floors.get(&user).copied().unwrap_or_default();
        let rows = self.homes.get(&user).into_iter().flatten();
        let inside = rows.map(|(&tweet, _)| tweet).filter(|&id| id > floor && window.holds(id));
        let ids = nearest(inside, window, limit + 1);
        let exhausted = ids.len() <= limit;
        let (mut ids, upward) = (ids, matches!(window, Window::After(_)));
        if upward && !exhausted {
            ids.remove(0);
        }
        ids.truncate(limit);
        let author = |tweet: TweetId| self.homes[&user][&tweet];
        let entries = ids.into_iter().map(|tweet| Entry { tweet, author: author(tweet) });
        Slice { entries: entries.collect(), floor, exhausted }
    }

    fn followers(
        &self,
        author: UserId,
        buckets: (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize,
    ) -> FollowerPage {
        let mut page = FollowerPage::default();
        let behind = |at: (u16, UserId)| after.is_none_or(|c| at > (c.bucket, c.follower));
        let rows = self.followers.get(&author).into_iter().flatten();
        let mut rows = rows
            .filter(|(at, _)| (buckets.0..buckets.1).contains(&at.0) && behind(**at))
            .peekable();
        for _ in 0..limit {
            let Some((&(bucket, follower), row)) = rows.next() else { return page };
            if row.value {
                page.followers.push(follower);
            }
            page.next = rows.peek().map(|_| FollowerCursor { bucket, follower });
        }
        page
    }
}

/// The timeline store at one node.
pub(super) struct SimStore(pub(super) Link);

impl SimStore {
    /// Runs statements one after the other. They may pause in between, and may end early; then the
    /// call is unknown, whatever else becomes of it.
    async fn run(
        &self,
        op: &'static str,
        args: impl std::fmt::Debug + Send,
        mut statements: Vec<Statement>,
    ) -> Outcome<()> {
        let knobs = self.0.world.knobs();
        let count = statements.len() as u64;
        let cut = self.0.hit(Chance::Partial, knobs.partial).filter(|_| count > 1);
        let split = self.0.hit(Chance::Split, knobs.split).filter(|_| count > 1);
        if let Some(size) = cut {
            statements.truncate((size % count) as usize);
        }
        if let Some(size) = split {
            let first = statements.len() * (size % 4) as usize / 4;
            let rest = statements.split_off(first);
            match self.apply(op, &args, statements).await {
                Outcome::Done(()) => statements = rest,
                // Some statements have happened: only a repetition of all makes it certain.
                Outcome::Failed(error) | Outcome::Unknown(error) => return Outcome::Unknown(error),
            }
            self.0.pause((size >> 2) % (knobs.split_ms + 1)).await;
        }
        match self.apply(op, &args, statements).await {
            Outcome::Done(()) if cut.is_some() => {
                self.0.note(op, "only in part");
                Outcome::Unknown(self.0.error(Kind::Timeout, "only in part"))
            }
            Outcome::Failed(error) if split.is_some() => Outcome::Unknown(error),
            outcome => outcome,
        }
    }

    async fn apply(
        &self,
        op: &'static str,
        args: &(impl std::fmt::Debug + Send),
        statements: Vec<Statement>,
    ) -> Outcome<()> {
        let args = format!("{args:?}, {} statements", statements.len());
        let step = move |state: &mut State, _| {
            for statement in statements {
                state.store.run(statement);
            }
            Ok(())
        };
        self.0.write(op, args, step).await
    }

    fn bounded(&self, count: usize) -> Read<()> {
        let error = || self.0.error(Kind::Unavailable, "more ids than one call may have");
        (count <= IDS_MAX).then_some(()).ok_or_else(error)
    }
}

#[async_trait]
impl TimelineStore for SimStore {
    async fn put_tweets(&self, bodies: &[Body]) -> Outcome<()> {
        let statements = bodies.iter().flat_map(|body| {
            let (author, id) = (body.author, body.id);
            let place = Statement::AuthorTweet(author, id);
            [Statement::Body(body.clone()), place, Statement::Latest(author, id)]
        });
        let ids: Vec<TweetId> = bodies.iter().map(|body| body.id).collect();
        self.run("put_tweets", ids, statements.collect()).await
    }

    async fn delete_tweets(&self, ids: &[TweetId]) -> Outcome<()> {
        let statements = ids.iter().map(|id| Statement::Deleted(*id)).collect();
        self.run("delete_tweets", ids, statements).await
    }

    async fn bodies(&self, ids: &[TweetId]) -> Read<Vec<Option<StoredBody>>> {
        self.bounded(ids.len())?;
        let look = |state: &mut State, _| Ok(ids.iter().map(|id| state.store.body(*id)).collect());
        self.0.read("bodies", ids, look).await
    }

    async fn author_tweets(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Read<Vec<TweetId>> {
        let look = move |state: &mut State, _| Ok(state.store.author_tweets(author, window, limit));
        self.0.read("author_tweets", (author, window, limit), look).await
    }

    async fn authors(&self, ids: &[UserId]) -> Read<Vec<AuthorRow>> {
        self.bounded(ids.len())?;
        let look = |state: &mut State, _| Ok(ids.iter().map(|a| state.store.author(*a)).collect());
        self.0.read("authors", ids, look).await
    }

    async fn set_class(&self, author: UserId, class: Class) -> Outcome<()> {
        self.run("set_class", (author, class), vec![Statement::Class(author, class)]).await
    }

    async fn put_pairs(&self, changes: &[PairChange]) -> Outcome<()> {
        let mut statements = Vec::with_capacity(changes.len() * 4);
        for PairChange { pair, version, state } in changes {
            let version = *version;
            for (user, other) in [(pair.low, pair.high), (pair.high, pair.low)] {
                let row = Relation::of(user, *pair, state);
                let follows = row.follows;
                if row.is_kept(version) {
                    statements.push(Statement::Relation(user, version, row));
                }
                let (author, follower) = (other, user);
                statements.push(Statement::Follower { author, follower, version, follows });
            }
        }
        let told: Vec<_> = changes.iter().map(|c| (c.pair.low, c.pair.high, c.version)).collect();
        self.run("put_pairs", told, statements).await
    }

    async fn relations(
        &self,
        user: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Read<Vec<Relation>> {
        let look = move |state: &mut State, _| {
            let rows = state.store.relations.get(&user).into_iter().flatten();
            let rest = rows.filter(|(other, _)| after.is_none_or(|after| **other > after));
            Ok(rest.map(|(_, row)| row.value).take(limit).collect())
        };
        self.0.read("relations", user, look).await
    }

    async fn followers(
        &self,
        author: UserId,
        buckets: (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize,
    ) -> Read<FollowerPage> {
        let short = self.0.hit(Chance::ShortPage, self.0.world.knobs().short_page);
        let limit = limit.max(1);
        let limit = short.map_or(limit, |size| 1 + size as usize % limit);
        let look =
            move |state: &mut State, _| Ok(state.store.followers(author, buckets, after, limit));
        self.0.read("followers", (author, buckets, after, limit), look).await
    }
}

#[async_trait]
impl HomeStore for SimStore {
    async fn put_homes(&self, rows: &[(UserId, Entry)]) -> Outcome<()> {
        if rows.len() > HOMES_MAX {
            return Outcome::Failed(
                self.0.error(Kind::Unavailable, "more rows than one call may have"),
            );
        }
        let puts = rows.iter().map(|&(user, entry)| Statement::Home(user, entry)).collect();
        self.run("put_homes", rows, puts).await
    }

    async fn raise_floor(&self, user: UserId, floor: TweetId) -> Outcome<()> {
        self.run("raise_floor", (user, floor), vec![Statement::Floor(user, floor)]).await
    }

    async fn home(&self, user: UserId, window: Window, limit: usize) -> Read<Slice> {
        let look = move |state: &mut State, _| Ok(state.store.home(user, window, limit));
        self.0.read("home", (user, window, limit), look).await
    }

    async fn chosen(&self) -> Read<Chosen> {
        self.0.read("chosen", (), |state: &mut State, _| Ok(state.store.chosen)).await
    }

    async fn choose(&self, chosen: Chosen) -> Outcome<()> {
        self.run("choose", chosen, vec![Statement::Choice(chosen)]).await
    }
}
