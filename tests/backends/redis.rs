//! The caches over Redis: one server, which scenarios share, and servers and clusters of their own for
//! those who break one or want another kind.

mod contract;
mod faults;
mod hints;
mod login;
mod moves;
mod ring;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use chirp::{
    adapters::redis::{Redis, RedisCache},
    config,
    domain::{Entry, Relations, Token, TweetId, UserId, ring::CAPACITY_MAX},
    ports::{ListKey, Outcome, Push, PushReport, RelationCache, TimelineCache},
    rt::{Rt, tokio_rt::TokioRuntime},
};
use redis::{FromRedisValue, aio::MultiplexedConnection};

use crate::support::{
    run::{Backend, Scenario, answers, scenarios},
    server::{Container, Order, REDIS_ENTRY, docker_does, free_ports},
    servers::endpoint,
};

pub const SCENARIOS: &[Scenario<Server>] = scenarios![
    contract::one_server_keeps_the_contracts,
    contract::a_cluster_with_replicas_keeps_the_contracts,
    faults::what_a_wiped_server_held_is_absent_and_a_fill_that_ran_is_void,
    faults::scripts_that_are_forgotten_in_a_fan_out_are_loaded_again,
    faults::connections_that_are_killed_lose_nothing_that_was_done,
    faults::a_server_that_stops_is_an_error_in_time_and_a_write_to_it_is_unknown,
    faults::a_server_short_of_memory_forgets_lists_whole,
    faults::a_server_that_may_not_forget_and_is_full_refuses_and_says_so,
    login::a_server_is_known_by_its_authority_and_its_name_and_knows_a_password,
    login::a_password_that_was_changed_is_read_for_the_next_connection,
    hints::a_process_hears_what_another_tells_over_one_server,
    hints::a_process_hears_what_another_tells_over_a_cluster,
    moves::a_slot_that_moves_under_load_loses_nothing,
    moves::a_push_that_was_done_outlives_the_primary,
    moves::a_push_that_found_nothing_to_do_is_not_done_before_replicas_have_what_it_saw,
    ring::a_list_in_redis_is_the_ring_of_the_domain,
];

/// The longest that anything eventual may take; a busy machine takes its time.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// One server or a cluster, in one container.
#[derive(Clone)]
pub struct Server {
    /// Where it is a server of the scenario's own: removed with the last that knows it.
    _own: Option<Arc<Container>>,
    id: String,
    pub ports: Vec<u16>,
    cluster: bool,
    paused: Arc<AtomicBool>,
}

/// `entry.sh` in `mode`, with more arguments for the servers.
fn order<'a>(mode: &'a str, args: &[&'a str]) -> Order {
    let command = ["-c", REDIS_ENTRY, "entry.sh", mode].into_iter().chain(args.iter().copied());
    Order::of("redis").runs(Some("sh"), command)
}

impl Backend for Server {
    const NAME: &'static str = "redis";

    async fn begin(container: &Container) -> Self {
        Self::over(container, false).await
    }
}

impl Server {
    async fn over(container: &Container, cluster: bool) -> Self {
        let server = Self {
            _own: None,
            id: container.id().to_owned(),
            ports: container.ports.clone(),
            cluster,
            paused: Arc::default(),
        };
        for &port in &server.ports {
            answers(container, async || {
                let mut raw = Raw::connect(port).await?;
                if cluster {
                    // Every node knows all of them, and every slot has an owner.
                    let state: String = raw.try_run("CLUSTER INFO").await?;
                    let known = format!("cluster_known_nodes:{}", server.ports.len());
                    if !state.contains("cluster_state:ok") || !state.contains(&known) {
                        return Err(redis::RedisError::from((redis::ErrorKind::Io, "forming")));
                    }
                }
                raw.try_run::<String>("PING").await
            })
            .await;
        }
        server
    }

    async fn owns(order: Order, cluster: bool) -> Self {
        let container = order.start().await.unwrap();
        let server = Self::over(&container, cluster).await;
        Self { _own: Some(Arc::new(container)), ..server }
    }

    /// One server of the scenario's own, with more arguments.
    pub async fn single(args: &[&str]) -> Self {
        Self::owns(order("single", args), false).await
    }

    /// Three primaries with so many replicas each.
    pub async fn cluster(replicas: usize) -> Self {
        let ports = free_ports(3 * (1 + replicas));
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
        let order = order("cluster", &[])
            .on(&ports)
            .with("REDIS_CLUSTER_PORTS", list)
            .with("REDIS_CLUSTER_REPLICAS", replicas.to_string());
        let server = Self::owns(order, true).await;
        if replicas > 0 {
            server.replicates().await;
        }
        server
    }

