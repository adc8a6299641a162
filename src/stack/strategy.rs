//! The fan-out strategy of a data set: chosen by its first start, and the same ever after, unless
//! `chirp migrate strategy` switches it, or `timeline.db`, which knows it, is lost and begun anew.
//!
//! A switch, while nothing runs: what was committed is published and worked off under the strategy that
//! it was written for; then every list in the caches is forgotten, as the other strategy has not kept it
//! up; then the other is chosen. A switch that is cut off anywhere has changed nothing but cold caches.
//! Nothing is written anew: durable home timelines are complete only above where `push` began, and what
//! is older is read of its authors, as with `hybrid`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    DataDir, StackError,
    backends::{Opened, external},
    data_dir::Running,
    node::Node,
    offline,
    roles::Shared,
    waits::Patience,
};
use crate::{
    adapters::{proof::Proof, rpc::Peers},
    config::{Config, Fanout},
    domain::{TweetId, fanout::Strategy, snowflake::first_at},
    ports::{Chosen, HomeStore, Outcome, Queue, Read, StoreError, Topic},
    rt::{Rt, Shutdown},
    services::{
        kit::{Relay, Secret},
        timeline::Halves,
    },
    telemetry::Metrics,
    wire::routes::Role,
};

/// The longest that working off may take.
const DRAIN_MAX: Duration = Duration::from_mins(10);
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Looks in a row that must find nothing: between two a message may be on its way.
const EMPTY_LOOKS: u32 = 5;
/// Clocks of machines differ by less than this.
const CLOCKS_DIFFER: Duration = Duration::from_secs(10);

/// Why the strategy is not settled.
#[derive(Debug)]
pub(super) enum Unsettled {
    /// The store did not tell.
    Store(StoreError),
    /// The configuration asks for another one.
    Other {
        /// What the data set has.
        found: &'static str,
        /// What is configured.
        wanted: &'static str,
    },
}

impl From<StoreError> for Unsettled {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Unsettled> for StackError {
    fn from(unsettled: Unsettled) -> Self {
        match unsettled {
            Unsettled::Store(error) => Self::other("read the strategy of the data set", error),
            Unsettled::Other { found, wanted } => Self::OtherStrategy { found, wanted },
        }
    }
}

/// The strategy of the data set under `homes`, which a start chooses now if it never was.
pub(super) async fn settle(
    rt: &Rt,
    homes: &dyn HomeStore,
    config: &Fanout,
    patience: &Patience,
) -> Result<Chosen, Unsettled> {
    let mut found = homes.chosen().await?;
    if found.version == 0 {
        if matches!(patience, Patience::Look) {
            return Ok(found);
        }
        let strategy = config.wanted().unwrap_or_default();
        // What was written by a release without strategies is in no durable home timeline.
        let since = match strategy {
            Strategy::Push => begins(rt),
            Strategy::Hybrid | Strategy::Pull => TweetId(0),
        };
        homes.choose(Chosen { version: 1, strategy, since }).await.certain()?;
        // Another process may have been faster.
        found = homes.chosen().await?;
    }
    match config.wanted() {
        Some(wanted) if wanted != found.strategy => {
            Err(Unsettled::Other { found: found.strategy.as_str(), wanted: wanted.as_str() })
        }
        _ => Ok(found),
    }
}

/// Above every id that was given out so far, by whatever clock.
fn begins(rt: &Rt) -> TweetId {
    TweetId(first_at(rt.wall_ms() + CLOCKS_DIFFER.as_millis() as u64))
}

/// What waits before a switch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    /// Rows of outboxes that are not published.
    pub unsent: u64,
    /// Messages in both lanes, those in flight among them.
    pub messages: u64,
}

/// What a switch came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switched {
    /// What the data set had.
    pub before: Strategy,
    /// What it has.
    pub now: Strategy,
}

/// Switches the data set to `wanted`; nothing may run over it. `progress` is told what waits.
///
/// # Errors
/// [`StackError`]; then the strategy is as it was, unless the sentence says that this is not known.
pub async fn switch(
    rt: &Rt,
    config: &Config,
    wanted: Strategy,
    progress: &(dyn Fn(Waiting) + Sync),
) -> Result<Switched, StackError> {
    let dir = DataDir::at(&config.up.data_dir);
    if dir.running() != Running::Nothing {
        let (path, holder) = (dir.root().to_owned(), "what runs".to_owned());
        return Err(StackError::Locked { path, holder });
    }
    if !config.backends.external() && dir.kind()?.is_none() {
        return Err(StackError::Absent(dir.root().to_owned()));
    }
    let _lock = if config.backends.external() { None } else { Some(offline::lock(&dir)?) };
    // Whatever it is now.
    let mut config = config.clone();
    config.services.fanout.strategy.clear();
    let config = Arc::new(config);
    let metrics = Metrics::new();
    let opened = Opened::open(&dir, rt, &config, &metrics, &Role::ALL, &Patience::Look);
    let opened = Box::pin(opened).await?;
    let switched = switch_over(rt, &config, metrics, &opened, wanted, progress).await;
    opened.close(rt).await;
    switched
}

