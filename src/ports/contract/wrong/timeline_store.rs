//! Wrong timeline stores.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Every, Hushed, faults, tweets::widened};
use crate::{
    domain::{
        Body, MediaList, PairChange, TweetId, UserId, Window,
        fanout::{BUCKETS, Class},
        relations::Relation,
    },
    ports::{
        AuthorRow, FollowerPage, Outcome, Read, StoredBody, TimelineStore,
        contract::timeline_store::Context, timeline_store::IDS_MAX,
    },
    wire::events::FollowerCursor,
};

faults! {
    /// What never arrived is taken for deleted.
    TakesAbsentForDeleted: [there_is_nothing_at_first],
    /// Tweets are kept without their pictures.
    DropsPictures: [a_tweet_is_written_in_all_its_places],
    /// One tweet in three is acknowledged and not written.
    DropsOneInThree: [a_tweet_is_written_in_all_its_places],
    /// Bodies come in the order of their ids, each once.
    SortsBodies: [bodies_come_in_the_order_asked_for],
    /// Too many ids are cut.
    CutsIds: [many_ids_may_be_asked_for],
    /// A tweet that is told twice is listed twice.
    DoublesRepeats: [a_tweet_that_is_told_again_stays_the_same],
    /// A tweet that comes after its deletion lives.
    RevivesDeleted:
        [a_deletion_stays_whatever_comes_after, a_deletion_before_its_tweet_stays],
    /// Deleted tweets are not listed.
    HidesDeletedIds: [deleted_tweets_stay_in_the_list],
    /// The latest is the last that came.
    LatestIsTheLastToCome: [the_latest_never_goes_back],
    /// The bounds of a window are inside.
    IncludesBounds: [a_window_shows_its_part],
    /// After an id come the newest, not the nearest.
    SkipsTheNearest: [a_window_shows_its_part],
    /// Lists are oldest first.
    Reorders: [a_window_shows_its_part],
    /// The last class that was set counts.
    ClassGoesBack: [a_class_never_goes_back],
    /// A class is forgotten with the next tweet.
    TweetsResetClass: [class_and_latest_do_not_touch_each_other],
    /// Only the user with the smaller id has a copy.
    WritesOneCopy: [both_users_have_their_copy],
    /// Whoever follows a user is a relation of hers.
    ListsFollowers: [who_never_did_more_than_follow_is_no_relation],
    /// Blocks are only told to who blocks.
    TellsNoBlocks: [a_copy_tells_the_whole_state],
    /// A page of relations begins with the last of the page before.
    RepeatsRelations: [relations_are_paged_each_once_in_order],
    /// A page of relations leaves one out at its edge.
    SkipsRelations: [relations_are_paged_each_once_in_order],
    /// Of several versions the last to come counts.
    LastVersionToComeCounts: [
        the_highest_version_counts_in_any_order,
        the_highest_version_counts_within_one_call
    ],
    /// Of several versions the lowest counts.
    LowestVersionCounts: [versions_at_once_leave_the_highest],
    /// Who unfollowed goes on being a follower.
    KeepsFollowers: [who_unfollowed_is_no_follower],
    /// A page begins with the last follower of the page before.
    RepeatsAtPageEdges: [followers_are_paged_each_once_in_order],
    /// A page leaves out a follower at its edge.
    SkipsAtPageEdges: [followers_are_paged_each_once_in_order],
    /// Ranges of buckets are not looked at.
    IgnoresBuckets: [bucket_ranges_part_the_followers],
    /// A cursor is a count of those that were read.
    CountsInCursors: [a_cursor_goes_on_where_it_points],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

#[derive(Default)]
struct Memory {
    told: BTreeMap<TweetId, Vec<Body>>,
    deleted: BTreeSet<TweetId>,
    last: BTreeMap<UserId, TweetId>,
    class: BTreeMap<UserId, Class>,
    version: u64,
    ever: BTreeSet<(UserId, UserId)>,
}

struct Wrong {
    inner: Arc<dyn TimelineStore>,
    fault: Fault,
    every: Every,
    hushed: Hushed,
    memory: Mutex<Memory>,
}

/// The store of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let inner = context.store;
    let every = Every::default();
    let store = Arc::new(Wrong { inner, fault, every, hushed, memory: Mutex::default() });
    Context { store, outage, ..context }
}

