//! The copy of a whole data set in bulk.
//!
//! What a user follows, who follows a user, and where a user's tweets lie are rows of one partition each:
//! they go [`BATCH_ROWS`] at a time, in batches without a log, which cost the cluster one write. Rows are
//! those that calls would have written, so filling again changes nothing.

use scylla::statement::{
    Consistency,
    batch::{Batch, BatchType},
    prepared::PreparedStatement,
};

use super::{
    cql::Work,
    fault::{Fault, Tally},
    followers::{SMALL, SMALL_MAX, part_of, signed},
    store::CassandraTimelineStore,
    years::year_of,
};
use crate::{
    adapters::sql::key,
    domain::{Body, TweetId, UserId, fanout::bucket_of},
    ports::{Outcome, SeedUser},
};

const STORE: &str = "seeds";
/// Rows of one batch: Amazon Keyspaces takes no more.
pub(super) const BATCH_ROWS: usize = 30;

/// followee, part, bucket, follower, version, follows
type Follower = (i64, i16, i16, i64, i64, bool);
/// user, other, version, follows, blocked, mutes
type Relation = (i64, i64, i64, bool, bool, bool);
/// author, year, tweet
type Place = (i64, i16, i64);

impl CassandraTimelineStore {
    /// Relations, followers, lists of tweets and the latest of each of `users`.
    pub async fn seed_users(&self, users: &[SeedUser]) -> Outcome<()> {
        let mut tally = Tally::default();
        let big = users.iter().filter(|user| user.followers.len() > SMALL_MAX);
        let big = big.map(|user| Box::pin(self.make_big(user.account.id)) as Work<'_, ()>);
        // Before their rows: what lies in the part of a bucket is behind the flag.
        self.cql.write_all(&mut tally, big.collect()).await;
        let mut writes: Vec<Work<'_, ()>> = Vec::new();
        for user in users {
            let id = user.account.id;
            for rows in user.following.chunks(BATCH_ROWS) {
                writes.push(Box::pin(self.seed_relations(id, rows)));
            }
            if user.followers.len() > SMALL_MAX {
                let mut rows = user.followers.clone();
                rows.sort_by_key(|(follower, _)| bucket_of(*follower));
                let same = |a: &(UserId, u64), b: &(UserId, u64)| bucket_of(a.0) == bucket_of(b.0);
                for rows in rows.chunk_by(same).flat_map(|rows| rows.chunks(BATCH_ROWS)) {
                    let rows = rows.to_vec();
                    let part =
                        rows.first().map_or(SMALL, |(id, _)| part_of(signed(bucket_of(*id))));
                    writes.push(Box::pin(self.seed_followers(id, part, rows)));
                }
            } else {
                for rows in user.followers.chunks(BATCH_ROWS) {
                    writes.push(Box::pin(self.seed_followers(id, SMALL, rows.to_vec())));
                }
            }
            let same = |a: &TweetId, b: &TweetId| year_of(*a) == year_of(*b);
            for ids in user.tweets.chunk_by(same).flat_map(|ids| ids.chunks(BATCH_ROWS)) {
                writes.push(Box::pin(self.seed_places(id, ids)));
            }
            if let Some(&last) = user.tweets.last() {
                writes.push(Box::pin(self.put_latest(id, last)));
            }
        }
        self.cql.write_all(&mut tally, writes).await;
        tally.outcome(STORE)
    }

    /// Bodies of tweets, each a partition.
    pub async fn seed_bodies(&self, bodies: &[Body]) -> Outcome<()> {
        let mut tally = Tally::default();
        let writes = bodies.iter().map(|body| Box::pin(self.put_body(body)) as Work<'_, ()>);
        self.cql.write_all(&mut tally, writes.collect()).await;
        tally.outcome(STORE)
    }

    async fn make_big(&self, author: UserId) -> Result<(), Fault> {
        self.cql.write(&self.cql.statements.put_big, (key(author.0),)).await
    }

    async fn seed_relations(&self, user: UserId, rows: &[(UserId, u64)]) -> Result<(), Fault> {
        let row = |&(other, version): &(UserId, u64)| -> Relation {
            (key(user.0), key(other.0), key(version), true, false, false)
        };
        let rows: Vec<Relation> = rows.iter().map(row).collect();
        self.write_batch(&self.cql.statements.put_relation, &rows).await
    }

    async fn seed_followers(
        &self,
        followee: UserId,
        part: i16,
        rows: Vec<(UserId, u64)>,
    ) -> Result<(), Fault> {
        let row = |(follower, version): (UserId, u64)| -> Follower {
            let bucket = signed(bucket_of(follower));
            (key(followee.0), part, bucket, key(follower.0), key(version), true)
        };
        let rows: Vec<Follower> = rows.into_iter().map(row).collect();
        self.write_batch(&self.cql.statements.put_follower, &rows).await
    }

    async fn seed_places(&self, author: UserId, ids: &[TweetId]) -> Result<(), Fault> {
        let row = |&id: &TweetId| -> Place { (key(author.0), year_of(id), key(id.0)) };
        let rows: Vec<Place> = ids.iter().map(row).collect();
        self.write_batch(&self.cql.statements.put_place, &rows).await
    }

    /// Writes rows of one partition at once.
    async fn write_batch<R: scylla::serialize::row::SerializeRow + Sync>(
        &self,
        statement: &PreparedStatement,
        rows: &[R],
    ) -> Result<(), Fault> {
        let mut batch = Batch::new(BatchType::Unlogged);
        batch.set_consistency(Consistency::LocalQuorum);
        batch.set_is_idempotent(true);
        for _ in rows {
            batch.append_statement(statement.clone());
        }
        let once = || Box::pin(self.cql.session.batch(&batch, rows)) as _;
        self.cql.tried(once).await.map(drop)
    }
}
