//! The stores under the workers, and the bare pushes beside them.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use chirp::{
    adapters::{
        cassandra::{self, CassandraTimelineStore},
        circuit::{Circuit, Guarded, Intake},
        embedded::{
            Stores,
            cache::{EmbeddedCache, Limits},
            hints::EmbeddedHints,
            sqlite::Options,
        },
        endpoint::Endpoint,
        redis::{Redis, RedisCache, RedisHints},
        sns_sqs::SnsSqsBus,
    },
    config::Config,
    domain::{Entry, UserId, ring::CAPACITY_MAX},
    ports::{
        BodyCache, Bus, Chosen, HomeStore, Push, RelationCache, TimelineCache, TimelineStore,
        cache::PUSH_OWNERS_MAX,
    },
    rt::Rt,
    services::timeline::Deps,
    telemetry::Metrics,
};
use tempfile::TempDir;

use super::{
    Spent,
    child::{CONTAINERS, EMBEDDED, Size},
};
use crate::{containers::Servers, cpu::cpu_s, load, redis_client};

/// What everything of the part is called on the servers, beside what belongs to their stack.
const NAMESPACE: &str = "bench";
/// The longest poll, which the end of a round waits for.
const POLL_MAX: Duration = Duration::from_secs(1);
/// Lists that are asked for their size in memory.
const WEIGHED: usize = 500;

/// Everything that workers need, and what it is compared with.
pub(super) struct Side {
    pub(super) size: Size,
    pub(super) deps: Deps,
    bare: Bare,
}

enum Bare {
    Embedded { _stores: Box<Stores>, _folder: TempDir },
    Servers { cache: Arc<RedisCache>, servers: Box<Servers>, config: Box<Config> },
}

