//! What a role opens: the files in the data folder, as ports.
//!
//! In one process [`Stores`] opens all of them. With one process per role each opens what it owns,
//! and [`TimelineStores`] for the bus; the files are safe to share.

use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt as _, path::Path, sync::Arc};

use super::{
    bulk::Seeder,
    bus::SqlBus,
    folder::{self, Folder},
    graph::SqlGraph,
    homes::SqlHomes,
    keys::FileKeys,
    media::SqlMedia,
    outbox::SqlOutbox,
    seeds::Seeds,
    sqlite::{self, Db, OpenError, Options, Schema},
    timeline_store::{self, SqlTimelines},
    tweets::{self, SqlTweets},
    users::{self, SqlUsers},
};
use crate::{
    ports::{
        Bus, GraphStore, HomeStore, KeyStore, MediaStore, Outbox, Outcome, TimelineStore,
        TweetStore, UserStore,
    },
    rt::Rt,
};

const USER_OUTBOX: &str = "user_outbox";
const TWEET_OUTBOX: &str = "tweet_outbox";

/// The user role's stores: `user.db` and `keys.json`.
#[derive(Clone)]
pub struct UserStores {
    /// Accounts and sessions.
    pub users: Arc<dyn UserStore>,
    /// The follow graph.
    pub graph: Arc<dyn GraphStore>,
    /// Events of the graph.
    pub outbox: Arc<dyn Outbox>,
    /// Signing keys.
    pub keys: Arc<dyn KeyStore>,
    /// The file under the first three.
    pub db: Db,
}

/// The tweet role's stores: `tweet.db`.
#[derive(Clone)]
pub struct TweetStores {
    /// Tweets.
    pub tweets: Arc<dyn TweetStore>,
    /// What is known of uploads.
    pub media: Arc<dyn MediaStore>,
    /// Events of tweets.
    pub outbox: Arc<dyn Outbox>,
    /// The file under all of them.
    pub db: Db,
}

/// The timeline role's store and everybody's bus: `timeline.db`.
#[derive(Clone)]
pub struct TimelineStores {
    /// The copy of tweets and graph.
    pub store: Arc<dyn TimelineStore>,
    /// Durable home timelines, and the strategy.
    pub homes: Arc<dyn HomeStore>,
    /// The bus.
    pub bus: Arc<dyn Bus>,
    /// The file under both.
    pub db: Db,
}

/// The stores of all roles.
#[derive(Clone)]
pub struct Stores {
    /// The user role's.
    pub user: UserStores,
    /// The tweet role's.
    pub tweet: TweetStores,
    /// The timeline role's, and the bus.
    pub timeline: TimelineStores,
}

fn open(dir: &Path, file: &str, schema: &Schema, options: Options) -> Result<Db, OpenError> {
    // Password hashes and keys live here: the folder is the owner's.
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| OpenError::not_writable(dir, &error))?;
    let folder = Folder::open(dir)?;
    let db = Db::open_in(&dir.join(file), schema, options, Some(folder.owner(file)))?;
    if !folder.has(file) {
        folder.add(dir, file)?;
    }
    Ok(db)
}

/// How many steps of its schema each store in `dir` lacks that has been made, by file name. Nothing is
/// changed.
///
/// # Errors
/// [`OpenError`], also for a store that is ahead of this build.
pub fn lacking(dir: &Path) -> Result<Vec<(&'static str, usize)>, OpenError> {
    let schemas = [
        (folder::USER, users::schema()),
        (folder::TWEET, tweets::schema()),
        (folder::TIMELINE, timeline_store::schema()),
    ];
    let made = schemas.into_iter().filter(|(file, _)| dir.join(file).exists());
    made.map(|(file, schema)| Ok((file, sqlite::lacking(&dir.join(file), &schema)?))).collect()
}

