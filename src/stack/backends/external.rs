//! Servers as backends: databases of the user and the tweet role, the shared caches, the durable copy
//! and the bus. Several processes of a role may run over them, so nothing that somebody holds is taken
//! up at a start: it comes back when its time runs out.
//!
//! A role that waits at its start waits for what it cannot answer without: its database, or the
//! durable copy. Caches, limits and hints may be away, at a start as at any other time.

use std::{sync::Arc, time::Duration};

use super::super::{
    StackError,
    roles::{Backends, TimelineBackend, TweetBackend, UserBackend},
    waits::Patience,
};
use crate::{
    adapters::{
        postgres::{self, Pg, TweetStores, UserStores},
        redis::{Redis, RedisCache, RedisHints, RedisLimiter},
    },
    config::Config,
    ports::{Bus, TimelineStore},
    rt::Rt,
    wire::routes::Role,
};

/// The pause after the first attempt at a store that is not there; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest pause between two attempts: a store that came is found soon, and a log is not filled.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Why a store was not opened.
struct Trouble {
    /// One sentence.
    why: String,
    /// A later attempt may go better.
    passes: bool,
}

impl From<postgres::OpenError> for Trouble {
    fn from(error: postgres::OpenError) -> Self {
        Self { why: error.to_string(), passes: error.passes() }
    }
}

impl From<Trouble> for StackError {
    fn from(Trouble { why, passes }: Trouble) -> Self {
        if passes { Self::Store(why) } else { Self::Schema(why) }
    }
}

/// Opens what `roles` use. Also gives the pools, to be closed.
pub(super) async fn open(
    rt: &Rt,
    config: &Config,
    roles: &[Role],
    patience: &Patience,
) -> Result<(Backends, Vec<Pg>), StackError> {
    let has = |role: Role| roles.contains(&role);
    let migrate = config.backends.migrate;
    let user = when(has(Role::User), || {
        attempts(rt, patience, "postgres of the user role", || {
            UserStores::open(rt, &config.postgres, migrate)
        })
    });
    let tweet = when(has(Role::Tweet), || {
        attempts(rt, patience, "postgres of the tweet role", || {
            TweetStores::open(rt, &config.postgres, migrate)
        })
    });
    let copy = when(has(Role::Timeline), || {
        attempts(rt, patience, "cassandra", || copy(rt, config, migrate))
    });
    let uses_bus = roles.iter().any(|role| *role != Role::Gateway);
    let bus = when(uses_bus, || attempts(rt, patience, "bus", || bus(rt, config)));
    let redis = Redis::new(rt.clone(), config.redis.clone());
    let caches = async {
        match patience {
            // Whoever starts a whole stack wants to be told now.
            Patience::Once => {
                redis.ping().await.map_err(|error| StackError::Store(error.to_string()))
            }
            Patience::Wait(_) => Ok(()),
        }
    };
    let (user, tweet, copy, bus, ()) = futures_util::try_join!(user, tweet, copy, bus, caches)?;

    let databases = user.iter().map(|user| &user.db).chain(tweet.iter().map(|tweet| &tweet.db));
    let databases = databases.cloned().collect();
    let timeline = copy.map(|store| {
        let entries_max = usize::try_from(config.services.timeline.entries_max);
        let cache =
            Arc::new(RedisCache::new(Arc::clone(&redis), entries_max.unwrap_or(usize::MAX)));
        TimelineBackend { store, cache: cache.clone(), relations: cache.clone(), bodies: cache }
    });
    let backends = Backends {
        user: user.map(|UserStores { users, graph, outbox, keys, .. }| UserBackend {
            users,
            graph,
            keys,
            outbox,
        }),
        tweet: tweet.map(|TweetStores { tweets, outbox, .. }| TweetBackend { tweets, outbox }),
        timeline,
        bus,
        limiter: Arc::new(RedisLimiter::new(Arc::clone(&redis))),
        hints: Arc::new(RedisHints::new(redis)),
    };
    Ok((backends, databases))
}

async fn when<T, F: Future<Output = Result<T, StackError>>>(
    wanted: bool,
    open: impl FnOnce() -> F,
) -> Result<Option<T>, StackError> {
    if wanted { open().await.map(Some) } else { Ok(None) }
}

/// Opens a store, as often as `patience` allows.
async fn attempts<T, E: Into<Trouble>>(
    rt: &Rt,
    patience: &Patience,
    store: &'static str,
    open: impl AsyncFn() -> Result<T, E>,
) -> Result<T, StackError> {
    let mut pause = RETRY_MIN;
    loop {
        let trouble = match open().await {
            Ok(opened) => {
                if let Patience::Wait(waits) = patience {
                    waits.done(store);
                }
                return Ok(opened);
            }
            Err(error) => error.into(),
        };
        match patience {
            Patience::Wait(waits) if trouble.passes => {
                tracing::warn!(store, why = trouble.why, "waiting for a store");
                waits.note(store, &trouble.why);
                rt.sleep(rt.jitter(pause)).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
            _ => return Err(trouble.into()),
        }
    }
}

async fn copy(
    _rt: &Rt,
    _config: &Config,
    _migrate: bool,
) -> Result<Arc<dyn TimelineStore>, Trouble> {
    Err(Trouble { why: "the durable copy has no adapter yet".to_owned(), passes: false })
}

async fn bus(_rt: &Rt, _config: &Config) -> Result<Arc<dyn Bus>, Trouble> {
    Err(Trouble { why: "the bus has no adapter yet".to_owned(), passes: false })
}