impl Side {
    /// Over files in a folder of its own.
    pub(super) async fn embedded(rt: &Rt, edges: &[(UserId, UserId)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stores = Stores::open(folder.path(), rt, Options::default()).unwrap();
        stores.seeder().follows(edges).await.certain().unwrap();
        let cache = Arc::new(EmbeddedCache::new(rt.clone(), Limits::default()));
        let deps = Deps {
            store: Arc::clone(&stores.timeline.store),
            homes: Arc::clone(&stores.timeline.homes),
            chosen: Chosen::default(),
            cache: cache.clone(),
            relations: cache.clone(),
            bodies: cache,
            bus: Arc::clone(&stores.timeline.bus),
            hints: Arc::new(EmbeddedHints::new()),
        };
        let bare = Bare::Embedded { _stores: Box::new(stores), _folder: folder };
        Self { size: EMBEDDED, deps, bare }
    }

    /// Over the servers of the stack in `dir`, in a keyspace, topics, queues and keys of its own, behind
    /// circuits as in a stack.
    pub(super) async fn servers(
        rt: &Rt,
        metrics: &Metrics,
        dir: &Path,
        edges: &[(UserId, UserId)],
    ) -> Self {
        let servers = Servers::of(dir);
        let own = |mut config: Config| {
            NAMESPACE.clone_into(&mut config.cassandra.keyspace);
            NAMESPACE.clone_into(&mut config.redis.namespace);
            NAMESPACE.clone_into(&mut config.aws.namespace);
            config
        };
        let (patient, config) = (own(servers.patient()), own(servers.config.clone()));
        let endpoint = Endpoint::configured(rt, &patient.cassandra);
        cassandra::migrate(rt, &endpoint).await.unwrap();
        let loader = CassandraTimelineStore::open(rt, &endpoint).await.unwrap();
        load::pairs(&loader, edges).await;
        let endpoint = Endpoint::configured(rt, &config.cassandra);
        let store = Arc::new(CassandraTimelineStore::open(rt, &endpoint).await.unwrap());
        let redis = Redis::new(rt.clone(), Endpoint::configured(rt, &config.redis));
        let cache = Arc::new(RedisCache::new(Arc::clone(&redis), CAPACITY_MAX));
        let bus = Arc::new(SnsSqsBus::open(&config.aws, rt.clone()).await.unwrap());
        let circuit = |server| Circuit::new(server, rt, metrics);
        let (copy, caches) = (circuit("cassandra"), circuit("redis"));
        let deps = Deps {
            store: Guarded::<dyn TimelineStore>::new(store.clone(), &copy),
            homes: Guarded::<dyn HomeStore>::new(store, &copy),
            chosen: Chosen::default(),
            cache: Guarded::<dyn TimelineCache>::new(cache.clone(), &caches),
            relations: Guarded::<dyn RelationCache>::new(cache.clone(), &caches),
            bodies: Guarded::<dyn BodyCache>::new(cache.clone(), &caches),
            bus: Guarded::<dyn Bus>::new(bus, &circuit("bus")),
            hints: Arc::new(RedisHints::new(redis)),
        };
        let (servers, config) = (Box::new(servers), Box::new(config));
        Self { size: CONTAINERS, deps, bare: Bare::Servers { cache, servers, config } }
    }

    /// Where workers of a round take their messages over servers, as in a stack: a poll that is under
    /// way at the end of a round would take those of the next one, and hide them for half a minute.
    pub(super) fn intake(&self, rt: &Rt) -> Option<Arc<Intake>> {
        let Bare::Servers { .. } = self.bare else { return None };
        Some(Intake::new(Arc::clone(&self.deps.bus), rt, Vec::new(), POLL_MAX))
    }

    /// Processor seconds so far: of this process, called `name`, and of the servers.
    pub(super) fn cpu_s(&self, name: &str) -> Vec<(String, f64)> {
        let mut all = vec![(name.to_owned(), cpu_s("self"))];
        if let Bare::Servers { servers, .. } = &self.bare {
            let used = ["redis", "cassandra", "ministack"].map(|name| servers.get(name));
            all.extend(used.iter().map(|server| (server.name.clone(), server.cpu_s())));
            let proxies = used.iter().map(|server| server.proxy_cpu_s()).sum();
            all.push(("docker-proxy".to_owned(), proxies));
        }
        all
    }

    /// The bare pushes: each entry into its homes.
    pub(super) async fn push(&self, pushes: &[(Entry, &[UserId])]) -> Spent {
        let Bare::Servers { cache, servers, config } = &self.bare else {
            return self.push_embedded(pushes).await;
        };
        let connections = config.redis.write_connections as usize;
        let of_list = |user: UserId| (user.0 >> 22) as usize % connections;
        let commands = pushes.iter().flat_map(|&(entry, homes)| {
            let command = move |&user: &UserId| (of_list(user), cache.push_command(user, entry));
            homes.iter().map(command)
        });
        let port = servers.get("redis").port;
        let pipelines = redis_client::Pipelines::new(port, connections, commands);
        let wanted = pushes.iter().map(|(_, homes)| homes.len() as u64).sum::<u64>();
        let (before, began) = (self.cpu_s("client"), Instant::now());
        let delivered = pipelines.send().await;
        assert_eq!(delivered, wanted, "every push is new to its list");
        let mut spent = self.spent(delivered as f64, &before, began);
        // The others did nothing for this.
        spent.cpu_s.retain(|(name, _)| ["client", "redis"].contains(&name.as_str()));
        spent
    }

    async fn push_embedded(&self, pushes: &[(Entry, &[UserId])]) -> Spent {
        let mut deliveries = 0;
        let (before, began) = (self.cpu_s("client"), Instant::now());
        for &(entry, homes) in pushes {
            for homes in homes.chunks(PUSH_OWNERS_MAX) {
                let push = Push { entry, homes, author_list: false };
                let report = self.deps.cache.push(&[push]).await.certain().unwrap();
                deliveries += report.delivered;
            }
        }
        self.spent(deliveries as f64, &before, began)
    }

    /// What was spent on so many deliveries.
    pub(super) fn spent(&self, deliveries: f64, before: &[(String, f64)], began: Instant) -> Spent {
        let wall_s = began.elapsed().as_secs_f64();
        let after = self.cpu_s(&before[0].0);
        let used =
            before.iter().zip(after).map(|((name, from), (_, to))| (name.clone(), to - from));
        Spent { deliveries, wall_s, cpu_s: used.collect() }
    }

    /// Bytes of Redis' memory per entry, of some of `users`, whose lists are full; nothing over files.
    pub(super) async fn bytes_per_entry(&self, users: &[UserId]) -> Vec<f64> {
        let Bare::Servers { servers, .. } = &self.bare else { return Vec::new() };
        let some = users.iter().step_by((users.len() / WEIGHED).max(1));
        let keys: Vec<String> = some.map(|user| format!("{NAMESPACE}:tl:{{{}}}", user.0)).collect();
        redis_client::bytes_per_entry(servers, &keys, CAPACITY_MAX).await
    }
}