impl UserStores {
    /// Opens `user.db` in `dir`, which is made if it is missing. Blocks for some milliseconds.
    ///
    /// # Errors
    /// [`OpenError`], one variant per thing that a person can do about it.
    pub fn open(dir: &Path, rt: &Rt, options: Options) -> Result<Self, OpenError> {
        let db = open(dir, folder::USER, &users::schema(), options)?;
        Ok(Self {
            users: Arc::new(SqlUsers::new(db.clone())),
            graph: Arc::new(SqlGraph::new(db.clone())),
            outbox: Arc::new(SqlOutbox::new(db.clone(), USER_OUTBOX)),
            keys: Arc::new(FileKeys::new(dir, rt.clone())),
            db,
        })
    }

    /// Gives back the events that the last process had claimed when it died. Call it at the start if
    /// no other process works on the file; otherwise they come back when their lease ends. Gives
    /// their number.
    pub async fn recover(&self) -> Outcome<u64> {
        SqlOutbox::new(self.db.clone(), USER_OUTBOX).release_all().await
    }
}

impl TweetStores {
    /// Opens `tweet.db`; as [`UserStores::open`].
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Path, options: Options) -> Result<Self, OpenError> {
        let db = open(dir, folder::TWEET, &tweets::schema(), options)?;
        Ok(Self {
            tweets: Arc::new(SqlTweets::new(db.clone())),
            media: Arc::new(SqlMedia::new(db.clone())),
            outbox: Arc::new(SqlOutbox::new(db.clone(), TWEET_OUTBOX)),
            db,
        })
    }

    /// Gives back claimed events; as [`UserStores::recover`].
    pub async fn recover(&self) -> Outcome<u64> {
        SqlOutbox::new(self.db.clone(), TWEET_OUTBOX).release_all().await
    }
}

impl TimelineStores {
    /// Opens `timeline.db`; as [`UserStores::open`]. Open it once per process: receivers are woken
    /// at once only by publishers that share this value.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(dir: &Path, rt: &Rt, options: Options) -> Result<Self, OpenError> {
        let db = open(dir, folder::TIMELINE, &timeline_store::schema(), options)?;
        Ok(Self {
            store: Arc::new(SqlTimelines::new(db.clone())),
            homes: Arc::new(SqlHomes::new(db.clone())),
            bus: Arc::new(SqlBus::new(db.clone(), rt.clone())),
            db,
        })
    }

    /// Gives back messages in flight; as [`UserStores::recover`].
    pub async fn recover(&self, rt: &Rt) -> Outcome<u64> {
        SqlBus::new(self.db.clone(), rt.clone()).give_back_all().await
    }
}

impl Stores {
    /// Opens all three files; as [`UserStores::open`].
    ///
    /// # Errors
    /// [`OpenError`]; what was opened before is closed again.
    pub fn open(dir: &Path, rt: &Rt, options: Options) -> Result<Self, OpenError> {
        Ok(Self {
            user: UserStores::open(dir, rt, options)?,
            tweet: TweetStores::open(dir, options)?,
            timeline: TimelineStores::open(dir, rt, options)?,
        })
    }

    /// Gives back what the last process held in all files when it died. Gives its amount.
    pub async fn recover(&self, rt: &Rt) -> Outcome<u64> {
        let mut all = 0;
        for given in
            [self.user.recover().await, self.tweet.recover().await, self.timeline.recover(rt).await]
        {
            match given {
                Outcome::Done(rows) => all += rows,
                other => return other,
            }
        }
        Outcome::Done(all)
    }

    /// Loads many users and edges fast.
    #[must_use]
    pub fn seeder(&self) -> Seeder {
        Seeder::new(self.user.db.clone(), self.timeline.db.clone())
    }

    /// Fills all files, which are empty.
    #[must_use]
    pub fn seeds(&self) -> Seeds {
        Seeds::new(self.user.db.clone(), self.tweet.db.clone(), self.timeline.db.clone())
    }

    /// Ends what waits and closes all files. Blocks; call it away from the async threads.
    pub fn close(&self) {
        for db in [&self.user.db, &self.tweet.db, &self.timeline.db] {
            db.close();
        }
    }
}
