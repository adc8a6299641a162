//! `pgbench` with the transaction of a post: what the database alone would do.

use std::time::Duration;

use chirp::{
    adapters::{endpoint::Endpoint, postgres::TweetStores},
    domain::{TweetId, snowflake::first_at},
    rt::tokio_rt::TokioRuntime,
    wire::{events::Event, trace::TraceContext},
};
use hdrhistogram::Histogram;

use crate::{
    containers::{Container, Servers, docker},
    driver::{Slice, per_request},
    load::into_postgres,
    world::{Plan, body, wall_ms},
};

/// A database of its own with the same schema: nobody relays what is written there.
const DATABASE: &str = "bench_tweet";
const THREADS: u32 = 2;
/// The statements of `adapters/postgres/tweets.rs`. Ids increase over all clients, as chirp's do.
const SCRIPT: &str = "
\\set n :n + 1
\\set id :first + random(0, :users - 1) * :step
\\set candidate :base + (:n * 1024 + :client_id) * 65536
begin;
select last_tweet_id from authors where id = :id for update \\gset
\\set tweet greatest(:candidate, :last_tweet_id + 1)
with tweet as (
    insert into tweets (id, author_id, handle, name, text, created_at_ms, media)
    values (:tweet, :id, :handle, :name, :text, :at_ms, null)
    on conflict (id) do nothing
    returning id
), last as (
    update authors set last_tweet_id = :tweet where id = :id and exists (select from tweet)
), event as (
    insert into outbox (event, at_ms) select :event::bytea, :at_ms::bigint from tweet
)
select count(*) from tweet;
commit;
";
/// Runs pgbench wherever an image has it; arguments follow.
const FIND: &str = "PATH=$PATH:$(echo /usr/lib/postgresql/*/bin) exec pgbench \"$@\"";

/// pgbench over a world like chirp's.
pub(crate) struct Pgbench {
    postgres: Container,
    /// As many as chirp's tweet role has to its database.
    clients: u32,
    password: String,
    user: String,
    /// What the script names, but for `base`.
    variables: Vec<String>,
}

impl Pgbench {
    /// Makes a database for it, with the tweets of `users` users.
    pub(crate) async fn new(servers: &Servers, users: usize) -> Self {
        let plan = Plan::new(users);
        let mut config = servers.config.postgres.clone();
        servers.sql("postgres", &format!("create database {DATABASE}"), &[]);
        DATABASE.clone_into(&mut config.tweet_database);
        let rt = TokioRuntime::handle();
        let postgres = Endpoint::configured(&rt, &config);
        let made = TweetStores::open(&rt, &postgres, true).await.unwrap();
        made.db.close().await;
        into_postgres(servers, DATABASE, &plan.bodies);
        let ids: Vec<u64> = plan.accounts.iter().map(|account| account.id.0).collect();
        let step = ids[1] - ids[0];
        assert!(
            ids.windows(2).all(|two| two[1] - two[0] == step),
            "ids of users are evenly spaced"
        );
        let now = wall_ms();
        let text = "word ".repeat(26);
        let typical = body(TweetId(first_at(now)), &plan.accounts[1], &text, now);
        let event = Event::tweet_created(&typical, Some(TraceContext::new([7; 24])));
        let event = String::from_utf8(event.encode().to_vec()).unwrap();
        let variables = [
            ("n", "0".to_owned()),
            ("users", users.to_string()),
            ("first", ids[0].to_string()),
            ("step", step.to_string()),
            ("handle", typical.handle.as_str().to_owned()),
            ("name", typical.name.as_str().to_owned()),
            ("text", typical.text.as_str().to_owned()),
            ("at_ms", now.to_string()),
            ("event", event),
        ];
        Self {
            postgres: servers.get("postgres").clone(),
            clients: config.connections_max,
            password: config.password.0,
            user: config.user,
            variables: variables.map(|(name, value)| format!("{name}={value}")).into(),
        }
    }

    /// Runs it for `length`, and reads what it prints.
    pub(crate) fn slice(&self, length: Duration) -> Slice {
        let (clients, threads) = (self.clients.to_string(), THREADS.to_string());
        let (port, seconds) = (self.postgres.port.to_string(), length.as_secs().to_string());
        let base = format!("base={}", first_at(wall_ms()));
        let password = format!("PGPASSWORD={}", self.password);
        // On the host's network, so that it reaches the server the way that chirp does.
        let mut words = vec!["run", "--rm", "-i", "--network", "host", "-e", &password];
        words.extend(["--entrypoint", "sh", &self.postgres.image, "-c", FIND, "pgbench"]);
        words.extend(["-h", "127.0.0.1", "-p", &port, "-U", &self.user]);
        words.extend(["-n", "-M", "prepared", "-c", &clients, "-j", &threads, "-T", &seconds]);
        words.extend(["-f", "-", "-D", &base]);
        words.extend(self.variables.iter().flat_map(|variable| ["-D", variable.as_str()]));
        words.push(DATABASE);
        let before = self.cpu_s();
        let printed = docker(&words, SCRIPT.as_bytes());
        let after = self.cpu_s();
        let number = |behind: &str| -> f64 {
            let (_, rest) = printed.split_once(behind).expect("pgbench prints what it found");
            rest.split_whitespace().next().unwrap().parse().unwrap()
        };
        Slice {
            requests_per_s: number("tps = "),
            cpu_us: per_request(&before, &after, number("actually processed: ")),
            drained_s: 0.0,
            latency: Histogram::new(3).unwrap(),
        }
    }

    fn cpu_s(&self) -> Vec<(String, f64)> {
        let own = ("server".to_owned(), self.postgres.cpu_s());
        vec![own, ("docker-proxy".to_owned(), self.postgres.proxy_cpu_s())]
    }

    /// What is compared.
    pub(crate) fn about(&self) -> String {
        let clients = self.clients;
        format!(
            "pgbench has {clients}, as many as chirp's tweet role has to its database, and runs the \
             statements of a post in a database with the same tables and tweets; chirp also relays, \
             publishes, writes both copies and fans out to 20 followers meanwhile, on the same cores"
        )
    }
}
