//! What every [`TimelineStore`] does.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Check, Outage, behaviours,
    kit::{
        Must, WINDOWS, concurrently, is_error, not_done, pictured as body, same, that, tweets,
        users,
    },
};
use crate::{
    domain::{
        Pair, PairChange, PairState, TweetId, UserId, Window,
        edge::Side,
        fanout::{BUCKETS, Class, bucket_of, split_buckets},
        relations::Relation,
    },
    ports::{
        AuthorRow, Outcome, StoredBody, TimelineStore,
        timeline_store::{FollowerPage, IDS_MAX},
    },
    rt::{BoxFuture, Rt},
};

/// A store that holds nothing.
#[derive(Clone)]
pub struct Context {
    /// The store.
    pub store: Arc<dyn TimelineStore>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes the store down.
    pub outage: Option<Outage>,
}

behaviours![
    there_is_nothing_at_first,
    a_tweet_is_written_in_all_its_places,
    bodies_come_in_the_order_asked_for,
    many_ids_may_be_asked_for,
    a_tweet_that_is_told_again_stays_the_same,
    a_deletion_stays_whatever_comes_after,
    a_deletion_before_its_tweet_stays,
    deleted_tweets_stay_in_the_list,
    the_latest_never_goes_back,
    a_window_shows_its_part,
    a_class_never_goes_back,
    class_and_latest_do_not_touch_each_other,
    both_users_have_their_copy,
    who_never_did_more_than_follow_is_no_relation,
    a_copy_tells_the_whole_state,
    relations_are_paged_each_once_in_order,
    the_highest_version_counts_in_any_order,
    the_highest_version_counts_within_one_call,
    versions_at_once_leave_the_highest,
    who_unfollowed_is_no_follower,
    followers_are_paged_each_once_in_order,
    bucket_ranges_part_the_followers,
    a_cursor_goes_on_where_it_points,
    an_outage_is_an_error,
];

/// A pair in which both sides are as given, the smaller id first.
fn pair(low: u64, high: u64, version: u64, sides: (Side, Side)) -> PairChange {
    PairChange {
        pair: Pair { low: UserId(low), high: UserId(high) },
        version,
        state: PairState { low: sides.0, high: sides.1 },
    }
}

const NONE: Side = Side { follows: false, blocks: false, mutes: false };
const FOLLOWS: Side = Side { follows: true, blocks: false, mutes: false };

/// `high` follows `low`, or not any more.
fn follow(high: u64, low: u64, version: u64, on: bool) -> PairChange {
    pair(low, high, version, (NONE, if on { FOLLOWS } else { NONE }))
}

const fn relation(other: u64, follows: bool, blocked: bool, mutes: bool) -> Relation {
    Relation { other: UserId(other), follows, blocked, mutes }
}

/// Followers in the order in which they are paged.
fn in_order(mut followers: Vec<UserId>) -> Vec<UserId> {
    followers.sort_by_key(|&user| (bucket_of(user), user));
    followers
}

impl Context {
    async fn put(&self, tweets: &[(u64, u64)]) -> Check {
        let bodies: Vec<_> = tweets.iter().map(|&(id, author)| body(id, author)).collect();
        self.store.put_tweets(&bodies).await.must("put_tweets")
    }

    async fn delete(&self, ids: &[u64]) -> Check {
        self.store.delete_tweets(&tweets(ids)).await.must("delete_tweets")
    }

    async fn bodies(&self, ids: &[u64]) -> Result<Vec<Option<StoredBody>>, String> {
        self.store.bodies(&tweets(ids)).await.must("bodies")
    }

    async fn lists(&self, author: u64, expected: &[u64]) -> Check {
        let found = self.store.author_tweets(UserId(author), Window::Latest, 100).await;
        same(&format!("tweets of {author}"), &found.must("author_tweets")?, &tweets(expected))
    }

    async fn author(&self, author: u64) -> Result<AuthorRow, String> {
        let rows = self.store.authors(&[UserId(author)]).await.must("authors")?;
        same("rows", &rows.len(), &1)?;
        Ok(rows[0])
    }

    async fn put_pairs(&self, changes: &[PairChange]) -> Check {
        self.store.put_pairs(changes).await.must("put_pairs")
    }