impl Wrong {
    /// The bodies that are shown although they were deleted before they came.
    fn revived(&self, id: TweetId) -> Option<StoredBody> {
        let memory = self.memory.lock();
        let body = memory.told.get(&id)?.last()?.clone();
        (!memory.deleted.contains(&id)).then_some(StoredBody::Live(body))
    }

    fn bend_author(&self, id: UserId, row: &mut AuthorRow) {
        let memory = self.memory.lock();
        match self.fault {
            Fault::LatestIsTheLastToCome => {
                row.latest = memory.last.get(&id).copied().unwrap_or_default();
            }
            Fault::ClassGoesBack | Fault::TweetsResetClass => {
                row.class = memory.class.get(&id).copied().unwrap_or_default();
            }
            _ => {}
        }
    }

    fn bend_changes(&self, changes: &[PairChange]) -> Vec<PairChange> {
        let memory = &mut *self.memory.lock();
        let mut bent = changes.to_vec();
        for change in &mut bent {
            memory.version += 1;
            match self.fault {
                Fault::LastVersionToComeCounts => change.version = memory.version,
                Fault::LowestVersionCounts => change.version = 1_000 - change.version,
                _ => {}
            }
            if change.state.high.follows {
                memory.ever.insert((change.pair.low, change.pair.high));
            }
        }
        bent
    }

    /// A cursor whose follower number is how many were read.
    async fn counted(
        &self,
        author: UserId,
        buckets: (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize,
    ) -> Read<FollowerPage> {
        let done = after.map_or(0, |cursor| cursor.follower.0 as usize);
        let all = self.inner.followers(author, buckets, None, 10_000).await?.followers;
        let followers: Vec<UserId> = all.iter().skip(done).take(limit).copied().collect();
        let read = done + followers.len();
        let cursor = FollowerCursor { bucket: 0, follower: UserId(read as u64) };
        Ok(FollowerPage { followers, next: (read < all.len()).then_some(cursor) })
    }
}

#[async_trait]
impl TimelineStore for Wrong {
    async fn put_tweets(&self, bodies: &[Body]) -> Outcome<()> {
        if self.hushed.is_down() {
            return Outcome::Done(());
        }
        {
            let memory = &mut *self.memory.lock();
            for body in bodies {
                memory.told.entry(body.id).or_default().push(body.clone());
                memory.deleted.remove(&body.id);
                memory.last.insert(body.author, body.id);
                if self.fault == Fault::TweetsResetClass {
                    memory.class.remove(&body.author);
                }
            }
        }
        let drops = |_: &&Body| !(self.fault == Fault::DropsOneInThree && self.every.nth(3));
        let mut kept: Vec<Body> = bodies.iter().filter(drops).cloned().collect();
        if self.fault == Fault::DropsPictures {
            for body in &mut kept {
                body.media = MediaList::default();
            }
        }
        self.inner.put_tweets(&kept).await
    }

    async fn delete_tweets(&self, ids: &[TweetId]) -> Outcome<()> {
        if self.hushed.is_down() {
            return Outcome::Done(());
        }
        self.memory.lock().deleted.extend(ids);
        self.inner.delete_tweets(ids).await
    }

    async fn bodies(&self, ids: &[TweetId]) -> Read<Vec<Option<StoredBody>>> {
        if self.hushed.is_down() {
            return Ok(vec![None; ids.len()]);
        }
        let mut ids = ids.to_vec();
        match self.fault {
            Fault::SortsBodies => {
                ids.sort_unstable();
                ids.dedup();
            }
            Fault::CutsIds => ids.truncate(100),
            _ => {}
        }
        let mut found = self.inner.bodies(&ids).await?;
        for (id, body) in ids.iter().zip(&mut found) {
            match (self.fault, &body) {
                (Fault::TakesAbsentForDeleted, None) => *body = Some(StoredBody::Deleted),
                (Fault::RevivesDeleted, Some(StoredBody::Deleted)) => {
                    *body = self.revived(*id).or(Some(StoredBody::Deleted));
                }
                _ => {}
            }
        }
        Ok(found)
    }

