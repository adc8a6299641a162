//! Servers as backends: databases of the user and the tweet role, the shared caches, the durable copy
//! and the bus. Several processes of a role may run over them, so nothing that somebody holds is taken
//! up at a start: it comes back when its time runs out.
//!
//! A role that waits at its start waits for what it cannot answer without: its database, or the
//! durable copy. Caches, limits and hints may be away, at a start as at any other time.

use std::{sync::Arc, time::Duration};

use super::{
    super::{
        StackError,
        migrate::Lacking,
        roles::{Backends, TimelineBackend, TweetBackend, UserBackend},
        seed::refuse_unfinished,
        strategy::{Unsettled, settle},
        waits::Patience,
    },
    Servers,
};
use crate::{
    adapters::{
        cassandra::{self, CassandraTimelineStore},
        circuit::{Circuit, Guarded, Intake},
        endpoint::Endpoint,
        postgres::{
            self, TweetStores, UserStores,
            migrate::{self, Steps, TWEET, USER},
            seeds,
        },
        redis as shared,
        s3::S3Blobs,
        sns_sqs::{self, SnsSqsBus},
    },
    config::{self, Aws, Config},
    domain::fanout::Strategy,
    ports::{
        BlobStore, BodyCache, Bus, Chosen, GraphStore, HomeStore, KeyStore, MediaStore, Outbox,
        Outcome, RateLimiter, RelationCache, StoreError, TimelineCache, TimelineStore, TweetStore,
        UserStore,
    },
    rt::Rt,
    telemetry::Metrics,
    wire::routes::Role,
};

/// The pause after the first attempt at a store that is not there; doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest pause between two attempts: a store that came is found soon, and a log is not filled.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Why a store was not opened.
pub(in crate::stack) struct Trouble {
    error: StackError,
    /// A later attempt may go better.
    passes: bool,
}

impl From<postgres::OpenError> for Trouble {
    fn from(error: postgres::OpenError) -> Self {
        let (why, passes) = (error.to_string(), error.passes());
        let error = if passes { StackError::Store(why) } else { StackError::Schema(why) };
        Self { error, passes }
    }
}