    async fn relations(&self, user: u64) -> Result<Vec<Relation>, String> {
        self.store.relations(UserId(user), None, IDS_MAX).await.must("relations")
    }

    /// All followers in a range of buckets, by pages of about `limit`.
    async fn followers(
        &self,
        author: u64,
        buckets: (u16, u16),
        limit: usize,
    ) -> Result<Vec<UserId>, String> {
        let (mut all, mut after) = (Vec::new(), None);
        // Bounds a cursor that does not go on; a page may be short, but not for ever.
        for _ in 0..2_000 {
            let page = self.store.followers(UserId(author), buckets, after, limit).await;
            let FollowerPage { followers, next } = page.must("followers")?;
            that(followers.len() <= limit * 2, "a page has about as many as asked for")?;
            all.extend(followers);
            match next {
                Some(_) => after = next,
                None => return Ok(all),
            }
        }
        Err("the pages of followers do not end".to_owned())
    }

    async fn followed_by(&self, author: u64, expected: &[u64]) -> Check {
        let found = self.followers(author, (0, BUCKETS), 100).await?;
        same(&format!("followers of {author}"), &found, &in_order(users(expected)))
    }
}

async fn there_is_nothing_at_first(context: Context) -> Check {
    same("bodies", &context.bodies(&[1, 2]).await?, &vec![None, None])?;
    same("bodies of nothing", &context.bodies(&[]).await?, &Vec::new())?;
    same("author", &context.author(1).await?, &AuthorRow::default())?;
    same("relations", &context.relations(1).await?, &Vec::new())?;
    context.lists(1, &[]).await?;
    context.followed_by(1, &[]).await
}

async fn a_tweet_is_written_in_all_its_places(context: Context) -> Check {
    context.put(&[(10, 1), (20, 2), (30, 1)]).await?;
    let live = |id, author| Some(StoredBody::Live(body(id, author)));
    let found = context.bodies(&[10, 20, 30]).await?;
    same("bodies", &found, &vec![live(10, 1), live(20, 2), live(30, 1)])?;
    context.lists(1, &[30, 10]).await?;
    context.lists(2, &[20]).await?;
    same("latest", &context.author(1).await?.latest, &TweetId(30))?;
    same("latest", &context.author(2).await?.latest, &TweetId(20))
}

async fn bodies_come_in_the_order_asked_for(context: Context) -> Check {
    context.put(&[(10, 1), (20, 1), (30, 1)]).await?;
    context.delete(&[20]).await?;
    let live = |id| Some(StoredBody::Live(body(id, 1)));
    let expected = vec![live(30), None, live(10), Some(StoredBody::Deleted), live(30)];
    same("bodies", &context.bodies(&[30, 99, 10, 20, 30]).await?, &expected)?;
    let rows = context.store.authors(&users(&[7, 1, 7])).await.must("authors")?;
    let known = AuthorRow { class: Class::Push, latest: TweetId(30) };
    same("authors", &rows, &vec![AuthorRow::default(), known, AuthorRow::default()])
}

async fn many_ids_may_be_asked_for(context: Context) -> Check {
    context.put(&[(500, 500)]).await?;
    let ids: Vec<u64> = (1..=IDS_MAX as u64).collect();
    let bodies = context.bodies(&ids).await?;
    same("bodies", &bodies.len(), &IDS_MAX)?;
    that(bodies.iter().position(Option::is_some) == Some(499), "a body is at its place")?;
    let rows = context.store.authors(&users(&ids)).await.must("authors")?;
    same("authors", &rows.len(), &IDS_MAX)?;
    same("latest at its place", &rows[499].latest, &TweetId(500))
}

async fn a_tweet_that_is_told_again_stays_the_same(context: Context) -> Check {
    for _ in 0..3 {
        context.put(&[(10, 1), (20, 1), (10, 1)]).await?;
    }
    context.lists(1, &[20, 10]).await?;
    let live = |id| Some(StoredBody::Live(body(id, 1)));
    same("bodies", &context.bodies(&[10, 20]).await?, &vec![live(10), live(20)])
}

