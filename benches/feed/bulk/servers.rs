//! Bare writers of servers: `COPY` of whole tables through psql, and a client of Cassandra that keeps
//! many batches in work.

use std::{fmt::Write as _, path::Path, time::Instant};

use chirp::{
    adapters::{cassandra, embedded::sqlite::key, endpoint::Endpoint, postgres},
    config::Config,
    domain::fanout::bucket_of,
    rt::tokio_rt::TokioRuntime,
    stack::seed::Plan,
};
use futures_util::{StreamExt, stream};
use scylla::{
    client::session_builder::SessionBuilder,
    statement::{
        Consistency,
        batch::{Batch, BatchType},
        prepared::PreparedStatement,
        unprepared::Statement,
    },
    value::CqlValue,
};

use crate::containers::{Servers, docker};

/// Rows of one partition that go in one batch, as chirp sends them.
pub(super) const BATCH_ROWS: usize = 30;
/// Batches of the bare client that are in work at once: four times as many as chirp has.
pub(super) const AT_ONCE: usize = 128;
/// How the data sets that chirp fills are called.
pub(super) const OURS: &str = "ours";
const BARE: &str = "bare";
/// How long a statement may take.
const CALL_MS: u64 = 20_000;
/// The year in which a seed's people have tweeted.
const YEAR: i16 = 2025;

const RELATION: &str =
    "insert into ks.relations (user_id, other_id, version, follows, blocked, mutes)
    values (?, ?, ?, true, false, false)";
const FOLLOWER: &str = "insert into ks.followers
    (followee_id, part, bucket, follower_id, version, follows) values (?, 0, ?, ?, ?, true)";
const PLACE: &str = "insert into ks.author_tweets (author_id, year, tweet_id) values (?, ?, ?)";
const LATEST: &str = "insert into ks.authors (author_id, latest) values (?, ?)";
const BODY: &str = "insert into ks.tweets
    (tweet_id, author_id, handle, name, text, created_at_ms) values (?, ?, ?, ?, ?, ?)";

/// The databases of the user and the tweet role and the keyspace of a data set.
pub(super) fn names(slice: usize, whose: &str) -> [String; 3] {
    ["user", "tweet", "copy"].map(|role| format!("bulk_{whose}_{slice}_{role}"))
}

/// Makes the databases of a data set, and gives what leads to it.
fn config(servers: &Servers, slice: usize, whose: &str) -> Config {
    let [user, tweet, keyspace] = names(slice, whose);
    for database in [&user, &tweet] {
        servers.sql("postgres", &format!("create database {database}"), &[]);
    }
    let mut config = servers.config.clone();
    "external".clone_into(&mut config.backends.kind);
    (config.postgres.user_database, config.postgres.tweet_database) = (user, tweet);
    config.cassandra.keyspace = keyspace;
    config.cassandra.call_ms = CALL_MS;
    config
}

