//! Everybody who is at work while a fault lasts, and how their calls ended.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::{
    judge::{
        api::{Api, Call, Ended, Watch},
        client::Client,
        dice::Dice,
        world::{GROUP, STAR, Shared},
    },
    table::Kind,
};

/// Groups of users that write, one concurrent client each; everybody else only reads.
pub const WRITERS: usize = 12;
/// Clients that read the timelines of anybody.
const READERS: usize = 4;
/// Clients that read warm timelines, and the readers of each.
pub const WARM_READERS: usize = 4;
pub const WARM_EACH: usize = 5;
/// A client pauses up to this long between two calls, in milliseconds: some hundred calls a second in
/// all, which two busy cores can answer.
const THINK_MS: usize = 200;
/// The star posts at this pace: each post is a fan-out of several jobs.
const STAR_THINK_MS: usize = 600;
/// The label of calls for warm timelines.
const WARM: &str = "warm";

/// How many calls ended how.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub answered: u64,
    pub degraded: u64,
    pub unavailable: u64,
    pub unknown: u64,
}

impl Count {
    pub const fn failed(self) -> u64 {
        self.unavailable + self.unknown
    }

    pub const fn all(self) -> u64 {
        self.answered + self.degraded + self.failed()
    }
}

/// Every call since it was last emptied.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<(Kind, Call)>>>);

fn kind(call: &Call) -> Option<Kind> {
    Some(match (call.method, call.room) {
        ("POST", "/tweets") => Kind::Post,
        ("DELETE", "/tweets") => Kind::Delete,
        (_, "/follow" | "/blocks") => Kind::Edge,
        ("GET", "/timeline") if call.label == WARM => Kind::WarmHome,
        ("GET", "/timeline") => Kind::AnyHome,
        ("GET", "/users") => Kind::AuthorPage,
        _ => return None,
    })
}

impl Log {
    fn watch(&self) -> Watch {
        let log = self.clone();
        Arc::new(move |call| {
            if let Some(kind) = kind(&call) {
                log.0.lock().unwrap().push((kind, call));
            }
        })
    }

    pub fn clear(&self) {
        self.0.lock().unwrap().clear();
    }

    /// Calls that began in this time.
    pub fn count(&self, from: Instant, to: Instant) -> BTreeMap<Kind, Count> {
        let mut counts: BTreeMap<Kind, Count> = BTreeMap::new();
        for (kind, call) in self.0.lock().unwrap().iter() {
            if (from..to).contains(&call.began) {
                let count = counts.entry(*kind).or_default();
                match call.how {
                    Ended::Answered => count.answered += 1,
                    Ended::Degraded => count.degraded += 1,
                    Ended::Unavailable => count.unavailable += 1,
                    Ended::Unknown => count.unknown += 1,
                }
            }
        }
        counts
    }

    /// When the last call that failed, or gave less than all, had ended.
    pub fn last_trouble(&self) -> Option<Instant> {
        let log = self.0.lock().unwrap();
        log.iter().filter(|(_, call)| call.how != Ended::Answered).map(|(_, call)| call.ended).max()
    }
}

/// Everybody who is at work.
pub struct Crowd {
    tasks: Vec<tokio::task::JoinHandle<()>>,
    down: Arc<AtomicBool>,
}

impl Crowd {
    /// Sends everybody to work.
    pub fn start(world: &Shared, api: &Api, log: &Log, dice: &mut Dice) -> Self {
        let down = Arc::new(AtomicBool::new(false));
        let mut client = |label, think_ms| Client {
            world: Arc::clone(world),
            api: api.clone().watched(label, log.watch()),
            dice: dice.split(),
            down: Arc::clone(&down),
            think_ms,
            insists: true,
        };
        let passive = world.lock().unwrap().passive_numbers();
        let mut tasks = Vec::new();
        for group in 0..WRITERS {
            tasks.push(tokio::spawn(client("", THINK_MS).writes(group * GROUP)));
        }
        tasks.push(tokio::spawn(client("", STAR_THINK_MS).posts(STAR)));
        for _ in 0..READERS {
            tasks.push(tokio::spawn(client("", THINK_MS).reads()));
        }
        for reader in 0..WARM_READERS {
            let first = passive.start + reader * WARM_EACH;
            let readers = (first..first + WARM_EACH).collect();
            tasks.push(tokio::spawn(client(WARM, THINK_MS).reads_of(readers)));
        }
        Self { tasks, down }
    }

    /// Waits until everybody has ended their last call.
    pub async fn end(self) {
        self.down.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}
