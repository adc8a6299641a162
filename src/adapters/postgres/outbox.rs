//! The outbox table, the same in both databases.
//!
//! A row is found by its flag (`sent_at_ms is null`), never by its number; a claim is a lease in the
//! row, and rows that another relay is claiming are skipped. Every statement is a transaction of its
//! own: whatever it did unknown, doing it again does no harm.

use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx_core::{query::query, query_as::query_as, query_scalar::query_scalar};
use sqlx_postgres::{PgConnection, Postgres};

use super::{Pg, fault::Fault};
use crate::{
    adapters::sql::{bound, from_key, key},
    ports::{Outbox, OutboxRow, Outcome, Read, outbox::OutboxStats},
    wire::events::Event,
};

/// Rows of one claim, whatever was asked for: as many as `relay.batch_max` allows.
const CLAIM_MAX: usize = 10_000;
/// Rows that one statement prunes or replays: bounds how long it holds them.
const BATCH_MAX: u64 = 2_000;

/// Adds an event, in the transaction of the fact that it tells.
pub(super) async fn add(conn: &mut PgConnection, event: &Event) -> Result<(), Fault> {
    let sql = "insert into outbox (event, at_ms) values ($1, $2)";
    let event = query::<Postgres>(sql).bind(event.encode().to_vec()).bind(bound(event.at_ms));
    event.execute(conn).await?;
    Ok(())
}

/// The outbox of one database.
#[derive(Clone, Debug)]
pub struct PgOutbox {
    db: Pg,
    store: &'static str,
}

impl PgOutbox {
    /// The outbox in `db`; `store` names it in errors.
    #[must_use]
    pub const fn new(db: Pg, store: &'static str) -> Self {
        Self { db, store }
    }
}

fn keys(seqs: &[u64]) -> Vec<i64> {
    seqs.iter().copied().map(key).collect()
}

/// Up to how many, at what time, until when.
async fn claim(
    conn: &mut PgConnection,
    (limit, now, until): (i64, i64, i64),
) -> Result<Vec<OutboxRow>, Fault> {
    let sql = "
        with free as (
            select seq from outbox
            where sent_at_ms is null and lease_until_ms <= $2
            order by seq limit $1
            for update skip locked
        )
        update outbox set lease_until_ms = $3 from free where outbox.seq = free.seq
        returning outbox.seq, event";
    let rows = query_as::<Postgres, (i64, Vec<u8>)>(sql).bind(limit).bind(now).bind(until);
    let row = |(seq, event): (i64, Vec<u8>)| OutboxRow { seq: from_key(seq), event: event.into() };
    let mut rows: Vec<_> = rows.fetch_all(conn).await?.into_iter().map(row).collect();
    // `returning` promises no order.
    rows.sort_unstable_by_key(|row| row.seq);
    Ok(rows)
}

async fn mark_sent(conn: &mut PgConnection, seqs: &[i64], now: i64) -> Result<(), Fault> {
    let sql = "
        update outbox set sent_at_ms = $2
        where seq = any($1) and sent_at_ms is null";
    query::<Postgres>(sql).bind(seqs).bind(now).execute(conn).await?;
    Ok(())
}

async fn release(conn: &mut PgConnection, seqs: &[i64]) -> Result<(), Fault> {
    let sql = "
        update outbox set lease_until_ms = 0
        where seq = any($1) and sent_at_ms is null";
    query::<Postgres>(sql).bind(seqs).execute(conn).await?;
    Ok(())
}

/// A batch of sent rows behind (time, number) is unsent again: how many, and the last one.
async fn replay(
    conn: &mut PgConnection,
    (at, seq): (i64, i64),
) -> Result<Option<(u64, (i64, i64))>, Fault> {
    let sql = "
        with batch as (
            select at_ms, seq from outbox
            where (at_ms, seq) > ($1, $2) and sent_at_ms is not null
            order by at_ms, seq limit $3
        ), unsent as (
            update outbox set sent_at_ms = null, lease_until_ms = 0
            from batch where outbox.seq = batch.seq and sent_at_ms is not null
            returning 1
        )
        select (select count(*) from unsent), at_ms, seq from batch
        order by at_ms desc, seq desc limit 1";
    let last = query_as::<Postgres, (i64, i64, i64)>(sql).bind(at).bind(seq).bind(bound(BATCH_MAX));
    let last = last.fetch_optional(conn).await?;
    Ok(last.map(|(rows, at, seq)| (rows.unsigned_abs(), (at, seq))))
}