/// Makes an empty data set for chirp. Gives the configuration file in `dir` that leads to it.
pub(super) fn configured(servers: &Servers, slice: usize, dir: &Path) -> String {
    let path = dir.join("chirp.toml");
    let text = config(servers, slice, OURS).to_table().to_string();
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Rows of users, counts, pairs, tweets and authors in databases.
pub(super) fn rows(servers: &Servers, names: &[String; 3]) -> u64 {
    let tables =
        [(&names[0], &["users", "counts", "edges"][..]), (&names[1], &["tweets", "authors"])];
    let count = |(database, table): (&String, &&str)| -> u64 {
        let sql = format!("select count(*) from {table}");
        let id = &servers.get("postgres").id;
        let words =
            ["exec", "-e", "PGPASSWORD=chirp", id, "psql", "-h", "127.0.0.1", "-U", "chirp"];
        let words = [&words[..], &["-At", "-d", database, "-c", &sql]].concat();
        docker(&words, &[]).trim().parse().unwrap()
    };
    let all = tables.into_iter().flat_map(|(name, tables)| tables.iter().map(move |t| (name, t)));
    all.map(count).sum()
}

/// An empty data set with the same tables, for the bare writers.
pub(super) struct Bare {
    names: [String; 3],
    addresses: String,
}

impl Bare {
    /// Makes it.
    pub(super) async fn make(servers: &Servers, slice: usize) -> Self {
        let (rt, config) = (TokioRuntime::handle(), config(servers, slice, BARE));
        let postgres = Endpoint::configured(&rt, &config.postgres);
        postgres::UserStores::open(&rt, &postgres, true).await.unwrap().db.close().await;
        postgres::TweetStores::open(&rt, &postgres, true).await.unwrap().db.close().await;
        let endpoint = Endpoint::configured(&rt, &config.cassandra);
        cassandra::migrate(&rt, &endpoint).await.unwrap();
        Self { names: names(slice, BARE), addresses: config.cassandra.addresses }
    }

    /// Copies whole tables, and gives the seconds that it took.
    pub(super) fn copy(&self, servers: &Servers, plan: &Plan) -> f64 {
        let [user, tweet, _] = &self.names;
        let began = Instant::now();
        let (mut users, mut counts, mut edges) = (String::new(), String::new(), String::new());
        let graph = plan.graph();
        for n in 0..plan.users() {
            let account = plan.account(n);
            let (id, name, at) = (account.id.0, account.name.as_str(), account.created_at_ms);
            writeln!(users, "{id}\t{}\t{name}\t{at}", account.handle.as_str()).unwrap();
            let (followers, following) = (graph.followers.of(n), graph.following.of(n));
            writeln!(counts, "{id}\t{}\t{}", followers.len(), following.len()).unwrap();
            for change in plan.pairs(n) {
                let (pair, state) = (change.pair, change.state);
                let [low, high] = [state.low, state.high].map(|side| side.follows);
                writeln!(edges, "{}\t{}\t{}\t{low}\t{high}", pair.low, pair.high, change.version)
                    .unwrap();
            }
        }
        for (table, rows) in [
            ("users (id, handle, name, created_at_ms)", users),
            ("counts (user_id, followers, following)", counts),
            ("edges (low, high, version, low_follows, high_follows)", edges),
        ] {
            servers.sql(user, &format!("copy {table} from stdin"), rows.as_bytes());
        }
        let mut tweets = String::new();
        for body in plan.bodies(0..plan.tweets()) {
            let (id, author, text) = (body.id.0, body.author.0, body.text.as_str());
            let (handle, name, at) = (body.handle.as_str(), body.name.as_str(), body.created_at_ms);
            writeln!(tweets, "{id}\t{author}\t{handle}\t{name}\t{text}\t{at}").unwrap();
        }
        let table = "tweets (id, author_id, handle, name, text, created_at_ms)";
        servers.sql(tweet, &format!("copy {table} from stdin"), tweets.as_bytes());
        let sql = "insert into authors select author_id, max(id) from tweets group by author_id";
        servers.sql(tweet, sql, &[]);
        began.elapsed().as_secs_f64()
    }

    /// Rows in the databases.
    pub(super) fn rows(&self, servers: &Servers) -> u64 {
        rows(servers, &self.names)
    }

    /// Writes all batches to Cassandra, on all cores, and gives the seconds that it took.
    pub(super) fn write(&self, rows: &Rows) -> f64 {
        let work = async {
            let session = SessionBuilder::new().known_node(&self.addresses).build().await.unwrap();
            let mut prepared: Vec<PreparedStatement> = Vec::new();
            for cql in [RELATION, FOLLOWER, PLACE, LATEST, BODY] {
                let text = Statement::new(cql.replace("ks.", &format!("{}.", self.names[2])));
                let mut statement = session.prepare(text).await.unwrap();
                statement.set_consistency(Consistency::LocalQuorum);
                statement.set_is_idempotent(true);
                prepared.push(statement);
            }
            let began = Instant::now();
            stream::iter(&rows.0)
                .for_each_concurrent(AT_ONCE, |(which, rows)| {
                    let (session, statement) = (&session, &prepared[*which]);
                    async move {
                        if let [row] = &rows[..] {
                            session.execute_unpaged(statement, row).await.unwrap();
                            return;
                        }
                        let mut batch = Batch::new(BatchType::Unlogged);
                        batch.set_consistency(Consistency::LocalQuorum);
                        batch.set_is_idempotent(true);
                        for _ in rows {
                            batch.append_statement(statement.clone());
                        }
                        session.batch(&batch, rows).await.unwrap();
                    }
                })
                .await;
            began.elapsed().as_secs_f64()
        };
        // Not the runtime of the bench, which has one thread.
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                runtime.enable_all().build().unwrap().block_on(work)
            });
            thread.join().unwrap()
        })
    }
}

/// What goes to Cassandra, ready before the clock starts: the statement, and rows of one partition.
pub(super) struct Rows(Vec<(usize, Vec<Vec<CqlValue>>)>);

impl Rows {
    /// In the order in which chirp writes: by user, then bodies.
    pub(super) fn of(plan: &Plan) -> Self {
        let number = |id: u64| CqlValue::BigInt(key(id));
        let mut all = Vec::new();
        let tweets = plan.by_author();
        for (user, tweets) in (0..plan.users()).zip(tweets) {
            let id = plan.id(user).0;
            let following = plan.following(user).into_iter();
            let relations = following.map(|(o, v)| vec![number(id), number(o.0), number(v)]);
            let followers = plan.followers(user).into_iter().map(|(other, version)| {
                let bucket = CqlValue::SmallInt(bucket_of(other).cast_signed());
                vec![number(id), bucket, number(other.0), number(version)]
            });
            let year = CqlValue::SmallInt(YEAR);
            let places = tweets.iter().map(|t| vec![number(id), year.clone(), number(t.0)]);
            let rows: [Vec<Vec<CqlValue>>; 3] =
                [relations.collect(), followers.collect(), places.collect()];
            for (which, rows) in rows.into_iter().enumerate() {
                all.extend(rows.chunks(BATCH_ROWS).map(|rows| (which, rows.to_vec())));
            }
            all.extend(tweets.last().map(|t| (3, vec![vec![number(id), number(t.0)]])));
        }
        for body in plan.bodies(0..plan.tweets()) {
            let text = |text: &str| CqlValue::Text(text.to_owned());
            let (handle, name) = (text(body.handle.as_str()), text(body.name.as_str()));
            let (id, author) = (number(body.id.0), number(body.author.0));
            let (text, at) = (text(body.text.as_str()), number(body.created_at_ms));
            all.push((4, vec![vec![id, author, handle, name, text, at]]));
        }
        Self(all)
    }

    /// How many rows.
    pub(super) fn len(&self) -> u64 {
        self.0.iter().map(|(_, rows)| rows.len()).sum::<usize>() as u64
    }
}
