//! A server in a container, and caches that use it.

use std::{
    net::TcpListener,
    process::Command,
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
use testcontainers::{
    ContainerAsync, GenericImage, ImageExt,
    core::{IntoContainerPort, WaitFor},
    runners::AsyncRunner,
};

/// Set to use another image than the one that is made here.
const OVERRIDE: &str = "CHIRP_IMAGE_REDIS";

/// The longest that anything eventual may take; a busy machine takes its time.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// Redis in a container, one server or a cluster; removed at the end.
pub(super) struct Server {
    container: ContainerAsync<GenericImage>,
    pub(super) ports: Vec<u16>,
    cluster: bool,
    paused: Arc<AtomicBool>,
}

fn image() -> (String, String) {
    let name = std::env::var(OVERRIDE).unwrap_or_else(|_| "chirp/redis:local".to_owned());
    let (name, tag) = name.rsplit_once(':').expect("an image has a tag");
    (name.to_owned(), tag.to_owned())
}

impl Server {
    /// One server with more arguments.
    pub(super) async fn single(args: &[&str]) -> Self {
        let (name, tag) = image();
        let container = GenericImage::new(name, tag)
            .with_exposed_port(6379.tcp())
            .with_wait_for(WaitFor::message_on_stdout("Ready to accept connections"))
            .with_cmd(["single"].iter().chain(args).copied())
            .start()
            .await
            .unwrap();
        let port = container.get_host_port_ipv4(6379.tcp()).await.unwrap();
        Self { container, ports: vec![port], cluster: false, paused: Arc::default() }
    }

    /// Three primaries with so many replicas each.
    pub(super) async fn cluster(replicas: usize) -> Self {
        let (name, tag) = image();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let free: Vec<TcpListener> = (0..3 * (1 + replicas)).map(|_| free()).collect();
        let ports: Vec<u16> = free.iter().map(|free| free.local_addr().unwrap().port()).collect();
        drop(free);
        let list = ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
        let mut request = GenericImage::new(name, tag)
            .with_wait_for(WaitFor::message_on_stdout("is ready on"))
            .with_cmd(["cluster"])
            .with_env_var("REDIS_CLUSTER_PORTS", list)
            .with_env_var("REDIS_CLUSTER_REPLICAS", replicas.to_string());
        for &port in &ports {
            request = request.with_mapped_port(port, port.tcp());
        }
        let container = request.start().await.unwrap();
        let server = Self { container, ports, cluster: true, paused: Arc::default() };
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
    pub(super) fn config(&self) -> config::Redis {
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

    pub(super) fn cache(&self) -> Caches {
        Caches::new(self.config())
    }

    /// A connection past the adapter.
    pub(super) async fn raw(&self, port: u16) -> Raw {
        let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        Raw(client.get_multiplexed_async_connection().await.unwrap())
    }

    /// Stops the server's processes where they are, or lets them go on.
    pub(super) fn pause(&self, down: bool) {
        pause(self.container.id(), &self.paused, down);
    }

    /// As [`Server::pause`], to be called from anywhere.
    pub(super) fn pauser(&self) -> impl Fn(bool) + Send + Sync + 'static {
        let (id, paused) = (self.container.id().to_owned(), Arc::clone(&self.paused));
        move |down| pause(&id, &paused, down)
    }

    /// Kills the node that listens on `port` in the container.
    pub(super) fn kill_node(&self, port: u16) {
        let kill = format!(
            "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline 2>/dev/null | \
             grep -q '^redis-server .*:{port} ' && kill -9 ${{p#/proc/}}; done; true"
        );
        docker(&["exec", self.container.id(), "sh", "-c", &kill]);
    }
}

fn pause(id: &str, paused: &AtomicBool, down: bool) {
    if paused.swap(down, Ordering::SeqCst) != down {
        docker(&[if down { "pause" } else { "unpause" }, id]);
    }
}

fn docker(args: &[&str]) {
    let output = Command::new("docker").args(args).output().unwrap();
    assert!(output.status.success(), "docker {args:?}: {output:?}");
}

/// A connection past the adapter.
#[derive(Clone)]
pub(super) struct Raw(MultiplexedConnection);

impl Raw {
    /// Runs a command of words.
    pub(super) async fn run<T: FromRedisValue>(&mut self, words: &str) -> T {
        self.try_run(words).await.unwrap()
    }

    pub(super) async fn try_run<T: FromRedisValue>(
        &mut self,
        words: &str,
    ) -> redis::RedisResult<T> {
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        for word in words {
            cmd.arg(word);
        }
        cmd.query_async(&mut self.0).await
    }
}

/// The caches of one namespace, and what tests do with them.
pub(super) struct Caches {
    pub(super) rt: Rt,
    pub(super) redis: Arc<Redis>,
    pub(super) cache: Arc<RedisCache>,
    pub(super) namespace: String,
}

pub(super) fn entry(tweet: u64) -> Entry {
    Entry { tweet: TweetId(tweet), author: UserId(5) }
}

pub(super) fn home(user: u64) -> ListKey {
    ListKey::Home(UserId(user))
}

impl Caches {
    pub(super) fn new(config: config::Redis) -> Self {
        Self::with(config, CAPACITY_MAX)
    }

    pub(super) fn with(config: config::Redis, entries_max: usize) -> Self {
        let (rt, namespace) = (TokioRuntime::handle(), config.namespace.clone());
        let redis = Redis::new(rt.clone(), config);
        let cache = Arc::new(RedisCache::new(Arc::clone(&redis), entries_max));
        Self { rt, redis, cache, namespace }
    }

    pub(super) async fn begin(&self, key: ListKey) -> Option<Token> {
        TimelineCache::begin_fill(&*self.cache, key).await.certain().unwrap()
    }

    pub(super) async fn finish(
        &self,
        key: ListKey,
        token: Token,
        entries: &[Entry],
    ) -> Outcome<bool> {
        TimelineCache::finish_fill(&*self.cache, key, token, entries, TweetId(0)).await
    }

    /// Makes an empty timeline of `user`, who sees author 5.
    pub(super) async fn warm(&self, user: u64) {
        let token = self.begin(home(user)).await.unwrap();
        assert_eq!(self.finish(home(user), token, &[]).await, Outcome::Done(true));
        let token = RelationCache::begin_fill(&*self.cache, UserId(user)).await.certain().unwrap();
        let visible = [UserId(5)].into();
        let relations = Arc::new(Relations { visible, ..Relations::default() });
        let cache: &dyn RelationCache = &*self.cache;
        let stored = cache.finish_fill(UserId(user), token, relations).await;
        assert_eq!(stored, Outcome::Done(true));
    }

    pub(super) async fn push(&self, tweet: u64, homes: &[UserId]) -> Outcome<PushReport> {
        self.cache.push(&[Push { entry: entry(tweet), homes, author_list: false }]).await
    }
}

pub(super) fn users(ids: impl IntoIterator<Item = u64>) -> Vec<UserId> {
    ids.into_iter().map(UserId).collect()
}
