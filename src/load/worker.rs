//! A driver's thread: takes its share of the schedule, hands each request to a connection that is free
//! when it is due, and never waits for an answer.
//!
//! Everything of a worker stays on its thread, so that nothing is locked but the record.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::{Notify, mpsc};

use super::{
    act::{Actor, Done, Outcome},
    alarm::Alarm,
    connection::{CALL_MAX, Connection, Target},
    ledger::Ledger,
    mix::Op,
    schedule::{Action, Due, Schedule},
    stats::{Tick, Totals, record},
};
use crate::domain::TweetId;

/// Requests that may wait for a connection, per worker; one more is dropped.
pub const BACKLOG_MAX: usize = 50_000;
/// Requests that still wait this long after the schedule has ended are dropped, so that a run whose target
/// hangs has an end.
const LEFT_MAX: Duration = CALL_MAX;
/// How often a worker that waits for the next request looks whether it is told to stop.
const STOP_LOOK: Duration = Duration::from_millis(200);
/// The shortest pause of a worker whose connections are all busy: an alarm for each request costs as much
/// as a tenth of the request.
const BUSY_PAUSE: Duration = Duration::from_millis(1);
/// Readers of whom a worker remembers where they stopped.
const CURSORS_MAX: usize = 65_536;
/// Requests that are handed out before others are let run.
const BURST: u32 = 64;
/// How often the runtime looks at its sockets while it has other work, in polls: often, as the alarm is one.
const EVENT_INTERVAL: u32 = 13;

/// What a post's readers are told by.
#[derive(Clone, Copy, Debug)]
pub struct Posted {
    /// Its number.
    pub post: u32,
    /// Who wrote it.
    pub author: u32,
    /// Its tweet.
    pub id: TweetId,
    /// When its answer was there.
    pub at: Instant,
}

/// What all workers share.
pub struct Shared {
    /// Where calls go.
    pub target: Target,
    /// The record.
    pub ledger: Arc<Ledger>,
    /// Whether pages are judged.
    pub judges: bool,
    /// Connections of one worker.
    pub connections: usize,
    /// Fires when the run must end early.
    pub stop: Arc<AtomicBool>,
    /// Takes every post that was acknowledged.
    pub posted: mpsc::UnboundedSender<Posted>,
    /// Takes every second of every worker.
    pub ticks: mpsc::UnboundedSender<Tick>,
}

/// What the tasks of a worker share.
struct Desk {
    shared: Arc<Shared>,
    waiting: RefCell<VecDeque<(Instant, Due)>>,
    due: Notify,
    /// When the schedule ended.
    closed: Cell<Option<Instant>>,
    totals: RefCell<Totals>,
    tick: RefCell<Tick>,
    cursors: RefCell<BTreeMap<u32, TweetId>>,
}

/// Drives worker `number` of `of` to the end of the schedule and of the last answer.
///
/// # Errors
/// If the system gives no runtime or timer.
pub fn drive(
    shared: &Arc<Shared>,
    schedule: Schedule,
    number: usize,
    of: usize,
) -> io::Result<Totals> {
    let shared = Arc::clone(shared);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(EVENT_INTERVAL)
        .build()?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let desk = Rc::new(Desk {
            shared,
            waiting: RefCell::default(),
            due: Notify::new(),
            closed: Cell::new(None),
            totals: RefCell::default(),
            tick: RefCell::default(),
            cursors: RefCell::default(),
        });
        let clients: Vec<_> = (0..desk.shared.connections)
            .map(|_| tokio::task::spawn_local(client(Rc::clone(&desk))))
            .collect();
        let dealt = desk.deal(schedule, number, of).await;
        desk.closed.set(Some(Instant::now()));
        for client in clients {
            desk.due.notify_waiters();
            // A client that panicked is missed by the requests that it did not answer.
            drop(client.await);
        }
        dealt?;
        desk.turn(None);
        Ok(desk.totals.take())
    })
}

impl Desk {
    /// Hands requests out as they become due.
    async fn deal(&self, schedule: Schedule, number: usize, of: usize) -> io::Result<()> {
        let alarm = Alarm::new()?;
        let began = self.shared.ledger.began;
        let mut burst = 0;
        for due in schedule.skip(number).step_by(of) {
            let at = began + due.at;
            while at > Instant::now() && !self.stops() {
                let now = Instant::now();
                // While every connection is busy a request is not sent earlier for being handed out.
                let busy = !self.waiting.borrow().is_empty();
                let soonest = if busy { now + BUSY_PAUSE } else { now };
                alarm.until(at.clamp(soonest, now + STOP_LOOK)).await?;
                burst = 0;
            }
            if self.stops() {
                break;
            }
            let late = Instant::now().saturating_duration_since(at);
            self.turn(Some(due.at.as_secs()));
            self.put(at, due, late);
            burst += 1;
            if burst == BURST {
                tokio::task::yield_now().await;
                burst = 0;
            }
        }
        Ok(())
    }

