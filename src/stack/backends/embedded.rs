//! The embedded backends of a process: each role's files, and the caches beside them.

use std::{path::Path, sync::Arc};

use super::super::{
    DataDir, StackError,
    roles::{Backends, TimelineBackend, TweetBackend, UserBackend},
    seed::refuse_unfinished,
    strategy::settle,
    waits::Patience,
};
use crate::{
    adapters::embedded::{
        Db, OpenError, TimelineStores, TweetStores, UserStores,
        cache::{EmbeddedCache, Limits},
        hints::EmbeddedHints,
        keys::{self, FileKeys},
        limiter::EmbeddedLimiter,
        seeds,
        sqlite::Options,
    },
    config::Config,
    ports::{Chosen, Hints, KeyStore, Kind, RateLimiter, StoreError},
    rt::Rt,
    wire::routes::Role,
};

/// Opens what `roles` own, and the bus if any of them uses it. Also gives the files, to be closed.
pub(super) async fn open(
    dir: &DataDir,
    rt: &Rt,
    config: &Config,
    roles: &[Role],
    patience: &Patience,
) -> Result<(Backends, Vec<Db>), StackError> {
    if roles.contains(&Role::User) {
        check_keys(dir, rt).await?;
    }
    let root = dir.root().to_owned();
    let (own, clock) = (roles.to_vec(), rt.clone());
    let opened = rt.blocking(move || open_files(&root, &clock, &own)).await;
    let opened = opened.ok_or_else(|| StackError::other("open the stores", "a panic"))?;
    let stores = opened.map_err(StackError::from)?;
    let files: Vec<Db> = {
        let (user, tweet, timeline) = &stores;
        let user = user.iter().map(|user| &user.db);
        let rest = tweet.iter().map(|t| &t.db).chain(timeline.iter().map(|t| &t.db));
        user.chain(rest).cloned().collect()
    };
    let chosen = match settled(rt, config, roles, patience, &stores).await {
        Ok(chosen) => chosen,
        Err(error) => {
            rt.blocking(move || files.iter().for_each(Db::close)).await;
            return Err(error);
        }
    };
    recover(rt, roles, &stores).await;
    let (user, tweet, timeline) = stores;
    let bus = timeline.as_ref().map(|timeline| Arc::clone(&timeline.bus));
    let timeline = timeline.filter(|_| roles.contains(&Role::Timeline));
    let timeline = timeline.map(|timeline| timeline_role(rt, config, timeline, chosen));
    let limiter: Arc<dyn RateLimiter> = Arc::new(EmbeddedLimiter::new(rt.clone()));
    let hints: Arc<dyn Hints> = Arc::new(EmbeddedHints::new());
    let backends = Backends {
        user: user.map(|UserStores { users, graph, outbox, keys, .. }| UserBackend {
            users,
            graph,
            keys,
            outbox,
        }),
        tweet: tweet.map(|TweetStores { tweets, media, outbox, .. }| TweetBackend {
            tweets,
            media,
            outbox,
        }),
        timeline,
        pictures: None,
        bus,
        limiter,
        hints,
    };
    Ok((backends, files))
}

/// Refuses a part of a seed, and gives the strategy of the data set to a timeline role.
async fn settled(
    rt: &Rt,
    config: &Config,
    roles: &[Role],
    patience: &Patience,
    (user, _, timeline): &Files,
) -> Result<Chosen, StackError> {
    if let Some(user) = user {
        let mark = seeds::mark(&user.db).await;
        let mark = mark.map_err(|error| StackError::other("read what was seeded", error))?;
        refuse_unfinished(mark)?;
    }
    match timeline.as_ref().filter(|_| roles.contains(&Role::Timeline)) {
        Some(timeline) => {
            let (homes, fanout) = (&*timeline.homes, &config.services.fanout);
            Ok(settle(rt, homes, fanout, patience).await?)
        }
        None => Ok(Chosen::default()),
    }
}

/// Takes up what is held: the locks say that nobody else owns these files, so a dead process holds it.
async fn recover(rt: &Rt, roles: &[Role], (user, tweet, timeline): &Files) {
    let recovered = async {
        let mut rows = 0;
        if let Some(user) = user {
            rows += user.recover().await.certain()?;
        }
        if let Some(tweet) = tweet {
            rows += tweet.recover().await.certain()?;
        }
        if let Some(timeline) = timeline.as_ref().filter(|_| roles.contains(&Role::Timeline)) {
            rows += timeline.recover(rt).await.certain()?;
        }
        Ok::<u64, StoreError>(rows)
    };
    match recovered.await {
        Ok(0) => {}
        Ok(rows) => tracing::info!(rows, "took up what a killed process held"),
        // Then they come back when their time runs out.
        Err(error) => tracing::warn!(%error, "what a killed process held waits for its lease"),
    }
}

fn timeline_role(
    rt: &Rt,
    config: &Config,
    stores: TimelineStores,
    chosen: Chosen,
) -> TimelineBackend {
    let entries_max = usize::try_from(config.services.timeline.entries_max);
    let limits = Limits { entries_max: entries_max.unwrap_or(usize::MAX), ..Limits::default() };
    let cache = Arc::new(EmbeddedCache::new(rt.clone(), limits));
    TimelineBackend {
        store: stores.store,
        homes: stores.homes,
        chosen,
        cache: cache.clone(),
        relations: cache.clone(),
        bodies: cache,
    }
}

/// Tells of damaged keys before anything waits for them: a service would ask again and again.
async fn check_keys(dir: &DataDir, rt: &Rt) -> Result<(), StackError> {
    match FileKeys::new(dir.root(), rt.clone()).load().await {
        Ok(_) => Ok(()),
        Err(error) if error.kind == Kind::Corrupt => {
            let (path, reason) = (dir.root().join(keys::FILE), "it does not hold keys".to_owned());
            Err(StackError::Corrupt { path, reason })
        }
        Err(error) => Err(StackError::other("read the signing keys", error)),
    }
}

type Files = (Option<UserStores>, Option<TweetStores>, Option<TimelineStores>);

fn open_files(root: &Path, rt: &Rt, roles: &[Role]) -> Result<Files, OpenError> {
    let has = |role| roles.contains(&role);
    let options = Options::default();
    // Everybody but the gateway publishes to the bus or receives from it.
    let bus = roles.iter().any(|role| *role != Role::Gateway);
    let user = has(Role::User).then(|| UserStores::open(root, rt, options)).transpose()?;
    let tweet = has(Role::Tweet).then(|| TweetStores::open(root, options)).transpose()?;
    let timeline = bus.then(|| TimelineStores::open(root, rt, options)).transpose()?;
    Ok((user, tweet, timeline))
}

impl From<OpenError> for StackError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotWritable { path, why } => Self::Unwritable { path, reason: why },
            OpenError::Full { path, why } => Self::Full { path, reason: why },
            OpenError::Corrupt { path, why } => Self::Corrupt { path, reason: why },
            OpenError::Lost { path, why } => Self::Lost { path, reason: why },
            OpenError::Foreign { path, expected } => {
                Self::Lost { path, reason: format!("it is not the {expected} store") }
            }
            OpenError::Version { path, found, expected } => {
                Self::Version { path, found: found.into(), known: expected.into() }
            }
            OpenError::Busy { path } => {
                let path = path.parent().unwrap_or(&path).to_owned();
                Self::Locked { path, holder: "another program".to_owned() }
            }
        }
    }
}