impl From<cassandra::OpenError> for Trouble {
    fn from(error: cassandra::OpenError) -> Self {
        let why = error.to_string();
        match error {
            cassandra::OpenError::Unreachable { .. } | cassandra::OpenError::Login { .. } => {
                Self { error: StackError::Store(why), passes: true }
            }
            cassandra::OpenError::Tls { .. } => {
                Self { error: StackError::Store(why), passes: false }
            }
            // A step that a cluster in trouble did not take in time comes as this, too.
            cassandra::OpenError::Schema { .. } => {
                Self { error: StackError::Schema(why), passes: true }
            }
            cassandra::OpenError::Behind { .. } | cassandra::OpenError::Foreign { .. } => {
                Self { error: StackError::Schema(why), passes: false }
            }
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self { error: StackError::Store(error.to_string()), passes: true }
    }
}

impl From<Unsettled> for Trouble {
    fn from(unsettled: Unsettled) -> Self {
        let passes = matches!(unsettled, Unsettled::Store(_));
        Self { error: unsettled.into(), passes }
    }
}

impl From<sns_sqs::OpenError> for Trouble {
    fn from(error: sns_sqs::OpenError) -> Self {
        Self { error: StackError::Store(error.to_string()), passes: true }
    }
}

impl From<Trouble> for StackError {
    fn from(trouble: Trouble) -> Self {
        trouble.error
    }
}

/// The shortest poll of the bus, whatever the pause before a stop is: polls cost money.
const POLL_MIN: Duration = Duration::from_secs(1);

/// Opens what `roles` use. Also gives what is closed at the end.
pub(super) async fn open(
    rt: &Rt,
    config: &Config,
    metrics: &Metrics,
    roles: &[Role],
    patience: &Patience,
) -> Result<(Backends, Servers), StackError> {
    let has = |role: Role| roles.contains(&role);
    let migrate = config.backends.migrate;
    let postgres = Endpoint::configured(rt, &config.postgres);
    let user = when(has(Role::User), || user_stores(rt, &postgres, migrate, patience));
    let tweet = when(has(Role::Tweet), || {
        attempts(rt, patience, "postgres of the tweet role", || {
            TweetStores::open(rt, &postgres, migrate)
        })
    });
    let copy = when(has(Role::Timeline), || copy_and_strategy(rt, config, patience));
    let uses_bus = roles.iter().any(|role| *role != Role::Gateway);
    let bus =
        when(uses_bus, || attempts(rt, patience, "SNS and SQS", || bus(rt, config, patience)));
    let redis = shared::Redis::new(rt.clone(), Endpoint::configured(rt, &config.redis));
    let ping = async {
        match patience {
            // Whoever starts a whole stack wants to be told now.
            Patience::Look | Patience::Once => {
                redis.ping().await.map_err(|error| StackError::Store(error.to_string()))
            }
            Patience::Wait(_) => Ok(()),
        }
    };
    let pictures = when(has(Role::Tweet), || pictures(rt, config, patience));
    let (user, tweet, copy, bus, pictures, ()) =
        futures_util::try_join!(user, tweet, copy, bus, pictures, ping)?;

    let databases = user.iter().map(|user| &user.db).chain(tweet.iter().map(|tweet| &tweet.db));
    let databases = databases.cloned().collect();
    let circuit = |store| Circuit::new(store, rt, metrics);
    let caches = circuit("redis");
    let mut needs = vec![Arc::clone(&caches)];
    let timeline = copy.map(|store| {
        let copy = circuit("cassandra");
        needs.push(Arc::clone(&copy));
        timeline(config, store, &copy, &redis, &caches)
    });
    let pictures = pictures.map(|blobs| {
        Guarded::<dyn BlobStore>::new(Arc::new(blobs), &circuit("s3")) as Arc<dyn BlobStore>
    });
    let poll_max = config.serve.drain_delay().max(POLL_MIN);
    let intake = bus.map(|bus| {
        let bus = Guarded::<dyn Bus>::new(bus, &circuit("bus"));
        Intake::new(bus, rt, needs, poll_max)
    });
    let limiter = Arc::new(shared::RedisLimiter::new(Arc::clone(&redis)));
    let backends = Backends {
        user: user.map(|stores| user_role(stores, &circuit("postgres_user"))),
        tweet: tweet.map(|stores| tweet_role(stores, &circuit("postgres_tweet"))),
        timeline,
        pictures,
        bus: intake.clone().map(|intake| intake as Arc<dyn Bus>),
        limiter: Guarded::<dyn RateLimiter>::new(limiter, &caches),
        hints: Arc::new(shared::RedisHints::new(redis)),
    };
    Ok((backends, Servers { databases, intake }))
}

/// The user role's database, unless it holds a part of a seed.
async fn user_stores(
    rt: &Rt,
    postgres: &Endpoint<config::Postgres>,
    migrate: bool,
    patience: &Patience,
) -> Result<UserStores, StackError> {
    let store = "postgres of the user role";
    let open = || UserStores::open(rt, postgres, migrate);
    let opened = attempts(rt, patience, store, open).await?;
    let mark = attempts(rt, patience, store, async || seeds::mark(&opened.db).await).await?;
    refuse_unfinished(mark)?;
    Ok(opened)
}

/// The timeline role's copy, and the strategy of the data set.
async fn copy_and_strategy(
    rt: &Rt,
    config: &Config,
    patience: &Patience,
) -> Result<(Arc<CassandraTimelineStore>, Chosen), StackError> {
    let (store, fanout) = ("cassandra", &config.services.fanout);
    let cassandra = Endpoint::configured(rt, &config.cassandra);
    let open = || copy(rt, &cassandra, config.backends.migrate);
    let opened = attempts(rt, patience, store, open).await?;
    // A release without strategies, which was `hybrid`, may have left lists that another one does not
    // keep up.
    let begins = async || match (patience, fanout.wanted()) {
        (Patience::Look, _) | (_, None | Some(Strategy::Hybrid)) => Ok::<bool, StoreError>(false),
        (_, Some(_)) => Ok(opened.chosen().await?.version == 0),
    };
    if attempts(rt, patience, store, begins).await? {
        let forget = async || forget_lists(rt, config).await.certain();
        attempts(rt, patience, "redis", forget).await?;
    }
    let settle = async || settle(rt, &*opened, fanout, patience).await;
    let chosen = attempts(rt, patience, store, settle).await?;
    Ok((opened, chosen))
}

fn user_role(stores: UserStores, circuit: &Arc<Circuit>) -> UserBackend {
    UserBackend {
        users: Guarded::<dyn UserStore>::new(stores.users, circuit),
        graph: Guarded::<dyn GraphStore>::new(stores.graph, circuit),
        keys: Guarded::<dyn KeyStore>::new(stores.keys, circuit),
        outbox: Guarded::<dyn Outbox>::new(stores.outbox, circuit),
    }
}

fn tweet_role(stores: TweetStores, circuit: &Arc<Circuit>) -> TweetBackend {
    TweetBackend {
        tweets: Guarded::<dyn TweetStore>::new(stores.tweets, circuit),
        media: Guarded::<dyn MediaStore>::new(stores.media, circuit),
        outbox: Guarded::<dyn Outbox>::new(stores.outbox, circuit),
    }
}

fn timeline(
    config: &Config,
    (store, chosen): (Arc<CassandraTimelineStore>, Chosen),
    copy: &Arc<Circuit>,
    redis: &Arc<shared::Redis>,
    caches: &Arc<Circuit>,
) -> TimelineBackend {
    let entries_max = usize::try_from(config.services.timeline.entries_max);
    let cache = shared::RedisCache::new(Arc::clone(redis), entries_max.unwrap_or(usize::MAX));
    let cache = Arc::new(cache);
    TimelineBackend {
        store: Guarded::<dyn TimelineStore>::new(store.clone(), copy),
        homes: Guarded::<dyn HomeStore>::new(store, copy),
        chosen,
        cache: Guarded::<dyn TimelineCache>::new(cache.clone(), caches),
        relations: Guarded::<dyn RelationCache>::new(cache.clone(), caches),
        bodies: Guarded::<dyn BodyCache>::new(cache, caches),
    }
}

/// What was opened, or why not.
pub(in crate::stack) fn opened<T>(result: Result<T, impl Into<Trouble>>) -> Result<T, StackError> {
    result.map_err(|error| error.into().into())
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
                tracing::warn!(store, error = %trouble.error, "waiting for a store");
                waits.note(store);
                rt.sleep(rt.jitter(pause)).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
            _ => return Err(trouble.into()),
        }
    }
}

