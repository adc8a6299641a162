//! A fast way to load users and follow edges: large transactions in the order of the tables.
//!
//! It writes what sign-ups and follows would have left behind after their events were consumed: the
//! accounts, the pairs with their versions, right counts, and both copies in `timeline.db`. No event
//! is written. It may run again, and beside ordinary traffic, which waits for each batch.

use rusqlite::Connection;

use super::{
    graph,
    sqlite::{Db, Fault},
    timeline_store::write_pairs,
    users::add_user,
};
use crate::{
    domain::{Change, Pair, PairChange, PairState, UserId},
    ports::{Account, CreateUser, Kind, NewUser, Outcome, PasswordHash, StoreError},
};

const STORE: &str = "bulk";
/// Accounts of one transaction.
const USERS_BATCH: usize = 50_000;
/// Pairs of one transaction: large enough for neighbours to share pages, and some 150 MB of log.
const PAIRS_BATCH: usize = 1_000_000;

/// Loads users and edges; see the module text.
#[derive(Clone, Debug)]
pub struct Seeder {
    user: Db,
    timeline: Db,
}

impl Seeder {
    /// A loader of `user.db` and `timeline.db`.
    #[must_use]
    pub const fn new(user: Db, timeline: Db) -> Self {
        Self { user, timeline }
    }

    /// Adds accounts that share one password. Those that are there already stay as they are.
    /// Failed if an id or a handle belongs to somebody else; earlier batches stay then.
    pub async fn users(&self, accounts: &[Account], password: &PasswordHash) -> Outcome<()> {
        for batch in accounts.chunks(USERS_BATCH) {
            let (batch, password) = (batch.to_vec(), password.clone());
            let add = move |conn: &Connection| {
                for account in batch {
                    let user = NewUser { account, password: password.clone() };
                    if add_user(conn, &user)? != CreateUser::Created {
                        return Err(Fault::Refused("an id or a handle is taken"));
                    }
                }
                Ok(())
            };
            match self.user.write(STORE, add).await {
                Outcome::Done(()) => {}
                other => return other,
            }
        }
        Outcome::Done(())
    }

    /// Makes each first user follow the second. Gives how many edges are new; those that are there
    /// already, are given twice, or that a block forbids, change nothing. If it did not end with
    /// done, the same call again finishes the work.
    pub async fn follows(&self, edges: &[(UserId, UserId)]) -> Outcome<u64> {
        let mut wanted: Vec<(Pair, UserId)> = Vec::with_capacity(edges.len());
        for &(follower, followee) in edges {
            let Some(pair) = Pair::new(follower, followee) else {
                let why = "a user has no edge to themselves";
                return Outcome::Failed(StoreError::new(Kind::Unavailable, STORE, why));
            };
            wanted.push((pair, follower));
        }
        wanted.sort_unstable();
        wanted.dedup();
        let mut fresh = 0;
        let mut rest = wanted.as_slice();
        while !rest.is_empty() {
            let mut end = rest.len().min(PAIRS_BATCH);
            // Both directions of a pair go into one batch.
            while end < rest.len() && rest[end].0 == rest[end - 1].0 {
                end += 1;
            }
            let (batch, later) = rest.split_at(end);
            rest = later;
            match self.batch(batch.to_vec()).await {
                Outcome::Done(edges) => fresh += edges,
                other => return other,
            }
        }
        Outcome::Done(fresh)
    }

    async fn batch(&self, wanted: Vec<(Pair, UserId)>) -> Outcome<u64> {
        let (fresh, pairs) = match self.user.write(STORE, move |conn| follow(conn, &wanted)).await {
            Outcome::Done(done) => done,
            other => return other.map(|(fresh, _)| fresh),
        };
        let copied = self.timeline.write(STORE, move |conn| write_pairs(conn, &pairs)).await;
        copied.map(|()| fresh)
    }
}

/// Applies follows, sorted by pair. Gives the number of new edges, and all pairs as they are now:
/// those that did not change too, as an earlier run may have ended before it wrote the copies.
fn follow(conn: &Connection, wanted: &[(Pair, UserId)]) -> Result<(u64, Vec<PairChange>), Fault> {
    let mut moves = Vec::with_capacity(wanted.len() * 2);
    let mut pairs = Vec::with_capacity(wanted.len());
    let mut fresh = 0;
    for same_pair in wanted.chunk_by(|a, b| a.0 == b.0) {
        let pair = same_pair[0].0;
        let never = PairChange { pair, version: 0, state: PairState::default() };
        let mut before = never;
        let mut now = follow_from(before, same_pair);
        // Most pairs are new: one statement finds out and writes.
        if !graph::put_new_pair(conn, &now)? {
            before = graph::pair_now(conn, pair)?;
            now = follow_from(before, same_pair);
            if now != before {
                graph::put_pair(conn, &now)?;
            }
        }
        fresh += now.version - before.version;
        moves.extend(
            graph::count_moves(pair, before.state, now.state)
                .map(|(user, count, _, by)| (user, count, by)),
        );
        pairs.push(now);
    }
    moves.sort_unstable();
    for same_count in moves.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
        let (user, count, _) = same_count[0];
        let by = same_count.iter().map(|each| each.2).sum();
        // Any shard will do; the sum is what counts.
        graph::add_count(conn, user, count, user, by)?;
    }
    Ok((fresh, pairs))
}

/// The pair after the follows that it allows, each a version of its own.
fn follow_from(mut now: PairChange, same_pair: &[(Pair, UserId)]) -> PairChange {
    for &(pair, follower) in same_pair {
        if let Ok(state) = now.state.apply(pair, follower, Change::Follow)
            && state != now.state
        {
            now = PairChange { pair, version: now.version + 1, state };
        }
    }
    now
}
