//! The bus in `timeline.db`, with the semantics of SQS: at least once, visibility time-outs,
//! receipts, a parked queue.
//!
//! A message is a row in a lane; it is in flight while `visible_at_ms` lies ahead. Its receipt is
//! its number and its count of receives, so that the next receive voids it. Processes share the
//! file and the wall clock: a publish wakes the waiting receivers of its own process at once,
//! others look every [`POLL`].

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::{Connection, params};
use tokio::sync::Notify;

use super::sqlite::{Db, Fault, Statements, bound, from_key};
use crate::{
    ports::{
        Bus, Kind, Outcome, Queue, QueueStats, Read, Receipt, Received, StoreError, Target,
        bus::{BATCH_MAX, MESSAGE_BYTES_MAX, RECEIVES_MAX},
    },
    rt::{Instant, Rt},
};

const STORE: &str = "bus";
/// How often a waiting receiver looks for messages of other processes and for those whose
/// visibility has run out.
pub const POLL: Duration = Duration::from_millis(20);

pub(super) const TABLES: &str = "
-- `autoincrement`, so that a receipt never names a later message.
create table messages (
    id integer primary key autoincrement,
    lane text not null,
    body blob not null,
    sent_at_ms integer not null,
    visible_at_ms integer not null,
    receives integer not null default 0
);
create index messages_lane on messages (lane, visible_at_ms, sent_at_ms);
";

const fn parked(queue: Queue) -> &'static str {
    match queue {
        Queue::Ingest => "ingest-parked",
        Queue::Bulk => "bulk-parked",
    }
}

/// The bus in `timeline.db`.
#[derive(Clone, Debug)]
pub struct SqlBus {
    db: Db,
    rt: Rt,
    arrived: Arc<[Notify; Queue::ALL.len()]>,
    /// When a receiver of this process looked last without having been told to.
    looked: Arc<[Mutex<Instant>; Queue::ALL.len()]>,
}

impl SqlBus {
    /// The bus over `timeline.db`.
    #[must_use]
    pub fn new(db: Db, rt: Rt) -> Self {
        Self { db, rt, arrived: Arc::default(), looked: Arc::default() }
    }

    fn arrived(&self, queue: Queue) -> &Notify {
        &self.arrived[queue as usize]
    }

    /// Whether it is this receiver's turn to look for what nobody tells: one look per [`POLL`] is
    /// enough for all receivers of a process.
    fn may_look(&self, queue: Queue) -> bool {
        let now = self.rt.now();
        let mut looked = self.looked[queue as usize].lock();
        let due = now.since(*looked) >= POLL;
        if due {
            *looked = now;
        }
        due
    }

    fn now_ms(&self) -> i64 {
        bound(self.rt.wall_ms())
    }

    fn after(&self, delay: Duration) -> i64 {
        self.now_ms().saturating_add(millis(delay))
    }

    async fn take(&self, queue: Queue, max: usize, visibility: Duration) -> Outcome<Vec<Received>> {
        let (now, until) = (self.now_ms(), self.after(visibility));
        // A receiver that is gone when its turn comes must not hide messages from the others.
        let caller = Arc::new(());
        let waiting = Arc::downgrade(&caller);
        let take = move |conn: &Connection| match waiting.strong_count() {
            0 => Ok(Vec::new()),
            _ => take(conn, queue, max, now, until),
        };
        let taken = self.db.write_unsynced(STORE, take).await;
        drop(caller);
        taken
    }

    /// Makes every message visible that is in flight. Right when a process starts and no other works:
    /// what the last one had received need not wait for its time-out. Never wrong: a message may come
    /// twice at any time, and its receipt stays good until it does.
    pub async fn give_back_all(&self) -> Outcome<u64> {
        let now = self.now_ms();
        let give_back = move |conn: &Connection| {
            let sql =
                "update messages set visible_at_ms = ?1 where lane = ?2 and visible_at_ms > ?1";
            let of = |queue: &Queue| conn.run(sql, params![now, queue.as_str()]);
            Queue::ALL.iter().map(of).sum::<Result<usize, Fault>>()
        };
        let given = self.db.write_unsynced(STORE, give_back).await;
        for queue in Queue::ALL {
            self.arrived(queue).notify_waiters();
        }
        given.map(|rows| rows as u64)
    }

