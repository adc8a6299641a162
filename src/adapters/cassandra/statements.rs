//! Every statement of the store, in one list, prepared once.
//!
//! `ks.` stands for the keyspace. Columns are named, never `*`: the driver decodes answers by what it
//! learnt when it prepared. Of the rules of Amazon Keyspaces that [`super::conformance`] checks, the
//! shape of the list is one: a statement reads or writes one partition.

use scylla::{
    client::session::Session, errors::PrepareError, statement::Consistency,
    statement::prepared::PreparedStatement, statement::unprepared::Statement,
};

/// Rows of one page of an answer. Longer answers are read page by page, so that no server holds more
/// than some 100 kB of an answer.
pub(super) const PAGE_ROWS: i32 = 1_000;
/// What a write must have reached before it counts, and a read before it is believed.
const CONSISTENCY: Consistency = Consistency::LocalQuorum;

macro_rules! statements {
    ($($(#[$doc:meta])* $name:ident = $cql:literal;)+) => {
        /// The prepared statements.
        pub(super) struct Statements {
            $($(#[$doc])* pub(super) $name: PreparedStatement,)+
        }

        /// Names and texts of all statements.
        #[cfg(test)]
        pub(super) const TEXTS: &[(&str, &str)] = &[$((stringify!($name), $cql)),+];

        impl Statements {
            /// Prepares all of them over the tables of `keyspace`.
            pub(super) async fn prepare(
                session: &Session,
                keyspace: &str,
            ) -> Result<Self, PrepareError> {
                Ok(Self { $($name: prepare(session, keyspace, $cql).await?,)+ })
            }
        }
    };
}

statements! {
    /// The body of a tweet. Says nothing of its deletion.
    put_body = "
        insert into ks.tweets (tweet_id, author_id, handle, name, text, created_at_ms, media)
        values (?, ?, ?, ?, ?, ?, ?)";
    /// A tweet's place in its author's list.
    put_place = "insert into ks.author_tweets (author_id, year, tweet_id) values (?, ?, ?)";
    /// The author has a tweet that is this new.
    put_latest = "insert into ks.authors (author_id, latest) values (?, ?)";
    /// The tweet is deleted, whether its body has arrived or not.
    put_deleted = "insert into ks.tweets (tweet_id, deleted) values (?, true)";
    /// The author is read at read time as well.
    put_both = "insert into ks.authors (author_id, both) values (?, true)";
    /// The author is only read at read time.
    put_pull = "insert into ks.authors (author_id, pull) values (?, true)";
    /// New followers of the author lie in the parts of their buckets.
    put_big = "insert into ks.authors (author_id, big) values (?, true)";
    /// One version of who follows.
    put_follower = "
        insert into ks.followers (followee_id, part, bucket, follower_id, version, follows)
        values (?, ?, ?, ?, ?, ?)";
    /// One version of what a user does and meets.
    put_relation = "
        insert into ks.relations (user_id, other_id, version, follows, blocked, mutes)
        values (?, ?, ?, ?, ?, ?)";
    /// A body, and whether it was deleted.
    body = "
        select author_id, handle, name, text, created_at_ms, media, deleted
        from ks.tweets where tweet_id = ?";
    /// Ids between two bounds, the highest first.
    newest = "
        select tweet_id from ks.author_tweets
        where author_id = ? and year = ? and tweet_id > ? and tweet_id < ?
        order by tweet_id desc limit ?";
    /// Ids between two bounds, the lowest first.
    nearest = "
        select tweet_id from ks.author_tweets
        where author_id = ? and year = ? and tweet_id > ? and tweet_id < ?
        order by tweet_id asc limit ?";
    /// The author's highest row, and what stands there once.
    author = "select latest, both, pull, big from ks.authors where author_id = ? limit 1";
    /// Followers of one bucket, after one of them.
    followers_after = "
        select bucket, follower_id, version, follows from ks.followers
        where followee_id = ? and part = ? and bucket = ? and follower_id > ? limit ?";
    /// Followers of a range of buckets.
    followers_of = "
        select bucket, follower_id, version, follows from ks.followers
        where followee_id = ? and part = ? and bucket >= ? and bucket < ? limit ?";
    /// A delivery in a home timeline.
    put_home = "
        insert into ks.home_timelines (user_id, year, tweet_id, author_id) values (?, ?, ?, ?)";
    /// A home timeline is not complete at or below this id.
    put_floor = "insert into ks.home_floors (user_id, floor) values (?, ?)";
    /// The highest of a home timeline's floors.
    home_floor = "select floor from ks.home_floors where user_id = ? limit 1";
    /// Entries between two bounds, the highest first.
    home_newest = "
        select tweet_id, author_id from ks.home_timelines
        where user_id = ? and year = ? and tweet_id > ? and tweet_id < ?
        order by tweet_id desc limit ?";
    /// Entries between two bounds, the lowest first.
    home_nearest = "
        select tweet_id, author_id from ks.home_timelines
        where user_id = ? and year = ? and tweet_id > ? and tweet_id < ?
        order by tweet_id asc limit ?";
    /// A choice of strategy.
    put_strategy = "
        insert into ks.strategies (name, version, strategy, since) values (?, ?, ?, ?)";
    /// The choice that counts.
    strategy = "
        select version, strategy, since from ks.strategies where name = ? limit 1";
    /// Relations after another user.
    relations = "
        select other_id, version, follows, blocked, mutes from ks.relations
        where user_id = ? and other_id > ? limit ?";
}

async fn prepare(
    session: &Session,
    keyspace: &str,
    cql: &str,
) -> Result<PreparedStatement, PrepareError> {
    let mut text = Statement::new(in_keyspace(cql, keyspace));
    text.set_page_size(PAGE_ROWS);
    let mut statement = session.prepare(text).await?;
    statement.set_consistency(CONSISTENCY);
    // Cassandra would send the columns' names and types with every answer otherwise.
    statement.set_use_cached_result_metadata(true);
    // Reads, and writes of values that are always the same for their key.
    statement.set_is_idempotent(true);
    Ok(statement)
}

/// `cql` over the tables of `keyspace`.
pub(super) fn in_keyspace(cql: &str, keyspace: &str) -> String {
    cql.replace("ks.", &format!("{keyspace}."))
}
