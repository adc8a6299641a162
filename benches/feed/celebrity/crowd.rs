//! A celebrity, her followers and small authors, stored in bulk.
//!
//! Followers who never come have no account: a fan-out knows them by their ids only.

use std::path::Path;

use chirp::{
    adapters::{
        cassandra::CassandraTimelineStore,
        embedded::{Stores, sqlite::Options},
        endpoint::Endpoint,
    },
    domain::{
        Pair, PairChange, PairState, UserId, edge::Side, fanout::Class, snowflake::Snowflake,
    },
    ports::{Account, SeedStore, SeedUser, StoredKey, TimelineStore},
    rt::tokio_rt::TokioRuntime,
};

use crate::{
    containers::Servers,
    load::{key_of, new_key},
    stack::Backends,
    world::{account, tokens, wall_ms},
};

/// Small authors.
const SMALL: usize = 50;
/// Warm readers who follow each of them.
pub(super) const SMALL_FOLLOWERS: usize = 20;
/// Followers who are warm: as many as read their first page within some seconds.
const WARM_EMBEDDED: usize = 100_000;
const WARM_SERVERS: usize = 20_000;

/// Who there is, before it is stored.
pub(super) struct Plan {
    /// The celebrity, small authors, warm readers.
    accounts: Vec<Account>,
    /// All followers of the celebrity; the warm come first.
    followers: Vec<UserId>,
}

/// Who there is.
pub(super) struct Crowd {
    pub(super) followers: usize,
    /// The celebrity's access token.
    pub(super) celebrity: String,
    /// Those of small authors.
    pub(super) small: Vec<String>,
    /// Those of warm readers.
    pub(super) readers: Vec<String>,
}

impl Crowd {
    /// Positions of the readers who follow a small author.
    pub(super) fn followers_of(&self, author: usize) -> Vec<usize> {
        (0..SMALL_FOLLOWERS).map(|n| (author * SMALL_FOLLOWERS + n) % self.readers.len()).collect()
    }
}

impl Plan {
    /// With so many followers.
    pub(super) fn new(followers: usize, backends: Backends) -> Self {
        let most = match backends {
            Backends::Embedded => WARM_EMBEDDED,
            Backends::Containers => WARM_SERVERS,
        };
        let warm = most.min(followers / 2);
        let (now, mut ids) = (wall_ms(), Snowflake::new(9));
        let day_ago = now - 24 * 3_600_000;
        let ids: Vec<UserId> =
            (0..=SMALL + followers).map(|n| UserId(ids.next(day_ago + n as u64))).collect();
        let accounts = (0..=SMALL + warm).map(|n| account(n, ids[n], now)).collect();
        Self { accounts, followers: ids[SMALL + 1..].to_vec() }
    }

    fn users(&self) -> Vec<SeedUser> {
        let user = |(n, account): (usize, &Account)| {
            let (mut following, mut followers) = (Vec::new(), Vec::new());
            if n == 0 {
                followers.clone_from(&self.followers);
            } else if n <= SMALL {
                let first = (n - 1) * SMALL_FOLLOWERS;
                followers.extend(&self.followers[first..first + SMALL_FOLLOWERS]);
            } else {
                following.push(self.accounts[0].id);
                let small = (n - SMALL - 1) / SMALL_FOLLOWERS;
                following.extend((small < SMALL).then(|| self.accounts[small + 1].id));
            }
            let pair = |&follower: &UserId| PairChange {
                pair: Pair { low: account.id, high: follower },
                version: 1,
                state: PairState {
                    high: Side { follows: true, ..Side::default() },
                    ..Default::default()
                },
            };
            let pairs = followers.iter().map(pair).collect();
            let [following, followers] =
                [following, followers].map(|ids| ids.into_iter().map(|id| (id, 1)).collect());
            SeedUser { account: account.clone(), following, followers, pairs, tweets: Vec::new() }
        };
        self.accounts.iter().enumerate().map(user).collect()
    }

    /// Stores it in `dir`, which nobody uses yet.
    pub(super) async fn into_folder(self, dir: &Path, class: Class) -> Crowd {
        let stores = Stores::open(dir, &TokioRuntime::handle(), Options::default()).unwrap();
        stores.seeds().users(self.users()).await.certain().unwrap();
        classify(&*stores.timeline.store, self.accounts[0].id, class).await;
        let key = new_key(&stores).await;
        stores.close();
        self.stored(&key)
    }

    /// Stores it in the timeline role's copy of a stack that runs; nobody looks up accounts.
    pub(super) async fn into_servers(self, servers: &Servers, class: Class) -> Crowd {
        let (rt, config) = (TokioRuntime::handle(), servers.patient());
        let endpoint = Endpoint::configured(&rt, &config.cassandra);
        let store = CassandraTimelineStore::open(&rt, &endpoint).await.unwrap();
        store.seed_users(&self.users()).await.certain().unwrap();
        classify(&store, self.accounts[0].id, class).await;
        self.stored(&key_of(servers).await)
    }

    fn stored(self, key: &StoredKey) -> Crowd {
        let mut tokens = tokens(key, &self.accounts);
        let readers = tokens.split_off(SMALL + 1);
        let small = tokens.split_off(1);
        let followers = self.followers.len();
        Crowd { followers, celebrity: tokens.remove(0), small, readers }
    }
}

/// What the event of the last follow would have led to.
async fn classify(store: &dyn TimelineStore, author: UserId, class: Class) {
    if class != Class::Push {
        store.set_class(author, class).await.certain().unwrap();
    }
}
