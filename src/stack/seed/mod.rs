//! `chirp seed`: fills an empty data set with a graph of people who have tweeted for a month.
//!
//! [`plan`] says what is made, [`words`] how people and tweets read, [`SeedStore`] where it goes. The data
//! set notes the order before anything else and that it is done at the end, so that a seed that was killed
//! goes on when the same is ordered again, and nothing else is ever mixed with it. Relays and workers have
//! no part in it: no event is written.

pub mod credentials;
pub mod plan;

mod servers;
mod words;

use std::{
    ops::Range,
    path::Path,
    time::{Duration, Instant},
};

pub use self::plan::{Order, Plan};
use super::{DataDir, StackError};
use crate::{
    adapters::embedded::{Stores, sqlite::Options},
    config::Config,
    ports::{
        KeyStore, Kind, Outcome, PasswordHash, SeedMark, SeedStore, SeedUser, StoreError,
        StoredKey, keys::signs,
    },
    rt::{Rt, Shutdown},
    services::user::hash_password,
};
use servers::Servers;

/// Users of a batch have about so many edges: over files a transaction of some 100 MB of log.
const BATCH_EDGES: usize = 500_000;
/// Users of a batch.
const BATCH_USERS: usize = 20_000;
/// Tweets of a batch.
const BATCH_TWEETS: usize = 50_000;

/// How far a part of the work is.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    /// `users`, `tweets`.
    pub name: &'static str,
    /// Users or tweets that are there.
    pub done: u64,
    /// Of how many.
    pub of: u64,
}

/// Told of every batch.
pub type Progress<'a> = dyn Fn(Part) + Sync + 'a;

/// What was filled in.
#[derive(Clone, Debug)]
pub struct Seeded {
    /// Users.
    pub users: u32,
    /// Edges.
    pub edges: usize,
    /// Tweets.
    pub tweets: usize,
    /// SHA-256 of all of it, in hexadecimal digits.
    pub sha256: String,
    /// The password of all users and its hash; `None` if they had one before.
    pub password: Option<(String, PasswordHash)>,
    /// How long filling took: without making the plan, tokens and hash.
    pub took: Duration,
}

/// The stores of a data set, and what signs its tokens.
pub struct Target {
    store: Box<dyn SeedStore>,
    keys: std::sync::Arc<dyn KeyStore>,
    /// Closed at the end.
    files: Option<Stores>,
}

impl Target {
    /// The files of a folder, which the caller holds.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn files(rt: &Rt, dir: &DataDir) -> Result<Self, StackError> {
        let (root, clock) = (dir.root().to_owned(), rt.clone());
        let opened = rt.blocking(move || Stores::open(&root, &clock, Options::default())).await;
        let files = opened.ok_or_else(|| StackError::other("open the stores", "a panic"))??;
        let (store, keys) = (Box::new(files.seeds()), files.user.keys.clone());
        Ok(Self { store, keys, files: Some(files) })
    }

    /// The servers that `config` names, whose schemas are up to date.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn servers(rt: &Rt, config: &Config) -> Result<Self, StackError> {
        let (store, keys) = Servers::open(rt, config).await?;
        Ok(Self { store: Box::new(store), keys, files: None })
    }

    /// What the data set was filled with.
    ///
    /// # Errors
    /// [`StackError`].
    pub async fn mark(&self) -> Result<Option<SeedMark>, StackError> {
        self.store.mark().await.map_err(|error| StackError::other("read what was seeded", error))
    }

    /// Closes files.
    pub async fn close(self, rt: &Rt) {
        if let Some(files) = self.files {
            rt.blocking(move || files.close()).await;
        }
    }

    /// Fills in what `order` says, or what is missing of it, until `told` says that it shall stop. Fails
    /// also if the data set is not empty, or holds another order.
    async fn fill(
        &self,
        rt: &Rt,
        config: &Config,
        (order, plan): (&Order, &Plan),
        progress: &Progress<'_>,
        told: &Shutdown,
    ) -> Result<Seeded, StackError> {
        let began = Instant::now();
        let what = order.to_string();
        let done = match self.mark().await? {
            Some(mark) if mark.what != what => {
                return Err(StackError::OtherSeed { found: mark.what, wanted: what });
            }
            Some(mark) => mark.done,
            None => {
                let empty = self.store.is_empty().await;
                if !empty.map_err(|error| StackError::other("look into the stores", error))? {
                    return Err(StackError::NotEmpty);
                }
                self.written(self.store.begin(&what).await)?;
                false
            }
        };
        let mut password = None;
        if !done {
            self.users(plan, progress, told).await?;
            self.tweets(plan, progress, told).await?;
            let limit = config.services.fanout.celebrity_followers;
            self.written(self.store.pulled(&plan.followed_by(limit)).await)?;
            password = Some(new_password(rt, config).await?);
        }
        let (users, edges, tweets) = (plan.users(), plan.graph().edges(), plan.tweets());
        let (took, sha256) = (began.elapsed(), plan.sha256());
        Ok(Seeded { users, edges, tweets, sha256, password, took })
    }

    /// [`Target::fill`], then the credentials file `path` with tokens of the first `tokens` users, and
    /// only then the end: nobody could tell the password later. Also gives what that file has.
    ///
    /// # Errors
    /// [`StackError`]; the same order goes on.
    pub async fn fill_whole(
        &self,
        rt: &Rt,
        config: &Config,
        known: (&Order, &Plan),
        (path, tokens): (&Path, u32),
        progress: &Progress<'_>,
        told: &Shutdown,
    ) -> Result<(Seeded, credentials::Written), StackError> {
        let seeded = self.fill(rt, config, known, progress, told).await?;
        let password = seeded.password.as_ref().map(|(text, _)| text.clone());
        let key = self.signing_key(rt).await?;
        let file = credentials::write(rt, path, known, &key, password, tokens)?;
        if let Some((_, hash)) = &seeded.password {
            self.written(self.store.finish(hash).await)?;
        }
        Ok((seeded, file))
    }

    fn written(&self, outcome: Outcome<()>) -> Result<(), StackError> {
        outcome.certain().map_err(|error| self.trouble("fill the stores", error))
    }

    /// Why `what` cannot be done. Of a server that is full its own text says which.
    fn trouble(&self, what: &'static str, error: StoreError) -> StackError {
        let folder = self.files.as_ref().and_then(|files| files.user.db.path().parent());
        match folder {
            Some(folder) if error.kind == Kind::Full => {
                StackError::Full { path: folder.to_owned(), reason: error.message }
            }
            _ => StackError::other(what, error),
        }
    }

    /// The key that signs now; one is made if there is none.
    async fn signing_key(&self, rt: &Rt) -> Result<StoredKey, StackError> {
        const WHAT: &str = "read the signing keys";
        let failed = |error| self.trouble(WHAT, error);
        let mut known = self.keys.load().await.map_err(failed)?;
        if known.is_empty() {
            known =
                self.keys.replace(&[], &[StoredKey::new(rt)]).await.certain().map_err(failed)?;
        }
        let key = signs(&known, rt.wall_ms()).cloned();
        key.ok_or_else(|| StackError::other(WHAT, "there is none"))
    }

    async fn users(
        &self,
        plan: &Plan,
        progress: &Progress<'_>,
        told: &Shutdown,
    ) -> Result<(), StackError> {
        let mut tweets = plan.by_author();
        let of = u64::from(plan.users());
        for range in batches(plan) {
            goes_on(told)?;
            let batch = range.clone().map(|user| SeedUser {
                account: plan.account(user),
                following: plan.following(user),
                followers: plan.followers(user),
                pairs: plan.pairs(user).collect(),
                tweets: std::mem::take(&mut tweets[user as usize]),
            });
            self.written(self.store.users(batch.collect()).await)?;
            progress(Part { name: "users", done: u64::from(range.end), of });
        }
        Ok(())
    }

    async fn tweets(
        &self,
        plan: &Plan,
        progress: &Progress<'_>,
        told: &Shutdown,
    ) -> Result<(), StackError> {
        let of = plan.tweets();
        for first in (0..of).step_by(BATCH_TWEETS) {
            goes_on(told)?;
            let end = of.min(first + BATCH_TWEETS);
            self.written(self.store.tweets(plan.bodies(first..end).collect()).await)?;
            progress(Part { name: "tweets", done: end as u64, of: of as u64 });
        }
        Ok(())
    }
}