    /// Waits until every replica has its primary's data: the servers answer some seconds earlier.
    async fn replicates(&self) {
        for &port in &self.ports {
            let mut raw = self.raw(port).await;
            let replicates = async {
                loop {
                    let state: String = raw.run("INFO replication").await;
                    if state.contains("master_link_status:up") || state.contains("state=online") {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            tokio::time::timeout(PATIENCE, replicates).await.expect("replicas must come up");
        }
    }

    /// Settings of the adapter: patient, as the machine may be busy; with a namespace of its own.
    pub fn config(&self) -> config::Redis {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let addresses: Vec<String> =
            self.ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        config::Redis {
            addresses: addresses.join(","),
            cluster: self.cluster,
            namespace: format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            connect_timeout_ms: 3_000,
            read_timeout_ms: 3_000,
            write_timeout_ms: 3_000,
            wait_timeout_ms: 3_000,
            ..config::Redis::default()
        }
    }

    pub fn cache(&self) -> Caches {
        Caches::new(&self.config())
    }

    /// A connection past the adapter.
    pub async fn raw(&self, port: u16) -> Raw {
        Raw::connect(port).await.unwrap()
    }

    /// Stops the server's processes where they are, or lets them go on.
    pub fn pause(&self, down: bool) {
        pause(&self.id, &self.paused, down);
    }

    /// As [`Server::pause`], to be called from anywhere.
    pub fn pauser(&self) -> impl Fn(bool) + Send + Sync + 'static {
        let (id, paused) = (self.id.clone(), Arc::clone(&self.paused));
        move |down| pause(&id, &paused, down)
    }

    /// Kills the node that listens on `port` in the container.
    pub fn kill_node(&self, port: u16) {
        self.signal_node(port, "KILL");
    }

    /// Sends a signal to the node that listens on `port` in the container.
    pub fn signal_node(&self, port: u16, signal: &str) {
        let send = format!(
            "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | \
             grep -q '^redis-server .*:{port} ' && kill -{signal} ${{p#/proc/}}; done; true"
        );
        docker_does(&["exec", &self.id, "sh", "-c", &send]);
    }
}

fn pause(id: &str, paused: &AtomicBool, down: bool) {
    if paused.swap(down, Ordering::SeqCst) != down {
        docker_does(&[if down { "pause" } else { "unpause" }, id]);
    }
}

/// A connection past the adapter.
#[derive(Clone)]
pub struct Raw(MultiplexedConnection);

impl Raw {
    async fn connect(port: u16) -> redis::RedisResult<Self> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}"))?;
        Ok(Self(client.get_multiplexed_async_connection().await?))
    }

    /// Runs a command of words.
    pub async fn run<T: FromRedisValue>(&mut self, words: &str) -> T {
        self.try_run(words).await.unwrap()
    }

    pub async fn try_run<T: FromRedisValue>(&mut self, words: &str) -> redis::RedisResult<T> {
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        for word in words {
            cmd.arg(word);
        }
        cmd.query_async(&mut self.0).await
    }
}

/// The caches of one namespace, and what tests do with them.
pub struct Caches {
    pub rt: Rt,
    pub redis: Arc<Redis>,
    pub cache: Arc<RedisCache>,
    pub namespace: String,
}

pub fn entry(tweet: u64) -> Entry {
    Entry { tweet: TweetId(tweet), author: UserId(5) }
}

pub fn home(user: u64) -> ListKey {
    ListKey::Home(UserId(user))
}

impl Caches {
    pub fn new(config: &config::Redis) -> Self {
        Self::with(config, CAPACITY_MAX)
    }

    pub fn with(config: &config::Redis, entries_max: usize) -> Self {
        let (rt, namespace) = (TokioRuntime::handle(), config.namespace.clone());
        let redis = Redis::new(rt.clone(), endpoint(config));
        let cache = Arc::new(RedisCache::new(Arc::clone(&redis), entries_max));
        Self { rt, redis, cache, namespace }
    }

    pub async fn begin(&self, key: ListKey) -> Option<Token> {
        TimelineCache::begin_fill(&*self.cache, key).await.certain().unwrap()
    }

    pub async fn finish(&self, key: ListKey, token: Token, entries: &[Entry]) -> Outcome<bool> {
        TimelineCache::finish_fill(&*self.cache, key, token, entries, TweetId(0)).await
    }

    /// Makes an empty timeline of `user`, who sees author 5.
    pub async fn warm(&self, user: u64) {
        let token = self.begin(home(user)).await.unwrap();
        assert_eq!(self.finish(home(user), token, &[]).await, Outcome::Done(true));
        let token = RelationCache::begin_fill(&*self.cache, UserId(user)).await.certain().unwrap();
        let visible = [UserId(5)].into();
        let relations = Arc::new(Relations { visible, ..Relations::default() });
        let cache: &dyn RelationCache = &*self.cache;
        let stored = cache.finish_fill(UserId(user), token, relations).await;
        assert_eq!(stored, Outcome::Done(true));
    }

    pub async fn push(&self, tweet: u64, homes: &[UserId]) -> Outcome<PushReport> {
        self.cache.push(&[Push { entry: entry(tweet), homes, author_list: false }]).await
    }
}

pub fn users(ids: impl IntoIterator<Item = u64>) -> Vec<UserId> {
    ids.into_iter().map(UserId).collect()
}
