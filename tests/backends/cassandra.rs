//! The timeline store over Cassandra.

mod contracts;
mod faults;
mod followers;
mod schema;
mod tls;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use chirp::{
    adapters::cassandra::{CassandraTimelineStore, migrate},
    config::Cassandra,
    domain::{
        Body, DisplayName, Handle, MediaList, Pair, PairChange, PairState, TweetId, TweetText,
        UserId, Window,
    },
    ports::TimelineStore,
    rt::{Rt, tokio_rt::TokioRuntime},
};
use scylla::{
    client::{session::Session, session_builder::SessionBuilder},
    deserialize::row::DeserializeRow,
};

use crate::support::{
    proxy::Proxy,
    run::{Backend, Scenario, answers, scenarios},
    server::Container,
    servers::endpoint,
};

pub const SCENARIOS: &[Scenario<Server>] = scenarios![
    schema::processes_that_start_at_once_make_the_tables_once,
    schema::the_tables_are_what_the_steps_say,
    schema::a_keyspace_that_lacks_a_step_is_not_opened_and_the_step_is_named,
    schema::a_step_that_was_changed_is_refused,
    schema::a_later_release_is_accepted_until_one_that_excludes_this_one,
    schema::an_absent_server_is_said_without_the_password,
    contracts::the_timeline_store_keeps_its_contract,
    contracts::home_timelines_keep_their_contract,
    contracts::an_authors_list_goes_on_over_years_without_tweets,
    contracts::a_user_who_comes_and_goes_is_one_relation_and_one_follower,
    contracts::more_ids_than_a_call_may_have_are_refused,
    followers::an_author_becomes_big_under_running_fan_outs,
    followers::whoever_follows_before_and_leaves_after_the_change_is_gone,
    followers::a_big_account_has_small_partitions_and_each_follower_once,
    faults::a_write_that_was_cut_off_is_unknown,
    faults::a_write_without_a_connection_has_failed,
    faults::a_silent_connection_is_an_error_and_a_new_one_is_made,
    faults::a_frozen_server_is_an_error_and_thawed_it_answers,
    faults::a_server_that_was_killed_is_found_again_with_all_it_acknowledged,
    tls::a_cluster_is_known_by_its_authority_and_its_name_and_knows_a_password,
];

/// Far above what a busy machine needs, for scenarios that are not about bounds.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a scenario asks before it gives up; more than the longest pause of the driver needs.
const ASKS_MAX: u32 = 600;

/// The one server.
#[derive(Clone)]
pub struct Server {
    pub config: Cassandra,
    pub rt: Rt,
    made: Arc<AtomicU32>,
}

impl Backend for Server {
    const NAME: &'static str = "cassandra";

    async fn begin(container: &Container) -> Self {
        let patience = PATIENCE.as_millis().try_into().unwrap();
        let config = Cassandra {
            addresses: format!("127.0.0.1:{}", container.port),
            connect_timeout_ms: patience,
            call_ms: patience,
            ..Cassandra::default()
        };
        let server = Self { config, rt: TokioRuntime::handle(), made: Arc::new(AtomicU32::new(0)) };
        answers(container, || async { migrate(&server.rt, &endpoint(&server.config)).await }).await;
        server
    }
}

impl Server {
    /// With a name that no keyspace has.
    pub fn elsewhere(&self) -> Cassandra {
        let keyspace = format!("test_{}", self.made.fetch_add(1, Ordering::Relaxed));
        Cassandra { keyspace, ..self.config.clone() }
    }

    /// With an empty keyspace.
    pub async fn empty(&self) -> Cassandra {
        let config = self.elsewhere();
        migrate(&self.rt, &endpoint(&config)).await.unwrap();
        config
    }

    pub async fn open(&self, config: &Cassandra) -> CassandraTimelineStore {
        config.validate().unwrap();
        CassandraTimelineStore::open(&self.rt, &endpoint(config)).await.unwrap()
    }

    /// Past the adapter.
    pub async fn session(&self) -> Session {
        SessionBuilder::new().known_node(&self.config.addresses).build().await.unwrap()
    }

    pub fn port(&self) -> u16 {
        self.config.nodes().next().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

/// `config` through a proxy.
pub fn behind(proxy: &Proxy, config: &Cassandra) -> Cassandra {
    Cassandra { addresses: format!("127.0.0.1:{}", proxy.port), ..config.clone() }
}

/// Asks until the store answers again.
pub async fn heals(server: &Server, store: &dyn TimelineStore) {
    for _ in 0..ASKS_MAX {
        if store.author_tweets(UserId(1), Window::Latest, 9).await.is_ok() {
            return;
        }
        server.rt.sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not answer again");
}

/// What a statement finds.
pub async fn rows<R>(session: &Session, cql: String) -> Vec<R>
where
    R: for<'r> DeserializeRow<'r, 'r>,
{
    let found = session.query_unpaged(cql, ()).await.unwrap().into_rows_result().unwrap();
    found.rows::<R>().unwrap().map(Result::unwrap).collect()
}

pub fn tweet(id: u64, author: u64) -> Body {
    Body {
        id: TweetId(id),
        author: UserId(author),
        handle: Handle::parse("somebody").unwrap(),
        name: DisplayName::parse("Somebody").unwrap(),
        text: TweetText::parse(&format!("the text of {id}")).unwrap(),
        media: MediaList::default(),
        created_at_ms: 1_800_000_000_000,
    }
}

/// `follower` follows `author`, or not any more.
pub fn follow(follower: u64, author: u64, version: u64, follows: bool) -> PairChange {
    let pair = Pair::new(UserId(follower), UserId(author)).unwrap();
    let mut state = PairState::default();
    let side = if pair.low == UserId(follower) { &mut state.low } else { &mut state.high };
    side.follows = follows;
    PairChange { pair, version, state }
}