async fn a_deletion_stays_whatever_comes_after(context: Context) -> Check {
    context.put(&[(10, 1)]).await?;
    context.delete(&[10]).await?;
    same("body", &context.bodies(&[10]).await?, &vec![Some(StoredBody::Deleted)])?;
    context.put(&[(10, 1), (20, 1)]).await?;
    same("body", &context.bodies(&[10]).await?, &vec![Some(StoredBody::Deleted)])?;
    context.delete(&[10]).await?;
    same("body", &context.bodies(&[10]).await?, &vec![Some(StoredBody::Deleted)])?;
    let live = Some(StoredBody::Live(body(20, 1)));
    same("its neighbour", &context.bodies(&[20]).await?, &vec![live])
}

async fn a_deletion_before_its_tweet_stays(context: Context) -> Check {
    context.delete(&[10]).await?;
    same("body", &context.bodies(&[10]).await?, &vec![Some(StoredBody::Deleted)])?;
    context.put(&[(10, 1)]).await?;
    same("body", &context.bodies(&[10]).await?, &vec![Some(StoredBody::Deleted)])
}

async fn deleted_tweets_stay_in_the_list(context: Context) -> Check {
    context.put(&[(10, 1), (20, 1)]).await?;
    context.delete(&[20]).await?;
    context.lists(1, &[20, 10]).await?;
    same("latest", &context.author(1).await?.latest, &TweetId(20))
}

async fn the_latest_never_goes_back(context: Context) -> Check {
    context.put(&[(30, 1)]).await?;
    context.put(&[(10, 1)]).await?;
    same("latest", &context.author(1).await?.latest, &TweetId(30))?;
    context.put(&[(50, 1), (40, 1)]).await?;
    same("latest", &context.author(1).await?.latest, &TweetId(50))?;
    context.lists(1, &[50, 40, 30, 10]).await
}

async fn a_window_shows_its_part(context: Context) -> Check {
    for id in [30, 10, 50, 20, 40] {
        context.put(&[(id, 1), (id + 5, 2)]).await?;
    }
    for &(window, limit, expected) in WINDOWS {
        let found = context.store.author_tweets(UserId(1), window, limit).await;
        let found = found.must("author_tweets")?;
        same(&format!("{window:?}, {limit}"), &found, &tweets(expected))?;
    }
    Ok(())
}

async fn a_class_never_goes_back(context: Context) -> Check {
    let steps = [
        (Class::Push, Class::Push),
        (Class::Both, Class::Both),
        (Class::Push, Class::Both),
        (Class::Both, Class::Both),
        (Class::Pull, Class::Pull),
        (Class::Both, Class::Pull),
        (Class::Push, Class::Pull),
    ];
    for (asked, expected) in steps {
        context.store.set_class(UserId(1), asked).await.must("set_class")?;
        same(&format!("class after {asked:?}"), &context.author(1).await?.class, &expected)?;
    }
    same("the class of another", &context.author(2).await?.class, &Class::Push)
}

async fn class_and_latest_do_not_touch_each_other(context: Context) -> Check {
    context.put(&[(10, 1)]).await?;
    context.store.set_class(UserId(1), Class::Both).await.must("set_class")?;
    let row = AuthorRow { class: Class::Both, latest: TweetId(10) };
    same("author", &context.author(1).await?, &row)?;
    context.put(&[(20, 1)]).await?;
    let row = AuthorRow { class: Class::Both, latest: TweetId(20) };
    same("author", &context.author(1).await?, &row)
}

async fn both_users_have_their_copy(context: Context) -> Check {
    context.put_pairs(&[follow(9, 1, 2, true), pair(1, 5, 2, (FOLLOWS, NONE))]).await?;
    let own = vec![relation(5, true, false, false), relation(9, false, false, false)];
    same("relations of 1", &context.relations(1).await?, &own)?;
    let theirs = vec![relation(1, true, false, false)];
    same("relations of 9", &context.relations(9).await?, &theirs)?;
    let theirs = vec![relation(1, false, false, false)];
    same("relations of 5", &context.relations(5).await?, &theirs)?;
    context.followed_by(1, &[9]).await?;
    context.followed_by(5, &[1]).await?;
    context.followed_by(9, &[]).await
}