async fn copy(
    rt: &Rt,
    cassandra: &Endpoint<config::Cassandra>,
    migrate: bool,
) -> Result<Arc<CassandraTimelineStore>, cassandra::OpenError> {
    if migrate {
        cassandra::migrate(rt, cassandra).await?;
    }
    let store = CassandraTimelineStore::open(rt, cassandra).await?;
    Ok(Arc::new(store))
}

/// The bucket of pictures, which is made if schemas are and `aws.ensure` allows it. Posts without
/// pictures do not need it, so whoever waits at a start does not wait for it: it is made later.
async fn pictures(rt: &Rt, config: &Config, patience: &Patience) -> Result<S3Blobs, StackError> {
    let blobs = S3Blobs::new(&config.aws).await;
    if config.backends.migrate
        && config.aws.ensure
        && let Err(error) = blobs.prepare().await
    {
        match patience {
            Patience::Look | Patience::Once => return Err(StackError::Store(error.to_string())),
            Patience::Wait(_) => {
                tracing::warn!(%error, "the bucket of pictures is not ready");
                rt.spawn("bucket", prepare_later(rt.clone(), blobs.clone()));
            }
        }
    }
    Ok(blobs)
}

async fn prepare_later(rt: Rt, blobs: S3Blobs) {
    let mut pause = RETRY_MIN;
    loop {
        rt.sleep(rt.jitter(pause)).await;
        pause = (pause * 2).min(RETRY_MAX);
        if blobs.prepare().await.is_ok() {
            return tracing::info!("the bucket of pictures is ready");
        }
    }
}

/// The bus. Who waits for stores does not wait for it: events wait in their outbox, and it looks for
/// its topics and queues when they are needed.
async fn bus(rt: &Rt, config: &Config, patience: &Patience) -> Result<Arc<dyn Bus>, Trouble> {
    match patience {
        Patience::Look | Patience::Once => {
            let opened = SnsSqsBus::open(&config.aws, rt.clone()).await;
            opened.map(|bus| Arc::new(bus) as _).map_err(Trouble::from)
        }
        Patience::Wait(_) => Ok(Arc::new(SnsSqsBus::new(&config.aws, rt.clone()).await)),
    }
}

/// Forgets every list that is cached.
pub(in crate::stack) async fn forget_lists(rt: &Rt, config: &Config) -> Outcome<u64> {
    let endpoint = Endpoint::configured(rt, &config.redis);
    shared::Redis::new(rt.clone(), endpoint).forget_lists().await
}

