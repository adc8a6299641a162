//! The connections to the cluster, and how a statement over them ends.
//!
//! The driver neither retries, nor guesses, nor stamps: it would hide from whom a write was taken back
//! that an earlier try may have happened, speculative copies cost what they save, and a row's time is
//! the coordinator's, because Amazon Keyspaces takes no client's. A statement that meets a dead
//! connection or too few replicas is sent again here, within its time, and its fault remembers every
//! try.
//!
//! A statement ends within `call_ms`. A call of many ends with the first that is not done, so a server
//! that falls silent costs one such time, whatever was asked of it.

use std::{num::NonZeroUsize, ops::ControlFlow, sync::Arc, time::Duration};

use futures_util::{
    FutureExt as _, StreamExt as _, TryStreamExt as _,
    stream::{self, FuturesUnordered},
};
use scylla::{
    client::{
        PoolSize, execution_profile::ExecutionProfile, session::Session,
        session_builder::SessionBuilder,
    },
    deserialize::row::DeserializeRow,
    errors::ExecutionError,
    policies::retry::FallthroughRetryPolicy,
    response::{PagingState, PagingStateResponse, query_result::QueryResult},
    serialize::row::SerializeRow,
    statement::prepared::PreparedStatement,
};

use super::{
    super::endpoint::Endpoint,
    fault::{Fault, Tally, brief},
    login::ByToken,
    open::OpenError,
    statements::Statements,
    tls,
};
use crate::{
    config,
    rt::{BoxFuture, Rt},
};

/// How often a statement is sent, within its time.
const TRIES_MAX: u32 = 3;
/// Before a statement is sent again; with jitter.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// How often a silent connection is asked whether it lives, and how long it may be silent then: a
/// peer that went away without a word is noticed within the sum.
const KEEPALIVE: Duration = Duration::from_secs(5);

/// One of the statements of a call.
pub(super) type Work<'a, T> = BoxFuture<'a, Result<T, Fault>>;

/// The cluster.
pub(super) struct Cql {
    pub(super) session: Session,
    /// Boxed, as they are many, and futures hold whoever has them.
    pub(super) statements: Box<Statements>,
    rt: Rt,
    call_max: Duration,
    in_flight_max: usize,
}

impl std::fmt::Debug for Cql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The session holds the password.
        f.write_str("Cql")
    }
}

/// Connects to one of the nodes, and learns the others from it.
pub(super) async fn connect(
    rt: &Rt,
    endpoint: &Endpoint<config::Cassandra>,
) -> Result<Session, OpenError> {
    let config = &endpoint.config;
    let connections = usize::try_from(config.connections).unwrap_or(usize::MAX);
    let profile = ExecutionProfile::builder()
        // [`Cql`] counts, as its bound covers all tries.
        .request_timeout(None)
        .retry_policy(Arc::new(FallthroughRetryPolicy::new()))
        .speculative_execution_policy(None)
        .build();
    let mut builder = SessionBuilder::new()
        .known_nodes(config.nodes())
        .default_execution_profile_handle(profile.into_handle())
        .connection_timeout(config.connect_timeout())
        .hostname_resolution_timeout(Some(config.connect_timeout()))
        .metadata_request_clientside_timeout(config.call())
        .metadata_request_serverside_timeout(config.call())
        .pool_size(PoolSize::PerHost(NonZeroUsize::new(connections).unwrap_or(NonZeroUsize::MIN)))
        .keepalive_interval(KEEPALIVE)
        .keepalive_timeout(KEEPALIVE)
        .tcp_nodelay(true)
        .keyspaces_to_fetch([&config.keyspace])
        .tls_context(tls::context(config)?);
    if !config.username.is_empty() {
        // Also now, as the driver would say it in many words, and the reason last.
        let token = endpoint.token(rt, config.connect_timeout()).await;
        token.map_err(|error| OpenError::login(config, error))?;
        builder = builder.authenticator_provider(Arc::new(ByToken {
            rt: rt.clone(),
            endpoint: endpoint.clone(),
        }));
    }
    let limit = open_max(config);
    let built = rt.timeout(limit, Box::pin(builder.build())).await;
    built.map_or_else(
        |_| Err(OpenError::silent(config, limit)),
        |built| built.map_err(|error| OpenError::unreachable(config, &error)),
    )
}

/// Connects, and so reads what the cluster is. The caller bounds the time.
///
/// # Errors
/// [`OpenError`].
pub async fn answers(rt: &Rt, endpoint: &Endpoint<config::Cassandra>) -> Result<(), OpenError> {
    connect(rt, endpoint).await.map(drop)
}

/// The longest that connecting may take: a connection to each node, and what is asked over one.
fn open_max(config: &config::Cassandra) -> Duration {
    let nodes = u32::try_from(config.nodes().count()).unwrap_or(u32::MAX);
    config.connect_timeout().saturating_mul(nodes).saturating_add(config.call() * 2)
}