    fn stops(&self) -> bool {
        self.shared.stop.load(Ordering::Relaxed)
    }

    /// Drops what waits, once nobody may wait for it any more.
    fn give_up(&self) {
        let left = self.closed.get().is_some_and(|closed| closed.elapsed() > LEFT_MAX);
        if !left && !self.stops() {
            return;
        }
        let dropped = std::mem::take(&mut *self.waiting.borrow_mut());
        for (_, due) in dropped {
            self.drop_one(&due);
        }
    }

    fn drop_one(&self, due: &Due) {
        let mut totals = self.totals.borrow_mut();
        totals.dropped += 1;
        self.error(&mut totals, due.action.op(), "dropped".to_owned());
    }

    fn put(&self, at: Instant, due: Due, late: Duration) {
        self.tick.borrow_mut().due += 1;
        record(&mut self.totals.borrow_mut().late, late);
        if self.waiting.borrow().len() == BACKLOG_MAX {
            return self.drop_one(&due);
        }
        let (mut totals, mut waiting) = (self.totals.borrow_mut(), self.waiting.borrow_mut());
        waiting.push_back((at, due));
        totals.backlog_max = totals.backlog_max.max(waiting.len() as u64);
        self.due.notify_one();
    }

    fn error(&self, totals: &mut Totals, op: Op, kind: String) {
        *totals.operations.entry(op).or_default().errors.entry(kind).or_default() += 1;
        self.tick.borrow_mut().errors += 1;
    }

    /// Sends the seconds before `second` off.
    fn turn(&self, second: Option<u64>) {
        let mut tick = self.tick.borrow_mut();
        if second.is_none_or(|second| second > tick.second) {
            let next = Tick { second: second.unwrap_or(tick.second + 1), ..Tick::default() };
            // Whoever adds them up may have given up.
            drop(self.shared.ticks.send(std::mem::replace(&mut *tick, next)));
        }
    }

    async fn next(&self) -> Option<(Instant, Due)> {
        loop {
            // Made before the look, so that what comes between the two wakes it.
            let woken = self.due.notified();
            self.give_up();
            if let Some(next) = self.waiting.borrow_mut().pop_front() {
                return Some(next);
            }
            if self.closed.get().is_some() {
                return None;
            }
            woken.await;
        }
    }

    fn note(&self, at: Instant, due: &Due, done: Done, bytes: (u64, u64)) {
        let mut totals = self.totals.borrow_mut();
        let op = due.action.op();
        if done.outcome == Outcome::Skipped {
            totals.skipped += 1;
            return;
        }
        totals.sent += 1;
        totals.pages += u64::from(done.judged);
        let corrected = done.ended.saturating_duration_since(at);
        match done.outcome {
            Outcome::Error(kind) => return self.error(&mut totals, op, kind),
            Outcome::Degraded => totals.operations.entry(op).or_default().degraded += 1,
            Outcome::Done | Outcome::Skipped => {}
        }
        let measured = totals.operations.entry(op).or_default();
        measured.bytes = (measured.bytes.0 + bytes.0, measured.bytes.1 + bytes.1);
        record(&mut measured.corrected, corrected);
        record(&mut measured.raw, done.ended.saturating_duration_since(done.sent));
        self.tick.borrow_mut().answered(op, corrected);
        if let (Some(id), Action::Post(post)) = (done.posted, due.action) {
            let posted = Posted { post, author: due.user, id, at: done.ended };
            // Nobody follows posts any more once everything ends.
            let _gone = self.shared.posted.send(posted);
        }
        if matches!(due.action, Action::Timeline | Action::Scroll) {
            let mut cursors = self.cursors.borrow_mut();
            match done.next {
                Some(next) if cursors.len() < CURSORS_MAX || cursors.contains_key(&due.user) => {
                    cursors.insert(due.user, next);
                }
                _ => drop(cursors.remove(&due.user)),
            }
        }
    }
}

/// A virtual client: takes what has waited longest, and does it.
async fn client(desk: Rc<Desk>) {
    let mut connection = Connection::new(desk.shared.target.clone());
    let actor = Actor { ledger: &desk.shared.ledger, judges: desk.shared.judges };
    while let Some((at, due)) = desk.next().await {
        let below = desk.cursors.borrow().get(&due.user).copied();
        let (sent, answered) = connection.bytes;
        let done = actor.act(&mut connection, &due, below).await;
        let bytes = (connection.bytes.0 - sent, connection.bytes.1 - answered);
        desk.note(at, &due, done, bytes);
    }
}