/// The outboxes of both databases, as another process over them.
pub(in crate::stack) async fn outboxes(
    rt: &Rt,
    config: &Config,
) -> Result<Vec<Arc<dyn Outbox>>, StackError> {
    let postgres = Endpoint::configured(rt, &config.postgres);
    let user = UserStores::open(rt, &postgres, false).await.map_err(Trouble::from)?;
    let tweet = TweetStores::open(rt, &postgres, false).await.map_err(Trouble::from)?;
    Ok(vec![user.outbox, tweet.outbox])
}

/// How a server that keeps no schema answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It has what roles need.
    Ready,
    /// It answers, and has not yet what chirp makes, or with `aws.ensure` off somebody else.
    Unmade,
    /// It answers, and may not say whether it has what roles need.
    Untold,
    /// It does not answer, or refuses: what came back.
    Refused(String),
}

/// How the servers that keep no schema answer. Changes nothing.
pub(in crate::stack) async fn look(rt: &Rt, config: &Config) -> Vec<(&'static str, Look)> {
    let redis = shared::Redis::new(rt.clone(), Endpoint::configured(rt, &config.redis));
    let redis = async {
        redis.ping().await.map_or_else(|error| Look::Refused(error.to_string()), |()| Look::Ready)
    };
    let bus = async {
        let found = Aws { ensure: false, ..config.aws.clone() };
        match SnsSqsBus::open(&found, rt.clone()).await {
            Ok(_) => Look::Ready,
            Err(error) if error.absent => Look::Unmade,
            Err(error) => Look::Refused(error.why),
        }
    };
    let bucket = async {
        match S3Blobs::new(&config.aws).await.is_there().await {
            Ok(Some(true)) => Look::Ready,
            Ok(Some(false)) => Look::Unmade,
            Ok(None) => Look::Untold,
            Err(error) => Look::Refused(error.to_string()),
        }
    };
    let (redis, bus, bucket) = futures_util::join!(redis, bus, bucket);
    vec![("redis", redis), ("bus", bus), ("bucket", bucket)]
}

/// The databases of `roles`, each with its steps.
fn databases<'a>(
    config: &'a Config,
    roles: &'a [Role],
) -> impl Iterator<Item = (&'a str, Steps)> + 'a {
    let all = [
        (Role::User, config.postgres.user_database.as_str(), USER),
        (Role::Tweet, config.postgres.tweet_database.as_str(), TWEET),
    ];
    all.into_iter().filter(|(role, ..)| roles.contains(role)).map(|(_, name, steps)| (name, steps))
}

/// The schemas of `roles` that are behind. Changes nothing.
pub(in crate::stack) async fn lacking(
    rt: &Rt,
    config: &Config,
    roles: &[Role],
) -> Result<Vec<Lacking>, StackError> {
    let (mut all, postgres) = (Vec::new(), Endpoint::configured(rt, &config.postgres));
    for (database, steps) in databases(config, roles) {
        let missing = migrate::missing(rt, &postgres, database, steps).await;
        all.push(Lacking { store: database.to_owned(), steps: missing.map_err(Trouble::from)? });
    }
    if roles.contains(&Role::Timeline) {
        let endpoint = Endpoint::configured(rt, &config.cassandra);
        let missing = cassandra::check(rt, &endpoint).await.map_err(Trouble::from)?;
        all.push(Lacking { store: config.cassandra.keyspace.clone(), steps: missing });
    }
    all.retain(|lacking| !lacking.steps.is_empty());
    Ok(all)
}

/// Brings the schemas of `roles` up to date, and makes the bucket of pictures.
pub(in crate::stack) async fn migrate(
    rt: &Rt,
    config: &Config,
    roles: &[Role],
) -> Result<(), StackError> {
    let postgres = Endpoint::configured(rt, &config.postgres);
    for (database, steps) in databases(config, roles) {
        let taken = migrate::migrate(rt, &postgres, database, steps).await;
        taken.map_err(Trouble::from)?;
    }
    if roles.contains(&Role::Timeline) {
        let endpoint = Endpoint::configured(rt, &config.cassandra);
        cassandra::migrate(rt, &endpoint).await.map_err(Trouble::from)?;
    }
    if roles.contains(&Role::Tweet) && config.aws.ensure {
        let prepared = S3Blobs::new(&config.aws).await.prepare().await;
        prepared.map_err(|error| StackError::Store(error.to_string()))?;
    }
    Ok(())
}