async fn who_never_did_more_than_follow_is_no_relation(context: Context) -> Check {
    let crowd: Vec<PairChange> = CROWD.map(|id| follow(id, 1, 1, true)).collect();
    context.put_pairs(&crowd).await?;
    same("relations of 1", &context.relations(1).await?, &Vec::new())?;
    same(
        "relations of 101",
        &context.relations(101).await?,
        &vec![relation(1, true, false, false)],
    )?;
    context.followed_by(1, &CROWD.collect::<Vec<u64>>()).await?;
    // An older version that comes late is still older.
    context.put_pairs(&[pair(1, 101, 2, (FOLLOWS, FOLLOWS)), follow(101, 1, 1, true)]).await?;
    same("relations of 1", &context.relations(1).await?, &vec![relation(101, true, false, false)])
}

async fn a_copy_tells_the_whole_state(context: Context) -> Check {
    let blocks = Side { blocks: true, ..NONE };
    let mutes = Side { follows: true, mutes: true, ..NONE };
    let changes = [pair(1, 2, 1, (blocks, NONE)), pair(1, 3, 1, (mutes, FOLLOWS))];
    context.put_pairs(&changes).await?;
    let own = vec![relation(2, false, true, false), relation(3, true, false, true)];
    same("relations of 1", &context.relations(1).await?, &own)?;
    let theirs = vec![relation(1, false, true, false)];
    same("relations of 2", &context.relations(2).await?, &theirs)?;
    let theirs = vec![relation(1, true, false, false)];
    same("relations of 3", &context.relations(3).await?, &theirs)
}

async fn relations_are_paged_each_once_in_order(context: Context) -> Check {
    let others = [9, 5, 7, 3, 8];
    for other in others {
        context.put_pairs(&[pair(1, other, 1, (FOLLOWS, NONE))]).await?;
    }
    let page = async |after: Option<u64>, limit| {
        let found = context.store.relations(UserId(1), after.map(UserId), limit).await;
        let rows = found.must("relations")?;
        Ok::<Vec<u64>, String>(rows.iter().map(|row| row.other.0).collect())
    };
    same("all", &page(None, IDS_MAX).await?, &vec![3, 5, 7, 8, 9])?;
    same("first page", &page(None, 2).await?, &vec![3, 5])?;
    same("second page", &page(Some(5), 2).await?, &vec![7, 8])?;
    same("last page", &page(Some(8), 2).await?, &vec![9])?;
    same("after one who is not there", &page(Some(4), 1).await?, &vec![5])?;
    same("past the end", &page(Some(9), 2).await?, &Vec::new())
}

const ORDERS: [[u64; 3]; 6] = [[1, 2, 3], [1, 3, 2], [2, 1, 3], [2, 3, 1], [3, 1, 2], [3, 2, 1]];

/// Version 3 follows if `last` says so; those before it say the contrary, then the same.
fn version(high: u64, low: u64, version: u64, last: bool) -> PairChange {
    follow(high, low, version, (version % 2 == 1) == last)
}

/// The third version of the pair is in force.
async fn third_counts(context: &Context, high: u64, low: u64, last: bool) -> Check {
    let rows = context.relations(high).await?;
    same("relation", &rows, &vec![relation(low, last, false, false)])?;
    let expected: &[u64] = if last { &[high] } else { &[] };
    context.followed_by(low, expected).await
}

async fn the_highest_version_counts_in_any_order(context: Context) -> Check {
    for (n, order) in (1..).zip(ORDERS) {
        for (low, last) in [(n, true), (n + 50, false)] {
            for told in order {
                context.put_pairs(&[version(low + 100, low, told, last)]).await?;
            }
            // The oldest again, as a late copy of the event would bring it.
            context.put_pairs(&[version(low + 100, low, order[0], last)]).await?;
            third_counts(&context, low + 100, low, last).await?;
        }
    }
    Ok(())
}

async fn the_highest_version_counts_within_one_call(context: Context) -> Check {
    for (n, order) in (1..).zip(ORDERS) {
        for (low, last) in [(n, true), (n + 50, false)] {
            let changes = order.map(|told| version(low + 100, low, told, last));
            context.put_pairs(&changes).await?;
            third_counts(&context, low + 100, low, last).await?;
        }
    }
    Ok(())
}