/// Users in batches of about as many edges.
fn batches(plan: &Plan) -> Vec<Range<u32>> {
    let graph = plan.graph();
    let mut all = Vec::new();
    let (mut first, mut edges) = (0, 0);
    for user in 0..plan.users() {
        edges += graph.following.of(user).len() + graph.followers.of(user).len();
        if edges >= BATCH_EDGES || (user - first) as usize + 1 == BATCH_USERS {
            all.push(first..user + 1);
            (first, edges) = (user + 1, 0);
        }
    }
    if first < plan.users() {
        all.push(first..plan.users());
    }
    all
}

fn goes_on(told: &Shutdown) -> Result<(), StackError> {
    if told.is_cancelled() { Err(StackError::Stopped) } else { Ok(()) }
}

async fn new_password(rt: &Rt, config: &Config) -> Result<(String, PasswordHash), StackError> {
    let text = format!("{:016x}", rt.random_u64());
    let hash = hash_password(rt, &config.services.auth, text.clone()).await;
    let hash = hash.ok_or_else(|| StackError::other("hash a password", "it was refused"))?;
    Ok((text, hash))
}

/// Makes a plan away from the async threads.
///
/// # Errors
/// There is no such profile.
pub async fn make(rt: &Rt, order: &Order) -> Result<Plan, StackError> {
    let own = order.clone();
    let made = rt.blocking(move || Plan::new(&own)).await;
    let made = made.ok_or_else(|| StackError::other("make a graph", "a panic"))?;
    made.map_err(|invalid| StackError::other("make a graph", invalid))
}

/// Refuses a data set whose seed was not finished: what runs over it would show a part.
pub(super) fn refuse_unfinished(mark: Option<SeedMark>) -> Result<(), StackError> {
    match mark {
        Some(mark) if !mark.done => Err(StackError::HalfSeeded(mark.what)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rt::tokio_rt::TokioRuntime;

    #[tokio::test]
    async fn a_store_without_room_is_told_with_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let (rt, dir) = (TokioRuntime::handle(), DataDir::at(folder.path()));
        let (order, config) = (Order::of("demo"), Config::default());
        let plan = make(&rt, &order).await.unwrap();
        let target = Target::files(&rt, &dir).await.unwrap();
        let limit = |conn: &rusqlite::Connection| {
            conn.query_row("pragma max_page_count = 60", [], |_| Ok(())).map_err(Into::into)
        };
        let limited = &target.files.as_ref().unwrap().tweet.db;
        limited.write("test", limit).await.certain().unwrap();
        let (path, never) = (folder.path().join(credentials::FILE), Shutdown::new());
        let (known, wanted) = ((&order, &plan), (path.as_path(), 1));
        let ended = target.fill_whole(&rt, &config, known, wanted, &|_| (), &never).await;
        let Err(StackError::Full { path, reason }) = ended else { panic!("{ended:?}") };
        assert_eq!(path, folder.path());
        assert!(reason.contains("full"), "{reason}");
        target.close(&rt).await;
    }
}