async fn prune(conn: &mut PgConnection, before: i64) -> Result<u64, Fault> {
    let sql = "
        delete from outbox
        where seq in (select seq from outbox where sent_at_ms < $1 limit $2)";
    let done = query::<Postgres>(sql).bind(before).bind(bound(BATCH_MAX)).execute(conn).await?;
    Ok(done.rows_affected())
}

async fn stats(conn: &mut PgConnection) -> Result<OutboxStats, Fault> {
    let sql = "select count(*) from outbox where sent_at_ms is null";
    let unsent: i64 = query_scalar::<Postgres, _>(sql).fetch_one(&mut *conn).await?;
    let sql = "select min(at_ms) from outbox where sent_at_ms is null";
    let oldest: Option<i64> = query_scalar::<Postgres, _>(sql).fetch_one(conn).await?;
    Ok(OutboxStats { unsent: unsent.unsigned_abs(), oldest_ms: oldest.map(from_key) })
}

/// The end of a walk in batches: one that did something may have been cut short by a failure, so
/// what failed as a whole is not certain.
fn walked<T>(done: u64, last: Outcome<T>) -> Outcome<u64> {
    match last {
        Outcome::Done(_) => Outcome::Done(done),
        Outcome::Failed(error) if done == 0 => Outcome::Failed(error),
        Outcome::Failed(error) | Outcome::Unknown(error) => Outcome::Unknown(error),
    }
}

#[async_trait]
impl Outbox for PgOutbox {
    async fn claim(&self, limit: usize, now_ms: u64, lease: Duration) -> Outcome<Vec<OutboxRow>> {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let until = bound(now_ms.saturating_add(lease_ms));
        let asked = (bound(limit.min(CLAIM_MAX) as u64), bound(now_ms), until);
        self.db.write_at_once(self.store, &asked, |conn, asked| claim(conn, *asked).boxed()).await
    }

    async fn mark_sent(&self, seqs: &[u64], now_ms: u64) -> Outcome<()> {
        let rows = (keys(seqs), bound(now_ms));
        self.db
            .write_at_once(self.store, &rows, |conn, rows| mark_sent(conn, &rows.0, rows.1).boxed())
            .await
    }

    async fn release(&self, seqs: &[u64]) -> Outcome<()> {
        let seqs = keys(seqs);
        self.db.write_at_once(self.store, &seqs, |conn, seqs| release(conn, seqs).boxed()).await
    }

    async fn replay(&self, since_ms: u64) -> Outcome<u64> {
        // Behind everything that was committed earlier: numbers begin at 1.
        let (mut behind, mut all) = ((bound(since_ms), 0), 0);
        loop {
            let batch = self
                .db
                .write_at_once(self.store, &behind, |conn, behind| replay(conn, *behind).boxed());
            match batch.await {
                Outcome::Done(Some((rows, last))) => (behind, all) = (last, all + rows),
                last => return walked(all, last),
            }
        }
    }

    async fn prune(&self, before_ms: u64) -> Outcome<u64> {
        let (before, mut all) = (bound(before_ms), 0);
        loop {
            let batch = self
                .db
                .write_at_once(self.store, &before, |conn, before| prune(conn, *before).boxed());
            match batch.await {
                Outcome::Done(rows) => {
                    all += rows;
                    if rows < BATCH_MAX {
                        return Outcome::Done(all);
                    }
                }
                last => return walked(all, last),
            }
        }
    }

    async fn stats(&self) -> Read<OutboxStats> {
        self.db.read(self.store, &(), |conn, ()| stats(conn).boxed()).await
    }
}
