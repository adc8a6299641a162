//! Bare clients of Redis: the commands of chirp's cache, and nothing around them.

use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

use chirp::{
    adapters::{
        endpoint::Endpoint,
        redis::{Redis, RedisCache},
    },
    domain::{Window, ring::CAPACITY_MAX},
    rt::tokio_rt::TokioRuntime,
};
use rand_distr::Zipf;
use rand_pcg::Pcg64;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    containers::Servers,
    driver::{Answer, Frame, Load},
    world::{self, World},
};

/// Tweets of a page.
const PAGE: usize = 20;
/// Commands of one pipeline, as chirp sends them.
const PIPELINE: usize = 512;

/// Asks for pages as `redis-benchmark` would: one command after the other on each connection.
pub(crate) struct Pages {
    commands: Arc<Vec<Vec<u8>>>,
    random: Pcg64,
    zipf: Zipf<f64>,
}

impl Pages {
    /// So many of them.
    pub(crate) fn new(servers: &Servers, world: &World, count: usize) -> Vec<Self> {
        let cache = cache(&servers.config.redis);
        let command = |&user| cache.page_command(user, Window::Latest, PAGE);
        let commands: Arc<Vec<_>> = Arc::new(world.users.iter().map(command).collect());
        let page = |n| {
            let (commands, zipf) = (Arc::clone(&commands), world.zipf());
            Self { commands, random: world::random(200 + n), zipf }
        };
        (0..count as u64).map(page).collect()
    }
}

/// chirp's cache over `config`, whose commands are sent.
fn cache(config: &chirp::config::Redis) -> RedisCache {
    let rt = TokioRuntime::handle();
    let endpoint = Endpoint::configured(&rt, config);
    RedisCache::new(Redis::new(rt, endpoint), CAPACITY_MAX)
}

impl Load for Pages {
    fn next(&mut self, request: &mut Vec<u8>) {
        let user = World::draw(&self.zipf, &mut self.random);
        request.extend_from_slice(&self.commands[user]);
    }

    fn check(&mut self, answer: &Answer<'_>) {
        // Floor, whether there is more, entries, pulled authors.
        assert!(answer.body.starts_with(b"*4\r\n$8\r\n"), "not a page");
    }

    fn frame(bytes: &[u8]) -> Option<Frame> {
        end_of(bytes, 0).map(|length| Frame { status: 200, start: 0, length })
    }
}

/// Where the value that begins at `at` ends, once all of it has come.
fn end_of(bytes: &[u8], at: usize) -> Option<usize> {
    let line = at + bytes.get(at..)?.windows(2).position(|two| two == b"\r\n")?;
    let number = || std::str::from_utf8(&bytes[at + 1..line]).unwrap().parse::<i64>().unwrap();
    let behind = line + 2;
    match bytes[at] {
        b'$' => match usize::try_from(number()) {
            Ok(length) => Some(behind + length + 2).filter(|&end| end <= bytes.len()),
            Err(_) => Some(behind),
        },
        b'*' => (0..number()).try_fold(behind, |end, _| end_of(bytes, end)),
        _ => Some(behind),
    }
}

/// Pushes, packed into pipelines and shared out over connections before anything is measured.
pub(crate) struct Pipelines {
    port: u16,
    connections: Vec<Vec<Pipeline>>,
}

#[derive(Default)]
struct Pipeline {
    bytes: Vec<u8>,
    commands: usize,
}

impl Pipelines {
    /// Pipelines to the server at `port`, over so many connections; each command with the place of
    /// its connection.
    pub(crate) fn new(
        port: u16,
        connections: usize,
        commands: impl Iterator<Item = (usize, Vec<u8>)>,
    ) -> Self {
        let mut shared: Vec<Vec<Pipeline>> = (0..connections).map(|_| Vec::new()).collect();
        for (place, command) in commands {
            let own = &mut shared[place];
            if own.last().is_none_or(|last| last.commands == PIPELINE) {
                own.push(Pipeline::default());
            }
            let last = own.last_mut().expect("there is one");
            last.bytes.extend(command);
            last.commands += 1;
        }
        Self { port, connections: shared }
    }

    /// Sends all of them. Gives how many pushes found their list and were new to it.
    pub(crate) async fn send(self) -> u64 {
        let tasks = self.connections.into_iter().map(|pipelines| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
                stream.set_nodelay(true).unwrap();
                let (mut delivered, mut answers) = (0, vec![0; 64 * 1024]);
                for pipeline in pipelines {
                    stream.write_all(&pipeline.bytes).await.unwrap();
                    let mut filled = 0;
                    // Every answer is a digit on a line of its own.
                    while filled < pipeline.commands * b":1\r\n".len() {
                        let more = stream.read(&mut answers[filled..]).await.unwrap();
                        assert!(more > 0, "the server hung up");
                        filled += more;
                    }
                    let lines = answers[..filled].split(|&byte| byte == b'\n');
                    delivered += lines.filter(|line| line.starts_with(b":1")).count() as u64;
                }
                delivered
            })
        });
        let tasks: Vec<_> = tasks.collect();
        let mut delivered = 0;
        for task in tasks {
            delivered += task.await.unwrap();
        }
        delivered
    }
}

/// Commands that a server has run, by name.
pub(crate) struct Commands(BTreeMap<String, u64>);

impl Commands {
    /// Asks the server of a stack.
    pub(crate) async fn count(servers: &Servers) -> Self {
        let stats = redis::cmd("INFO").arg("commandstats").to_owned();
        let stats: String = stats.query_async(&mut connection(servers).await).await.unwrap();
        let count = |line: &str| {
            let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
        };
        Self(stats.lines().filter_map(count).collect())
    }

    /// What came since `before`.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let more = |(name, count): (&String, &u64)| {
            (name.clone(), count - before.0.get(name).copied().unwrap_or(0))
        };
        Self(self.0.iter().map(more).collect())
    }

    /// As text, each as a share of `pages`; what is rare is left out.
    pub(crate) fn per(&self, pages: f64) -> String {
        let mut text = String::new();
        for (name, &count) in &self.0 {
            let share = count as f64 / pages;
            if share >= 0.01 {
                write!(text, "{name} {share:.2}, ").unwrap();
            }
        }
        text.trim_end_matches(", ").to_owned()
    }
}

/// A connection for single commands.
pub(crate) async fn connection(servers: &Servers) -> redis::aio::MultiplexedConnection {
    let url = format!("redis://127.0.0.1:{}", servers.get("redis").port);
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Bytes of Redis' memory per entry of each of `keys`, of which each has so many entries.
pub(crate) async fn bytes_per_entry(
    servers: &Servers,
    keys: &[String],
    entries: usize,
) -> Vec<f64> {
    let mut connection = connection(servers).await;
    let mut found = Vec::with_capacity(keys.len());
    for key in keys {
        let asked = redis::cmd("MEMORY").arg("USAGE").arg(key).to_owned();
        let bytes: u64 = asked.query_async(&mut connection).await.unwrap();
        found.push(bytes as f64 / entries as f64);
    }
    found
}