impl Cql {
    /// Prepares every statement over `session`.
    pub(super) async fn new(
        rt: &Rt,
        config: &config::Cassandra,
        session: Session,
    ) -> Result<Self, OpenError> {
        let limit = open_max(config);
        let prepared =
            rt.timeout(limit, Box::pin(Statements::prepare(&session, &config.keyspace))).await;
        let statements = prepared
            .map_err(|_| OpenError::silent(config, limit))?
            .map_err(|error| OpenError::schema(config, brief(&error)))?;
        let statements = Box::new(statements);
        let in_flight_max = usize::try_from(config.in_flight_max).unwrap_or(usize::MAX);
        Ok(Self { session, statements, rt: rt.clone(), call_max: config.call(), in_flight_max })
    }

    /// The most statements of one call that are in work at once.
    pub(super) const fn in_flight_max(&self) -> usize {
        self.in_flight_max
    }

    /// The time, in milliseconds since the Unix epoch.
    pub(super) fn wall_ms(&self) -> u64 {
        self.rt.wall_ms()
    }

    /// Asks whether a statement that needs a quorum is answered.
    pub(super) async fn ping(&self) -> Result<(), Fault> {
        self.one::<AuthorColumns>(&self.statements.author, (0_i64,)).await.map(drop)
    }

    /// Runs one write.
    pub(super) async fn write(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> Result<(), Fault> {
        self.send(statement, &values, PagingState::start()).await.map(drop)
    }

    /// Runs writes side by side. After one that is not done no further ones begin, and those in work
    /// are waited for.
    pub(super) async fn write_all(&self, tally: &mut Tally, writes: Vec<Work<'_, ()>>) {
        let mut waiting = writes.into_iter();
        let mut running = FuturesUnordered::new();
        loop {
            let room = if tally.is_whole() { self.in_flight_max - running.len() } else { 0 };
            running.extend(waiting.by_ref().take(room));
            match running.next().await {
                Some(written) => tally.add(written),
                None => return,
            }
        }
    }

    /// Runs reads side by side, and gives what they found in their order.
    pub(super) async fn read_all<T>(&self, reads: Vec<Work<'_, T>>) -> Result<Vec<T>, Fault> {
        stream::iter(reads).buffered(self.in_flight_max).try_collect().await
    }

    /// The only row, if there is one.
    pub(super) async fn one<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> Result<Option<R>, Fault>
    where
        R: for<'r> DeserializeRow<'r, 'r>,
    {
        Ok(self.rows(statement, values).await?.pop())
    }

    /// All rows of a statement that has a limit. A server may give them in several pages, however few
    /// they are.
    pub(super) async fn rows<R>(
        &self,
        statement: &PreparedStatement,
        values: impl SerializeRow + Sync,
    ) -> Result<Vec<R>, Fault>
    where
        R: for<'r> DeserializeRow<'r, 'r>,
    {
        let mut rows = Vec::new();
        let mut page = PagingState::start();
        loop {
            let (answer, rest) = self.send(statement, &values, page).await?;
            let answer = answer.into_rows_result().map_err(|e| Fault::corrupt(brief(&e)))?;
            rows.reserve(answer.rows_num());
            for row in answer.rows::<R>().map_err(|e| Fault::corrupt(brief(&e)))? {
                rows.push(row.map_err(|e| Fault::corrupt(brief(&e)))?);
            }
            match rest.into_paging_control_flow() {
                ControlFlow::Break(()) => return Ok(rows),
                ControlFlow::Continue(next) => page = next,
            }
        }
    }

    async fn send(
        &self,
        statement: &PreparedStatement,
        values: &(impl SerializeRow + Sync),
        page: PagingState,
    ) -> Result<(QueryResult, PagingStateResponse), Fault> {
        // Boxed, as the driver's future would make every caller's as large.
        let once = || self.session.execute_single_page(statement, values, page.clone()).boxed();
        self.tried(once).await
    }

    /// Sends something until it is done, as often and as long as a statement may be sent.
    pub(super) async fn tried<'a, T>(
        &self,
        once: impl Fn() -> BoxFuture<'a, Result<T, ExecutionError>>,
    ) -> Result<T, Fault> {
        let deadline = self.rt.now().plus(self.call_max);
        let mut maybe = false;
        for tries in 1.. {
            let left = deadline.since(self.rt.now());
            let mut fault = match self.rt.timeout(left, once()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => Fault::of(&error),
                Err(_) => Fault::late(self.call_max.as_millis()),
            };
            maybe |= fault.maybe;
            if !fault.passes || tries == TRIES_MAX {
                fault.maybe = maybe;
                return Err(fault);
            }
            self.rt.sleep(self.rt.jitter(TRY_AGAIN_AFTER)).await;
        }
        unreachable!("the loop ends at its last try")
    }
}

/// `latest`, `both`, `pull` and `big` of an author.
pub(super) type AuthorColumns = (Option<i64>, Option<bool>, Option<bool>, Option<bool>);
