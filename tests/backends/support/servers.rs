//! The four servers that a whole stack runs over.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use chirp::{
    adapters::{
        endpoint::{Endpoint, Login},
        postgres::server::create_databases,
    },
    config::{Aws, Cassandra, Config, Postgres, Redis, Secret},
    ports::{Read, TokenProvider},
    rt::tokio_rt::TokioRuntime,
    stack::containers::{answers::answers, images},
};
use tokio::sync::{Notify, watch};

use super::server::{Container, Order};

/// How long a server may take to answer.
const ANSWER_MAX: Duration = Duration::from_mins(3);

/// Names the ports of servers that others have started, as [`Ports`] are written: then the scenarios
/// of `tests/it` run over them.
pub const SHARED: &str = "CHIRP_TEST_SERVERS";

/// The server that `config` leads to.
pub fn endpoint<C: Login>(config: &C) -> Endpoint<C> {
    Endpoint::configured(&TokioRuntime::handle(), config)
}

/// Gives a password, or while it sticks never an answer.
pub struct Stuck {
    password: Secret,
    sticks: watch::Sender<bool>,
    asked: Notify,
}

impl Stuck {
    pub fn new(password: &str) -> Self {
        let (sticks, asked) = Default::default();
        Self { password: Secret(password.to_owned()), sticks, asked }
    }

    pub fn sticks(&self, sticks: bool) {
        self.sticks.send_replace(sticks);
    }

    /// Waits until somebody asks from now on.
    pub async fn was_asked(&self) {
        self.asked.notified().await;
    }
}

#[async_trait]
impl TokenProvider for Stuck {
    async fn token(&self) -> Read<Secret> {
        self.asked.notify_waiters();
        if *self.sticks.borrow() {
            // Whoever waits for this is not helped by what comes later.
            std::future::pending::<()>().await;
        }
        Ok(self.password.clone())
    }
}

/// Where the servers are on 127.0.0.1.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub postgres: u16,
    pub redis: u16,
    pub cassandra: u16,
    pub ministack: u16,
}

/// Servers in containers; dropped, they are removed.
pub struct Servers {
    pub postgres: Container,
    pub redis: Container,
    pub cassandra: Container,
    pub ministack: Container,
}

impl Servers {
    /// Starts all of them side by side.
    pub async fn start() -> Result<Self, String> {
        let start = |name| Order::of(name).start();
        let (postgres, redis, cassandra, ministack) = tokio::try_join!(
            start("postgres"),
            start("redis"),
            start("cassandra"),
            start("ministack")
        )?;
        Ok(Self { postgres, redis, cassandra, ministack })
    }

    pub fn ports(&self) -> Ports {
        Ports {
            postgres: self.postgres.port,
            redis: self.redis.port,
            cassandra: self.cassandra.port,
            ministack: self.ministack.port,
        }
    }
}

impl std::fmt::Display for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { postgres, redis, cassandra, ministack } = self;
        write!(f, "{postgres},{redis},{cassandra},{ministack}")
    }
}

impl Ports {
    /// Where shared servers are, if any.
    pub fn shared() -> Option<Self> {
        let text = std::env::var(SHARED).ok()?;
        let ports: Vec<u16> = text.split(',').map(|port| port.parse().unwrap()).collect();
        let [postgres, redis, cassandra, ministack] = ports[..] else {
            panic!("{SHARED} must name four ports")
        };
        Some(Self { postgres, redis, cassandra, ministack })
    }

    /// Waits until all of them answer.
    pub async fn answer(self) -> Result<(), String> {
        let Self { postgres, redis, cassandra, ministack } = self;
        let began = Instant::now();
        for (server, port) in [
            ("postgres", postgres),
            ("redis", redis),
            ("cassandra", cassandra),
            ("ministack", ministack),
        ] {
            while !answers(server, port).await {
                if began.elapsed() > ANSWER_MAX {
                    return Err(format!("{server} does not answer"));
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    }

    /// What leads to the stack `name` on these servers.
    pub fn config(self, name: &str) -> Config {
        let environment = images::pinned("postgres").environment;
        let postgres = Postgres {
            port: self.postgres,
            user: environment["POSTGRES_USER"].clone(),
            password: Secret(environment["POSTGRES_PASSWORD"].clone()),
            user_database: format!("{name}_user"),
            tweet_database: format!("{name}_tweet"),
            tls: "disable".to_owned(),
            ..Postgres::default()
        };
        let redis = Redis {
            addresses: format!("127.0.0.1:{}", self.redis),
            namespace: name.to_owned(),
            ..Redis::default()
        };
        let cassandra = Cassandra {
            addresses: format!("127.0.0.1:{}", self.cassandra),
            keyspace: name.to_owned(),
            ..Cassandra::default()
        };
        // Queues and buckets know no underline.
        let name = name.replace('_', "-");
        let aws = Aws {
            endpoint: format!("http://127.0.0.1:{}", self.ministack),
            access_key_id: "test".to_owned(),
            access_key_secret: Secret("test".to_owned()),
            bucket: format!("{name}-media"),
            namespace: name,
            ..Aws::default()
        };
        Config { postgres, redis, cassandra, aws, ..Config::default() }
    }

    /// Makes the databases of the stack `name`, as soon as the server answers.
    pub async fn databases(self, name: &str) -> Result<Postgres, String> {
        let (config, began) = (self.config(name).postgres, Instant::now());
        loop {
            match create_databases(&endpoint(&config)).await {
                Ok(()) => return Ok(config),
                Err(why) if began.elapsed() > ANSWER_MAX => return Err(why.to_string()),
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    /// The same for processes.
    pub fn environment(self, name: &str) -> Vec<(&'static str, String)> {
        let Config { postgres, redis, cassandra, aws, .. } = self.config(name);
        vec![
            ("CHIRP_BACKENDS_KIND", "external".to_owned()),
            ("CHIRP_POSTGRES_HOST", postgres.host),
            ("CHIRP_POSTGRES_PORT", postgres.port.to_string()),
            ("CHIRP_POSTGRES_USER", postgres.user),
            ("CHIRP_POSTGRES_PASSWORD", postgres.password.0),
            ("CHIRP_POSTGRES_USER_DATABASE", postgres.user_database),
            ("CHIRP_POSTGRES_TWEET_DATABASE", postgres.tweet_database),
            ("CHIRP_POSTGRES_TLS", postgres.tls),
            ("CHIRP_REDIS_ADDRESSES", redis.addresses),
            ("CHIRP_REDIS_NAMESPACE", redis.namespace),
            ("CHIRP_CASSANDRA_ADDRESSES", cassandra.addresses),
            ("CHIRP_CASSANDRA_KEYSPACE", cassandra.keyspace),
            ("CHIRP_AWS_ENDPOINT", aws.endpoint),
            ("CHIRP_AWS_ACCESS_KEY_ID", aws.access_key_id),
            ("CHIRP_AWS_ACCESS_KEY_SECRET", aws.access_key_secret.0),
            ("CHIRP_AWS_NAMESPACE", aws.namespace),
            ("CHIRP_AWS_BUCKET", aws.bucket),
        ]
    }
}
