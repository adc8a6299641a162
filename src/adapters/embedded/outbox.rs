//! The outbox table, the same in `user.db` and `tweet.db`.
//!
//! A row is found by its flag (`sent_at_ms is null`), never by its number; a claim is a lease in the
//! row. One index on `sent_at_ms` serves both the claim and the pruning.

use std::{rc::Rc, time::Duration};

use async_trait::async_trait;
use rusqlite::{Connection, params, types::Value};

use super::sqlite::{Db, Fault, Statements, bound, from_key, key};
use crate::{
    ports::{Outbox, OutboxRow, Outcome, Read, outbox::OutboxStats},
    wire::events::Event,
};

/// The table. `autoincrement`, so that a number is never given twice: a relay that is late must not
/// mark another event than the one it published.
pub(super) const TABLES: &str = "
create table outbox (
    seq integer primary key autoincrement,
    event blob not null,
    at_ms integer not null,
    sent_at_ms integer,
    lease_until_ms integer not null default 0
);
create index outbox_sent on outbox (sent_at_ms);
";

/// Rows that one transaction prunes: bounds how long it holds the writer.
const PRUNE_MAX: usize = 10_000;

/// Adds an event, in the transaction of the fact that it tells.
pub(super) fn add(conn: &Connection, event: &Event) -> Result<(), Fault> {
    let sql = "insert into outbox (event, at_ms) values (?1, ?2)";
    conn.run(sql, params![&event.encode()[..], bound(event.at_ms)])?;
    Ok(())
}

/// The outbox of one file.
#[derive(Clone, Debug)]
pub struct SqlOutbox {
    db: Db,
    store: &'static str,
}

impl SqlOutbox {
    /// The outbox in `db`; `store` names it in errors.
    #[must_use]
    pub const fn new(db: Db, store: &'static str) -> Self {
        Self { db, store }
    }

    /// Ends every lease. Right when a process starts and no other relays: what the last one had
    /// claimed need not wait. Never wrong: an event may be published twice at any time.
    pub async fn release_all(&self) -> Outcome<u64> {
        let release = |conn: &Connection| {
            let sql = "
                update outbox set lease_until_ms = 0
                where sent_at_ms is null and lease_until_ms > 0";
            Ok(conn.run(sql, [])? as u64)
        };
        self.db.write_unsynced(self.store, release).await
    }
}

fn array(seqs: &[u64]) -> Rc<Vec<Value>> {
    Rc::new(seqs.iter().map(|&seq| Value::Integer(key(seq))).collect())
}

#[async_trait]
impl Outbox for SqlOutbox {
    async fn claim(&self, limit: usize, now_ms: u64, lease: Duration) -> Outcome<Vec<OutboxRow>> {
        let lease_ms = u64::try_from(lease.as_millis()).unwrap_or(u64::MAX);
        let until = bound(now_ms.saturating_add(lease_ms));
        let (limit, now) = (bound(limit as u64), bound(now_ms));
        let claim = move |conn: &Connection| {
            let sql = "
                update outbox set lease_until_ms = ?1
                where seq in (
                    select seq from outbox
                    where sent_at_ms is null and lease_until_ms <= ?2
                    order by seq limit ?3
                )
                returning seq, event";
            let mut rows = conn.all(sql, params![until, now, limit], |row| {
                Ok(OutboxRow {
                    seq: from_key(row.get(0)?),
                    event: row.get::<_, Vec<u8>>(1)?.into(),
                })
            })?;
            // `returning` promises no order.
            rows.sort_unstable_by_key(|row| row.seq);
            Ok(rows)
        };
        self.db.write_unsynced(self.store, claim).await
    }

    async fn mark_sent(&self, seqs: &[u64], now_ms: u64) -> Outcome<()> {
        let (seqs, now) = (seqs.to_vec(), bound(now_ms));
        let mark = move |conn: &Connection| {
            let sql = "
                update outbox set sent_at_ms = ?1
                where seq in (select value from rarray(?2)) and sent_at_ms is null";
            conn.run(sql, params![now, array(&seqs)])?;
            Ok(())
        };
        self.db.write_unsynced(self.store, mark).await
    }

    async fn release(&self, seqs: &[u64]) -> Outcome<()> {
        let seqs = seqs.to_vec();
        let release = move |conn: &Connection| {
            let sql = "
                update outbox set lease_until_ms = 0
                where seq in (select value from rarray(?1)) and sent_at_ms is null";
            conn.run(sql, params![array(&seqs)])?;
            Ok(())
        };
        self.db.write_unsynced(self.store, release).await
    }

    async fn replay(&self, since_ms: u64) -> Outcome<u64> {
        let since = bound(since_ms);
        let replay = move |conn: &Connection| {
            let sql = "
                update outbox set sent_at_ms = null, lease_until_ms = 0
                where at_ms >= ?1 and sent_at_ms is not null";
            Ok(conn.run(sql, params![since])? as u64)
        };
        self.db.write(self.store, replay).await
    }

    async fn prune(&self, before_ms: u64) -> Outcome<u64> {
        let before = bound(before_ms);
        let mut pruned = 0;
        loop {
            let prune = move |conn: &Connection| {
                let sql = "
                    delete from outbox
                    where seq in (select seq from outbox where sent_at_ms < ?1 limit ?2)";
                conn.run(sql, params![before, bound(PRUNE_MAX as u64)])
            };
            match self.db.write_unsynced(self.store, prune).await {
                Outcome::Done(PRUNE_MAX) => pruned += PRUNE_MAX as u64,
                last => return last.map(|rows| pruned + rows as u64),
            }
        }
    }

    async fn stats(&self) -> Read<OutboxStats> {
        let stats = |conn: &Connection| {
            let sql = "select count(*), min(at_ms) from outbox where sent_at_ms is null";
            let stats = conn.one(sql, [], |row| {
                let oldest: Option<i64> = row.get(1)?;
                Ok(OutboxStats { unsent: from_key(row.get(0)?), oldest_ms: oldest.map(from_key) })
            })?;
            Ok(stats.unwrap_or_default())
        };
        self.db.read(self.store, stats).await
    }
}