    async fn author_tweets(
        &self,
        author: UserId,
        window: Window,
        limit: usize,
    ) -> Read<Vec<TweetId>> {
        if self.hushed.is_down() {
            return Ok(Vec::new());
        }
        let mut ids = match (self.fault, window) {
            (Fault::IncludesBounds, _) => {
                self.inner.author_tweets(author, widened(window), limit).await?
            }
            (Fault::SkipsTheNearest, Window::After(_)) => {
                let mut all = self.inner.author_tweets(author, Window::Latest, limit).await?;
                all.retain(|id| window.holds(*id));
                all
            }
            _ => self.inner.author_tweets(author, window, limit).await?,
        };
        let memory = self.memory.lock();
        match self.fault {
            Fault::Reorders => ids.reverse(),
            Fault::HidesDeletedIds => ids.retain(|id| !memory.deleted.contains(id)),
            Fault::DoublesRepeats => {
                let times = |id: &TweetId| memory.told.get(id).map_or(1, Vec::len);
                ids = ids.iter().flat_map(|id| vec![*id; times(id)]).collect();
            }
            _ => {}
        }
        Ok(ids)
    }

    async fn authors(&self, ids: &[UserId]) -> Read<Vec<AuthorRow>> {
        if self.hushed.is_down() {
            return Ok(vec![AuthorRow::default(); ids.len()]);
        }
        let mut rows = self.inner.authors(ids).await?;
        for (id, row) in ids.iter().zip(&mut rows) {
            self.bend_author(*id, row);
        }
        Ok(rows)
    }

    async fn set_class(&self, author: UserId, class: Class) -> Outcome<()> {
        if self.hushed.is_down() {
            return Outcome::Done(());
        }
        self.memory.lock().class.insert(author, class);
        self.inner.set_class(author, class).await
    }

    async fn put_pairs(&self, changes: &[PairChange]) -> Outcome<()> {
        if self.hushed.is_down() {
            return Outcome::Done(());
        }
        let bent = self.bend_changes(changes);
        if self.fault == Fault::LastVersionToComeCounts {
            // One by one, so that the order within one call counts too.
            for change in bent {
                drop(self.inner.put_pairs(&[change]).await);
            }
            return Outcome::Done(());
        }
        self.inner.put_pairs(&bent).await
    }

    async fn relations(
        &self,
        user: UserId,
        after: Option<UserId>,
        limit: usize,
    ) -> Read<Vec<Relation>> {
        if self.hushed.is_down() {
            return Ok(Vec::new());
        }
        let after = match self.fault {
            Fault::RepeatsRelations => after.map(|after| UserId(after.0 - 1)),
            Fault::SkipsRelations => after.map(|after| UserId(after.0 + 1)),
            _ => after,
        };
        let mut rows = self.inner.relations(user, after, limit).await?;
        match self.fault {
            Fault::WritesOneCopy => rows.retain(|row| row.other > user),
            Fault::TellsNoBlocks => {
                for row in rows.iter_mut().filter(|row| row.other < user) {
                    row.blocked = false;
                }
            }
            Fault::ListsFollowers => {
                let all = self.inner.followers(user, (0, BUCKETS), None, IDS_MAX).await?;
                let known: BTreeSet<UserId> = rows.iter().map(|row| row.other).collect();
                let rest = all.followers.into_iter().filter(|other| !known.contains(other));
                rows.extend(rest.map(|other| Relation {
                    other,
                    follows: false,
                    blocked: false,
                    mutes: false,
                }));
                rows.sort_by_key(|row| row.other);
            }
            _ => {}
        }
        Ok(rows)
    }

    async fn followers(
        &self,
        author: UserId,
        buckets: (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize,
    ) -> Read<FollowerPage> {
        if self.hushed.is_down() {
            return Ok(FollowerPage::default());
        }
        let (mut buckets, mut after) = (buckets, after);
        match (self.fault, &mut after) {
            (Fault::CountsInCursors, _) => {
                return self.counted(author, buckets, after, limit).await;
            }
            (Fault::RepeatsAtPageEdges, Some(cursor)) if limit > 1 => cursor.follower.0 -= 1,
            (Fault::IgnoresBuckets, _) => buckets = (0, BUCKETS),
            _ => {}
        }
        let mut page = self.inner.followers(author, buckets, after, limit).await?;
        match self.fault {
            Fault::SkipsAtPageEdges if page.next.is_some() => drop(page.followers.pop()),
            Fault::KeepsFollowers => {
                let ever = &self.memory.lock().ever;
                let of = ever.iter().filter(|(followee, _)| *followee == author);
                page.followers = of.map(|(_, follower)| *follower).collect();
            }
            _ => {}
        }
        Ok(page)
    }
}
