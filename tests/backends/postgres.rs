//! The stores over `PostgreSQL`.

mod contracts;
mod faults;
mod login;
mod schema;
mod tls;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use chirp::{
    adapters::postgres::{
        Pg,
        migrate::{Steps, TWEET, USER, migrate},
    },
    config::{Postgres, Secret},
    rt::{Rt, tokio_rt::TokioRuntime},
};
use sqlx_core::{connection::ConnectOptions as _, raw_sql::raw_sql, sql_str::AssertSqlSafe};
use sqlx_postgres::{PgConnectOptions, PgConnection, PgSslMode};

use crate::support::{
    proxy::Proxy,
    run::{Backend, Scenario, answers, scenarios},
    server::Container,
    servers::endpoint,
};

pub const SCENARIOS: &[Scenario<Server>] = scenarios![
    contracts::users_keep_their_contract,
    contracts::the_graph_keeps_its_contract,
    contracts::keys_keep_their_contract,
    contracts::tweets_keep_their_contract,
    contracts::uploads_keep_their_contract,
    contracts::the_outboxes_keep_their_contract,
    contracts::two_processes_give_an_authors_tweets_increasing_ids,
    contracts::two_relays_replay_and_prune_more_than_a_batch,
    faults::a_commit_that_was_cut_off_is_unknown_and_may_be_repeated,
    faults::a_statement_of_its_own_that_was_cut_off_is_unknown,
    faults::a_write_that_was_cut_off_before_its_commit_has_failed,
    faults::a_connection_that_died_before_the_commit_is_replaced,
    faults::a_commit_that_comes_late_undoes_nothing_that_came_after_it,
    faults::a_frozen_server_is_an_error_and_thawed_it_answers,
    faults::a_silent_transaction_loses_its_locks,
    faults::connections_that_died_while_idle_are_not_noticed,
    schema::processes_that_start_at_once_take_each_step_once,
    schema::a_database_of_an_earlier_release_is_brought_up_to_date,
    schema::a_database_of_a_later_release_is_accepted,
    schema::a_step_that_was_changed_is_refused,
    schema::what_cannot_be_opened_is_said_without_the_password,
    login::a_password_that_was_changed_is_read_for_the_next_connection,
    login::who_gives_no_password_keeps_nobody_from_what_is_connected,
    tls::a_server_is_known_by_its_authority_and_its_name,
];

/// The one server.
#[derive(Clone)]
pub struct Server {
    /// With the bounds that a process has if nothing is configured.
    pub config: Postgres,
    pub rt: Rt,
    made: Arc<AtomicU32>,
}

impl Backend for Server {
    const NAME: &'static str = "postgres";

    async fn begin(container: &Container) -> Self {
        let environment = &container.image.environment;
        let config = Postgres {
            port: container.port,
            user: environment["POSTGRES_USER"].clone(),
            password: Secret(environment["POSTGRES_PASSWORD"].clone()),
            tls: "disable".to_owned(),
            ..Postgres::default()
        };
        let made = Arc::new(AtomicU32::new(0));
        let server = Self { config, rt: TokioRuntime::handle(), made };
        answers(container, || server.connect("postgres")).await;
        for (template, steps) in [("template_user", USER), ("template_tweet", TWEET)] {
            server.run("postgres", &format!("create database {template}")).await;
            migrate(&server.rt, &endpoint(&server.config), template, steps).await.unwrap();
        }
        server
    }
}

impl Server {
    async fn connect(&self, database: &str) -> Result<PgConnection, sqlx_core::Error> {
        PgConnectOptions::new_without_pgpass()
            .host(&self.config.host)
            .port(self.config.port)
            .username(&self.config.user)
            .password(&self.config.password.0)
            .database(database)
            .ssl_mode(PgSslMode::Disable)
            .connect()
            .await
    }

    /// Runs a statement in `database`.
    pub async fn run(&self, database: &str, sql: &str) {
        let mut conn = self.connect(database).await.unwrap();
        raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut conn).await.unwrap();
    }

    /// As a restart of the server does.
    pub async fn end_sessions(&self, database: &str) {
        let sql = "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = ";
        self.run("postgres", &format!("{sql}'{database}'")).await;
    }

    /// A name that no database has.
    pub fn name(&self) -> String {
        format!("test_{}", self.made.fetch_add(1, Ordering::Relaxed))
    }

    /// An empty database without tables.
    pub async fn empty(&self) -> String {
        let name = self.name();
        self.run("postgres", &format!("create database {name}")).await;
        name
    }

    /// An empty database of the user role.
    pub async fn user(&self) -> String {
        let name = self.name();
        self.run("postgres", &format!("create database {name} template template_user")).await;
        name
    }

    /// An empty database of the tweet role.
    pub async fn tweet(&self) -> String {
        let name = self.name();
        self.run("postgres", &format!("create database {name} template template_tweet")).await;
        name
    }

    /// A pool over `database`, as another process has it.
    pub fn pool(&self, database: &str) -> Pg {
        Pg::new(&self.rt, &endpoint(&self.config), database)
    }

    /// A pool whose connections go through a proxy.
    pub fn pool_behind(&self, proxy: &Proxy, database: &str) -> Pg {
        self.pool_with(&Postgres { port: proxy.port, ..self.config.clone() }, database)
    }

    /// A pool with other bounds.
    pub fn pool_with(&self, config: &Postgres, database: &str) -> Pg {
        config.validate().unwrap();
        Pg::new(&self.rt, &endpoint(config), database)
    }

    /// As a process with these steps would begin.
    pub async fn migrate(&self, database: &str, steps: Steps) {
        migrate(&self.rt, &endpoint(&self.config), database, steps).await.unwrap();
    }
}
