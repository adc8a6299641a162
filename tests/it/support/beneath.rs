//! What lies beneath a stack, reached past its API: in files of its data folder, or on servers.

use std::sync::Arc;

use bytes::Bytes;
use chirp::{
    adapters::{
        cassandra::{self, CassandraTimelineStore},
        embedded::{Stores, keys::FileKeys, sqlite::Options},
        postgres::{Pg, UserStores},
        sns_sqs::SnsSqsBus,
    },
    config,
    domain::{Change, UserId},
    ports::{
        Account, Bus as _, EdgeChange, KeyStore, NewUser, PasswordHash, Queue, Target,
        TimelineStore as _,
    },
    rt::tokio_rt::TokioRuntime,
};
use futures_util::{StreamExt as _, stream};
use rusqlite::{Connection, OpenFlags};
use scylla::client::session_builder::SessionBuilder;

use super::{TestApp, backends::servers::endpoint};

/// Calls that are open at once while many users are made on servers.
const AT_ONCE: usize = 8;
/// What no hash of a password is equal to.
const NOBODY_KNOWS: &str = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaGhhc2g";

impl TestApp {
    /// The keys that sign tokens.
    pub fn key_store(&self) -> Arc<dyn KeyStore> {
        let rt = TokioRuntime::handle();
        match self.beneath() {
            Some(config) => {
                let database = &config.postgres.user_database;
                UserStores::over(Pg::new(&rt, &endpoint(&config.postgres), database)).keys
            }
            None => Arc::new(FileKeys::new(&self.data_dir(), rt)),
        }
    }

    /// Adds accounts of which each follows the first, before the first start.
    pub async fn is_seeded(&self, accounts: &[Account]) {
        let star = accounts[0].id;
        let password = PasswordHash(NOBODY_KNOWS.to_owned());
        let rt = TokioRuntime::handle();
        let Some(config) = self.beneath() else {
            let stores = Stores::open(&self.data_dir(), &rt, Options::default()).unwrap();
            let seeder = stores.seeder();
            assert!(seeder.users(accounts, &password).await.is_done());
            let edges: Vec<_> = accounts[1..].iter().map(|follower| (follower.id, star)).collect();
            assert_eq!(seeder.follows(&edges).await.done(), Some(edges.len() as u64));
            return stores.close();
        };
        self.has_databases().await;
        let stores = UserStores::open(&rt, &endpoint(&config.postgres), true).await.unwrap();
        let signs_up = async |account: &Account| {
            let user = NewUser { account: account.clone(), password: password.clone() };
            stores.users.create_user(&user).await.certain().unwrap();
            if account.id != star {
                let (actor, change) = (account.id, Change::Follow);
                let follow = EdgeChange { actor, target: star, change, at_ms: 1, trace: None };
                stores.graph.change(&follow).await.certain().unwrap().unwrap();
            }
        };
        signs_up(&accounts[0]).await;
        stream::iter(&accounts[1..]).for_each_concurrent(AT_ONCE, signs_up).await;
        stores.db.close().await;
    }

    /// Puts a message that nobody understands where new tweets wait.
    pub async fn is_sent_rubbish(&self) {
        if let Some(config) = self.beneath() {
            let bus = SnsSqsBus::open(&config.aws, TokioRuntime::handle()).await.unwrap();
            let rubbish = [Bytes::from_static(b"rubbish")];
            let sent = bus.publish(Target::Queue(Queue::Ingest), &rubbish).await;
            return assert!(sent[0].is_done(), "{sent:?}");
        }
        let bus = Connection::open(self.data_dir().join("timeline.db")).unwrap();
        let insert = "insert into messages (lane, body, sent_at_ms, visible_at_ms)
                      values ('ingest', x'00', 0, 0)";
        bus.execute(insert, []).unwrap();
    }

    /// The class of an author, out of the store.
    pub async fn class_of(&self, author: UserId) -> String {
        if let Some(config) = self.beneath() {
            let rt = TokioRuntime::handle();
            let store =
                CassandraTimelineStore::open(&rt, &endpoint(&config.cassandra)).await.unwrap();
            let class = store.authors(&[author]).await.unwrap()[0].class;
            return format!("{class:?}").to_lowercase();
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let file = self.data_dir().join("timeline.db");
        let file = Connection::open_with_flags(file, flags).unwrap();
        let sql = "select class from authors where author_id = ?1";
        let class = file.query_row(sql, [author.0.cast_signed()], |row| row.get(0));
        class.unwrap_or_else(|_| "push".to_owned())
    }

    /// Loses everything that the timeline role of a stopped stack has. On servers that is the keyspace
    /// and the cache; the tables are made again.
    pub async fn loses_its_timelines(&self) {
        let Some(config) = self.beneath() else {
            for file in ["timeline.db", "timeline.db-wal", "timeline.db-shm"] {
                drop(std::fs::remove_file(self.data_dir().join(file)));
            }
            return;
        };
        drop_keyspace(&config.cassandra).await;
        cassandra::migrate(&TokioRuntime::handle(), &endpoint(&config.cassandra)).await.unwrap();
        let server = redis::Client::open(format!("redis://{}", config.redis.addresses)).unwrap();
        let mut server = server.get_multiplexed_async_connection().await.unwrap();
        let all = format!("{}:*", config.redis.namespace);
        let keys: Vec<String> = redis::cmd("KEYS").arg(all).query_async(&mut server).await.unwrap();
        assert!(!keys.is_empty(), "there was something to lose");
        let _: () = redis::cmd("DEL").arg(keys).query_async(&mut server).await.unwrap();
    }
}

/// Removes the keyspace of a stack.
pub(super) async fn drop_keyspace(config: &config::Cassandra) {
    let session = SessionBuilder::new().known_nodes(config.nodes()).build().await.unwrap();
    let drop = format!("drop keyspace if exists {}", config.keyspace);
    session.query_unpaged(drop, ()).await.unwrap();
}