async fn switch_over(
    rt: &Rt,
    config: &Arc<Config>,
    metrics: Metrics,
    opened: &Opened,
    wanted: Strategy,
    progress: &(dyn Fn(Waiting) + Sync),
) -> Result<Switched, StackError> {
    let missing = || StackError::other("switch", "the stores are not open");
    let timeline = opened.backends.timeline.as_ref().ok_or_else(missing)?;
    let before = timeline.chosen;
    let switched = Switched { before: before.strategy, now: wanted };
    if before.strategy == wanted {
        return Ok(switched);
    }
    drain(rt, config, metrics, opened, progress).await?;
    if config.backends.external() {
        let forgotten = external::forget_lists(rt, config).await.certain();
        forgotten.map_err(|error| StackError::other("forget what is cached", error))?;
    }
    let chosen = Chosen { version: before.version + 1, strategy: wanted, since: begins(rt) };
    match timeline.homes.choose(chosen).await {
        Outcome::Done(()) => Ok(switched),
        Outcome::Failed(error) => Err(StackError::other("choose a strategy", error)),
        // Repeated, it finds out; another one might be chosen beside the first.
        Outcome::Unknown(error) => {
            let what = "tell whether the strategy was chosen (switch to the same again)";
            Err(StackError::other(what, error))
        }
    }
}

/// Publishes and works off everything that waits, with relays and workers and no listener.
async fn drain(
    rt: &Rt,
    config: &Arc<Config>,
    metrics: Metrics,
    opened: &Opened,
    progress: &(dyn Fn(Waiting) + Sync),
) -> Result<(), StackError> {
    // Nobody is called.
    let token = Secret(format!("{:016x}", rt.random_u64()).into());
    let stop = Shutdown::new();
    let shared = Shared {
        rt: rt.clone(),
        rpc: Peers::new(rt.clone(), Proof::new(&token.0)),
        metrics,
        config: Arc::clone(config),
        token,
        blobs: None,
        halves: Halves { http: false, worker: true },
        stop: stop.clone(),
    };
    let backends = &opened.backends;
    let mut services = vec![shared.build(Role::Timeline, 0, backends)?];
    let node = Node::start(rt, &mut services, stop);
    let mut relays = Vec::new();
    for (role, outbox) in backends.outboxes() {
        let topic = if role == Role::User { Topic::GraphEvents } else { Topic::TweetEvents };
        let Some(bus) = backends.bus.clone() else { continue };
        let relay = Relay::new(shared.common(role, 0, backends), outbox, bus, topic);
        relays.push(rt.spawn("relay", relay.run()));
    }
    let (began, mut empty) = (Instant::now(), 0);
    let drained = loop {
        match waiting(opened).await {
            Ok(waiting) if waiting == Waiting::default() => empty += 1,
            Ok(waiting) => {
                empty = 0;
                progress(waiting);
            }
            Err(error) => break Err(StackError::other("look at what waits", error)),
        }
        if empty == EMPTY_LOOKS {
            break Ok(());
        }
        if began.elapsed() > DRAIN_MAX {
            let why = format!("it took more than {} s", DRAIN_MAX.as_secs());
            break Err(StackError::other("work off what waits", why));
        }
        rt.sleep(LOOK).await;
    };
    opened.stop_receiving();
    node.stop(Duration::ZERO).await;
    for relay in relays {
        relay.join().await;
    }
    drained
}

async fn waiting(opened: &Opened) -> Read<Waiting> {
    let mut waiting = Waiting::default();
    for (_, outbox) in opened.backends.outboxes() {
        waiting.unsent += outbox.stats().await?.unsent;
    }
    if let Some(bus) = &opened.backends.bus {
        for lane in Queue::ALL {
            let stats = bus.stats(lane).await?;
            waiting.messages += stats.depth + stats.in_flight;
        }
    }
    Ok(waiting)
}