async fn versions_at_once_leave_the_highest(context: Context) -> Check {
    let put = |told| -> BoxFuture<'static, Outcome<()>> {
        let store = context.store.clone();
        // Only the highest follows.
        Box::pin(async move { store.put_pairs(&[follow(9, 1, told, told == 11)]).await })
    };
    let order = [4, 11, 2, 9, 6, 1, 10, 3, 8, 5, 7];
    for outcome in concurrently(&context.rt, order.into_iter().map(put)).await? {
        outcome.must("put_pairs")?;
    }
    same("relation", &context.relations(9).await?, &vec![relation(1, true, false, false)])?;
    context.followed_by(1, &[9]).await
}

async fn who_unfollowed_is_no_follower(context: Context) -> Check {
    context.put_pairs(&[follow(7, 1, 1, true), follow(8, 1, 1, true)]).await?;
    context.put_pairs(&[follow(7, 1, 2, false)]).await?;
    context.followed_by(1, &[8]).await?;
    // The edge is remembered: a late copy of the follow must not revive it.
    same("relations of 7", &context.relations(7).await?, &vec![relation(1, false, false, false)])?;
    context.put_pairs(&[follow(7, 1, 3, true)]).await?;
    context.followed_by(1, &[7, 8]).await
}

const CROWD: std::ops::Range<u64> = 100..160;

/// The crowd follows user 1, but every fifth not any more.
async fn crowd(context: &Context) -> Result<Vec<UserId>, String> {
    let changes: Vec<_> = CROWD.map(|user| follow(user, 1, 1, true)).collect();
    context.put_pairs(&changes).await?;
    let gone: Vec<_> = CROWD.step_by(5).map(|user| follow(user, 1, 2, false)).collect();
    context.put_pairs(&gone).await?;
    Ok(in_order(CROWD.filter(|user| user % 5 != 0).map(UserId).collect()))
}

async fn followers_are_paged_each_once_in_order(context: Context) -> Check {
    let expected = crowd(&context).await?;
    for limit in [1, 7, 48, 60, 1000] {
        let found = context.followers(1, (0, BUCKETS), limit).await?;
        same(&format!("followers by {limit}"), &found, &expected)?;
    }
    Ok(())
}

async fn bucket_ranges_part_the_followers(context: Context) -> Check {
    let expected = crowd(&context).await?;
    let mut all = Vec::new();
    for buckets in split_buckets(5) {
        let part = context.followers(1, buckets, 7).await?;
        let inside = |user: &UserId| (buckets.0..buckets.1).contains(&bucket_of(*user));
        that(part.iter().all(inside), "a range has only followers of its buckets")?;
        all.extend(part);
    }
    same("followers of all ranges", &all, &expected)
}

async fn a_cursor_goes_on_where_it_points(context: Context) -> Check {
    let expected = crowd(&context).await?;
    let range = (0, BUCKETS);
    let page = context.store.followers(UserId(1), range, None, 10).await.must("followers")?;
    let next = page.next.ok_or("there is no cursor before the end")?;
    // A job goes on after its crash, while others unfollow and new ones come before the cursor.
    let rest: BTreeSet<UserId> = expected.iter().skip(page.followers.len()).copied().collect();
    let before = page.followers.first().copied().unwrap_or_default();
    context.put_pairs(&[follow(before.0, 1, 3, false)]).await?;
    let again = context.store.followers(UserId(1), range, Some(next), 1000).await;
    let found: BTreeSet<UserId> = again.must("followers")?.followers.into_iter().collect();
    same("followers after the cursor", &found, &rest)
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.put(&[(10, 1)]).await?;
    outage.begin();
    let store = &context.store;
    not_done("put_tweets", &store.put_tweets(&[body(20, 1)]).await)?;
    not_done("delete_tweets", &store.delete_tweets(&tweets(&[10])).await)?;
    not_done("set_class", &store.set_class(UserId(1), Class::Both).await)?;
    not_done("put_pairs", &store.put_pairs(&[follow(7, 1, 1, true)]).await)?;
    is_error("bodies", &store.bodies(&tweets(&[10])).await)?;
    is_error("author_tweets", &store.author_tweets(UserId(1), Window::Latest, 9).await)?;
    is_error("authors", &store.authors(&users(&[1])).await)?;
    is_error("relations", &store.relations(UserId(1), None, IDS_MAX).await)?;
    is_error("followers", &store.followers(UserId(1), (0, BUCKETS), None, 9).await)
}