    async fn anything(&self, queue: Queue) -> Read<bool> {
        let now = self.now_ms();
        let look = move |conn: &Connection| {
            let sql = "select 1 from messages where lane = ?1 and visible_at_ms <= ?2 limit 1";
            Ok(conn.one(sql, params![queue.as_str(), now], |_| Ok(()))?.is_some())
        };
        self.db.read(STORE, look).await
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

fn put(conn: &Connection, lane: &str, body: &[u8], now: i64) -> Result<(), Fault> {
    let sql = "
        insert into messages (lane, body, sent_at_ms, visible_at_ms) values (?1, ?2, ?3, ?3)";
    conn.run(sql, params![lane, body, now])?;
    Ok(())
}

/// Takes up to `max` visible messages, those first that became visible first.
fn take(
    conn: &Connection,
    queue: Queue,
    max: usize,
    now: i64,
    until: i64,
) -> Result<Vec<Received>, Fault> {
    let sql = "
        select id, receives, body from messages
        where lane = ?1 and visible_at_ms <= ?2 order by visible_at_ms, id limit ?3";
    let found = conn.all(sql, params![queue.as_str(), now, bound(max as u64)], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, u32>(1)?, row.get::<_, Vec<u8>>(2)?))
    })?;
    let mut batch = Vec::with_capacity(found.len());
    for (id, received, body) in found {
        if received >= RECEIVES_MAX {
            let sql = "update messages set lane = ?2, visible_at_ms = ?3 where id = ?1";
            conn.run(sql, params![id, parked(queue), now])?;
            continue;
        }
        let receives = received + 1;
        let sql = "update messages set receives = ?2, visible_at_ms = ?3 where id = ?1";
        conn.run(sql, params![id, receives, until])?;
        let receipt = Receipt(format!("{id}.{receives}"));
        batch.push(Received { receipt, body: body.into(), receives });
    }
    Ok(batch)
}

/// Message and receive that a receipt names.
fn parse(receipt: &Receipt) -> Option<(i64, u32)> {
    let (id, receives) = receipt.0.split_once('.')?;
    Some((id.parse().ok()?, receives.parse().ok()?))
}

fn failed<T>(message: &'static str) -> Outcome<T> {
    Outcome::Failed(StoreError::new(Kind::Unavailable, STORE, message))
}

/// One outcome for each entry of a call whose entries share a transaction.
fn spread<T>(
    of_all: &Outcome<()>,
    each: Vec<T>,
    own: impl Fn(T) -> Outcome<()>,
) -> Vec<Outcome<()>> {
    let one = |entry| match of_all {
        Outcome::Done(()) => own(entry),
        other => other.clone(),
    };
    each.into_iter().map(one).collect()
}

fn too_many(count: usize) -> Option<Vec<Outcome<()>>> {
    (count > BATCH_MAX).then(|| vec![failed("more messages than one call may have"); count])
}

#[async_trait]
impl Bus for SqlBus {
    async fn publish(&self, to: Target, messages: &[Bytes]) -> Vec<Outcome<()>> {
        if let Some(refused) = too_many(messages.len()) {
            return refused;
        }
        let queues = match to {
            Target::Topic(topic) => topic.queues().to_vec(),
            Target::Queue(queue) => vec![queue],
            Target::Parked(_) => Vec::new(),
        };
        let mut lanes: Vec<&'static str> = queues.iter().map(|queue| queue.as_str()).collect();
        if let Target::Parked(queue) = to {
            lanes.push(parked(queue));
        }
        let fits: Vec<bool> = messages.iter().map(|m| m.len() <= MESSAGE_BYTES_MAX).collect();
        let bodies: Vec<Bytes> =
            messages.iter().filter(|m| m.len() <= MESSAGE_BYTES_MAX).cloned().collect();
        let now = self.now_ms();
        let write = move |conn: &Connection| {
            let mut each =
                bodies.iter().flat_map(|body| lanes.iter().map(move |lane| (lane, body)));
            each.try_for_each(|(lane, body)| put(conn, lane, body, now))
        };
        let outcome = self.db.write(STORE, write).await;
        // One receiver per message: the others would look in vain.
        for queue in queues.iter().flat_map(|queue| std::iter::repeat_n(*queue, messages.len())) {
            self.arrived(queue).notify_one();
        }
        spread(&outcome, fits, |fits| {
            if fits { Outcome::Done(()) } else { failed("the message is too large") }
        })
    }

    async fn receive(
        &self,
        queue: Queue,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Read<Vec<Received>> {
        let max = max.clamp(1, BATCH_MAX);
        let deadline = self.rt.now().plus(wait);
        let mut look = true;
        loop {
            // Listens before it looks, so that no message can arrive unheard between the two.
            let mut arrival = std::pin::pin!(self.arrived(queue).notified());
            arrival.as_mut().enable();
            // Looking costs no turn of the writer, which idle receivers would else take away.
            while look && self.anything(queue).await? {
                let taken = self.take(queue, max, visibility).await.certain()?;
                if !taken.is_empty() {
                    return Ok(taken);
                }
            }
            let left = deadline.since(self.rt.now());
            if left.is_zero() {
                return Ok(Vec::new());
            }
            let told = self.rt.timeout(left.min(POLL), arrival).await.is_ok();
            look = told || self.may_look(queue);
        }
    }

    async fn acknowledge(&self, queue: Queue, receipts: &[Receipt]) -> Vec<Outcome<()>> {
        if let Some(refused) = too_many(receipts.len()) {
            return refused;
        }
        let named: Vec<_> = receipts.iter().map(parse).collect();
        let known: Vec<_> = named.iter().copied().flatten().collect();
        let delete = move |conn: &Connection| {
            let sql = "delete from messages where id = ?1 and receives = ?2 and lane = ?3";
            known.iter().try_for_each(|(id, receives)| {
                conn.run(sql, params![id, receives, queue.as_str()]).map(drop)
            })
        };
        let outcome = self.db.write_unsynced(STORE, delete).await;
        spread(&outcome, named, |named| match named {
            Some(_) => Outcome::Done(()),
            None => failed("not a receipt"),
        })
    }

    async fn extend(
        &self,
        queue: Queue,
        receipts: &[Receipt],
        visibility: Duration,
    ) -> Vec<Outcome<()>> {
        if let Some(refused) = too_many(receipts.len()) {
            return refused;
        }
        let named: Vec<_> = receipts.iter().map(parse).collect();
        let until = self.after(visibility);
        let extend = move |conn: &Connection| {
            let sql = "
                update messages set visible_at_ms = ?4
                where id = ?1 and receives = ?2 and lane = ?3";
            let one = |named: Option<(i64, u32)>| match named {
                Some((id, receives)) => {
                    Ok(conn.run(sql, params![id, receives, queue.as_str(), until])? == 1)
                }
                None => Ok(false),
            };
            named.into_iter().map(one).collect::<Result<Vec<bool>, Fault>>()
        };
        let outcome = self.db.write_unsynced(STORE, extend).await;
        if visibility.is_zero() {
            self.arrived(queue).notify_waiters();
        }
        match outcome {
            Outcome::Done(moved) => spread(&Outcome::Done(()), moved, |moved| {
                if moved { Outcome::Done(()) } else { failed("the receipt is stale") }
            }),
            other => vec![other.map(drop); receipts.len()],
        }
    }

    async fn redrive(&self, queue: Queue, max: usize) -> Outcome<u64> {
        let now = self.now_ms();
        let redrive = move |conn: &Connection| {
            let sql = "select id, body from messages where lane = ?1 order by id limit ?2";
            let rows = conn.all(sql, params![parked(queue), bound(max as u64)], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
            })?;
            for (id, body) in &rows {
                // A new message: receipts of the old one must not fit it.
                conn.run("delete from messages where id = ?1", [id])?;
                put(conn, queue.as_str(), body, now)?;
            }
            Ok(rows.len() as u64)
        };
        let outcome = self.db.write(STORE, redrive).await;
        self.arrived(queue).notify_waiters();
        outcome
    }

    async fn stats(&self, queue: Queue) -> Read<QueueStats> {
        let now = self.now_ms();
        let count = move |conn: &Connection| {
            let sql = "
                select count(*), coalesce(sum(visible_at_ms > ?2), 0), min(sent_at_ms)
                from messages where lane = ?1";
            let live = conn.one(sql, params![queue.as_str(), now], |row| {
                let (all, in_flight): (i64, i64) = (row.get(0)?, row.get(1)?);
                let oldest: Option<i64> = row.get(2)?;
                Ok(QueueStats {
                    depth: from_key(all - in_flight),
                    in_flight: from_key(in_flight),
                    oldest_ms: oldest.map_or(0, |at| from_key((now - at).max(0))),
                    parked: 0,
                })
            })?;
            let sql = "select count(*) from messages where lane = ?1";
            let parked = conn.one(sql, [parked(queue)], |row| Ok(from_key(row.get(0)?)))?;
            Ok(QueueStats { parked: parked.unwrap_or(0), ..live.unwrap_or_default() })
        };
        self.db.read(STORE, count).await
    }
}
