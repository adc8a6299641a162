//! A bounded pool of connections to one database, and how a call over it ends.
//!
//! - A **transaction** ([`Pg::write`]) that ends badly before `commit` was sent has *failed*: nobody
//!   else will commit it. Afterwards only the server's own "no" is a failure; a connection that is
//!   lost, or a call that takes too long, leaves the outcome *unknown*.
//! - A **statement of its own** ([`Pg::write_at_once`]) is its own commit, so the second rule holds
//!   from its beginning.
//! - A call takes at most `call_ms`. The server is told to end statements, waits for locks and silent
//!   transactions earlier, so that what a client has given up does not go on holding locks.
//!
//! Nothing unknown takes effect after something later that it excludes: whoever reads before writing
//! locks the row (pair, author, session, keyring) first, and `commit` is sent only when every
//! statement was answered. A commit that comes late therefore comes from a transaction that still
//! holds the row, and whoever is later waits for the row; or the server has ended the transaction,
//! and the commit finds nothing.
//!
//! What logs in is asked for when a connection is about to be made, and when the server has refused
//! what was known.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use sqlx_core::{
    connection::{ConnectOptions as _, Connection as _},
    error::Error,
    pool::{Pool, PoolConnection},
};
use sqlx_postgres::{PgConnectOptions, PgConnection, PgPoolOptions, PgSslMode, Postgres};

use super::{
    super::endpoint::{Endpoint, late},
    fault::Fault,
};
use crate::{
    config::{self, Secret},
    ports::{Outcome, Read},
    rt::{BoxFuture, Instant, Rt},
};

/// How often a call is made that meets another transaction or a dead connection, within its time.
const TRIES_MAX: u32 = 3;
/// A connection that was idle for longer is asked whether it lives before it is used: after a restart
/// of the server all idle ones are dead, while a busy one is too young to be worth a round trip.
const IDLE_TRUSTED: Duration = Duration::from_secs(1);
/// A connection that was idle for this long is closed: a burst should not hold the server's for good.
const IDLE_MAX: Duration = Duration::from_mins(10);
/// How long a used connection has to show that it may be used again, before it is closed.
const RETURN_MAX: Duration = Duration::from_secs(1);

/// How a transaction that was worked through ends.
pub(super) enum End<T> {
    /// What was written counts.
    Commit(T),
    /// Nothing was written, or what was written must not count.
    Undo(T),
}

/// The statements of a call. They may run again, and see nothing of their earlier run then.
pub(super) type Work<A, T> =
    for<'c> fn(&'c mut PgConnection, &'c A) -> BoxFuture<'c, Result<T, Fault>>;

/// A pool of connections to one database; cheap to clone.
#[derive(Clone)]
pub struct Pg {
    pool: Pool<Postgres>,
    rt: Rt,
    call_max: Duration,
    database: Arc<str>,
    login: Arc<Login>,
}

/// What connections log in with.
struct Login {
    endpoint: Endpoint<config::Postgres>,
    /// The token that was asked for last.
    known: parking_lot::Mutex<Secret>,
    /// When that was.
    asked: tokio::sync::Mutex<Option<Instant>>,
}

impl fmt::Debug for Pg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The options hold the password.
        f.debug_tuple("Pg").field(&self.database).finish()
    }
}

/// How to reach `database`, without limits of time and without a password.
pub(super) fn options(config: &config::Postgres, database: &str) -> PgConnectOptions {
    let tls = match config.tls.as_str() {
        "disable" => PgSslMode::Disable,
        "require" => PgSslMode::Require,
        "verify-ca" => PgSslMode::VerifyCa,
        _ => PgSslMode::VerifyFull,
    };
    let options = PgConnectOptions::new_without_pgpass()
        .host(&config.host)
        .port(config.port)
        .username(&config.user)
        .database(database)
        .ssl_mode(tls)
        .application_name("chirp")
        // Whatever the server's defaults are: waiting for a lock must show what its holder wrote, and
        // what is answered must be on the disk.
        .options([
            ("default_transaction_isolation", "read committed"),
            ("synchronous_commit", "on"),
        ])
        .disable_statement_logging();
    if config.ca_file.is_empty() { options } else { options.ssl_root_cert(&config.ca_file) }
}

impl Pg {
    /// A pool over `database`. Connects when it is first used.
    #[must_use]
    pub fn new(rt: &Rt, endpoint: &Endpoint<config::Postgres>, database: &str) -> Self {
        let config = &endpoint.config;
        let options = options(config, database).options([
            ("statement_timeout", config.statement_ms),
            ("lock_timeout", config.lock_ms),
            ("idle_in_transaction_session_timeout", config.silence_ms),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(config.connections_max)
            // The library's defaults. With a minimum it would make connections by itself, without asking
            // what logs in.
            .min_connections(0)
            .idle_timeout(IDLE_MAX)
            .acquire_timeout(config.acquire())
            .max_lifetime(config.lifetime())
            .test_before_acquire(false)
            .before_acquire(|conn, meta| {
                async move {
                    if meta.idle_for > IDLE_TRUSTED {
                        conn.ping().await?;
                    }
                    Ok(true)
                }
                .boxed()
            })
            .connect_lazy_with(options);
        let (known, asked) = Default::default();
        let login = Arc::new(Login { endpoint: endpoint.clone(), known, asked });
        let call_max = config.call();
        Self { pool, rt: rt.clone(), call_max, database: database.into(), login }
    }

    /// Refuses further calls from now on; the future waits until every connection is closed, which
    /// takes as long as a call may take.
    pub fn close(&self) -> impl Future<Output = ()> + '_ {
        self.pool.close()
    }

    /// Runs `work` in a transaction.
    pub(super) async fn write<A: Sync, T: Send>(
        &self,
        store: &'static str,
        args: &A,
        work: Work<A, End<T>>,
    ) -> Outcome<T> {
        let deadline = self.deadline();
        let mut tries = 1;
        loop {
            let mut sent = false;
            let fault = match self.transact(deadline, args, work, &mut sent).await {
                Ok(value) => return Outcome::Done(value),
                Err(fault) => fault,
            };
            if sent && !fault.nothing_happened() {
                return Outcome::Unknown(fault.to_error(store));
            }
            if !fault.passes() || tries == TRIES_MAX {
                return Outcome::Failed(fault.to_error(store));
            }
            tries += 1;
        }
    }

    /// Runs `work`, which writes with one statement, and may read after one that wrote nothing.
    pub(super) async fn write_at_once<A: Sync, T: Send>(
        &self,
        store: &'static str,
        args: &A,
        work: Work<A, T>,
    ) -> Outcome<T> {
        let deadline = self.deadline();
        let mut tries = 1;
        loop {
            let mut conn = match self.acquire(deadline).await {
                Ok(conn) => conn,
                Err(fault) => return Outcome::Failed(fault.to_error(store)),
            };
            let fault = match conn.run(deadline, args, work).await {
                Ok(value) => return Outcome::Done(value),
                Err(fault) => fault,
            };
            if !fault.nothing_happened() {
                return Outcome::Unknown(fault.to_error(store));
            }
            if !fault.passes() || tries == TRIES_MAX {
                return Outcome::Failed(fault.to_error(store));
            }
            tries += 1;
        }
    }

    /// Runs `work`, which only reads.
    pub(super) async fn read<A: Sync, T: Send>(
        &self,
        store: &'static str,
        args: &A,
        work: Work<A, T>,
    ) -> Read<T> {
        let deadline = self.deadline();
        let mut tries = 1;
        loop {
            let read = match self.acquire(deadline).await {
                Ok(mut conn) => conn.run(deadline, args, work).await,
                Err(fault) => Err(fault),
            };
            match read {
                Err(fault) if fault.passes() && tries < TRIES_MAX => tries += 1,
                ended => return ended.map_err(|fault| fault.to_error(store)),
            }
        }
    }

    fn deadline(&self) -> Instant {
        self.rt.now().plus(self.call_max)
    }

    async fn transact<A: Sync, T: Send>(
        &self,
        deadline: Instant,
        args: &A,
        work: Work<A, End<T>>,
        sent: &mut bool,
    ) -> Result<T, Fault> {
        let mut conn = self.acquire(deadline).await?;
        let left = deadline.since(self.rt.now());
        let ended = self.rt.timeout(left, transaction(conn.get(), args, work, sent)).await;
        conn.settle(ended.unwrap_or_else(|_| Err(Fault::Late(self.call_max.as_millis()))))
    }

    async fn acquire(&self, deadline: Instant) -> Result<Held, Fault> {
        let config = &self.login.endpoint.config;
        let until = deadline.min(self.rt.now().plus(config.acquire()));
        let left = || until.since(self.rt.now());
        let connects = self.pool.num_idle() == 0 && self.pool.size() < config.connections_max;
        let mut used = if connects { self.log_in(until).await? } else { self.known() };
        for tries in 1.. {
            let full = |_| Err(Error::PoolTimedOut);
            let acquired = self.rt.timeout(left(), self.pool.acquire()).await.unwrap_or_else(full);
            let fault = match acquired.map_err(Fault::from) {
                Ok(conn) => return Ok(Held { conn: Some(conn), whole: false, pg: self.clone() }),
                Err(fault) => fault,
            };
            if !fault.is_login() || tries == TRIES_MAX {
                return Err(fault);
            }
            // It was changed since it was asked for, or an idle connection was dead, and another was
            // made in its place without asking.
            let refused = used;
            used = self.log_in(until).await?;
            if used == refused {
                return Err(fault);
            }
        }
        unreachable!("the loop ends at its last try")
    }

    /// What logged in last, or was refused.
    fn known(&self) -> Secret {
        self.login.known.lock().clone()
    }

    /// Learns what the next connection logs in with. One caller at a time asks, and whoever has waited
    /// for that takes what it learnt.
    async fn log_in(&self, until: Instant) -> Result<Secret, Fault> {
        let begun = self.rt.now();
        let asking = async {
            let mut asked = self.login.asked.lock().await;
            if asked.is_some_and(|at| at >= begun) {
                return Ok(self.known());
            }
            let at = self.rt.now();
            let token = self.login.endpoint.tokens.token().await.map_err(Fault::Login)?;
            let options = PgConnectOptions::clone(&self.pool.connect_options());
            self.pool.set_connect_options(options.password(&token.0));
            *self.login.known.lock() = token.clone();
            *asked = Some(at);
            Ok(token)
        };
        let left = until.since(self.rt.now());
        self.rt.timeout(left, asking).await.unwrap_or_else(|_| Err(Fault::Login(late())))
    }
}

async fn transaction<A: Sync, T>(
    conn: &mut PgConnection,
    args: &A,
    work: Work<A, End<T>>,
    sent: &mut bool,
) -> Result<T, Fault> {
    let mut transaction = conn.begin().await?;
    match work(&mut transaction, args).await? {
        End::Commit(value) => {
            *sent = true;
            transaction.commit().await?;
            Ok(value)
        }
        End::Undo(value) => {
            transaction.rollback().await?;
            Ok(value)
        }
    }
}

/// A connection in use. Goes back to the pool if the call has left it as it was; otherwise, and if
/// the caller went away in the middle, its socket is closed, which ends its transaction.
struct Held {
    conn: Option<PoolConnection<Postgres>>,
    whole: bool,
    pg: Pg,
}

impl Held {
    fn get(&mut self) -> &mut PgConnection {
        self.conn.as_mut().expect("it is taken out only by the drop")
    }

    async fn run<A: Sync, T: Send>(
        &mut self,
        deadline: Instant,
        args: &A,
        work: Work<A, T>,
    ) -> Result<T, Fault> {
        let (rt, call_max) = (self.pg.rt.clone(), self.pg.call_max);
        let left = deadline.since(rt.now());
        let ended = rt.timeout(left, work(self.get(), args)).await;
        self.settle(ended.unwrap_or_else(|_| Err(Fault::Late(call_max.as_millis()))))
    }

    /// Notes whether the connection may be used again.
    fn settle<T>(&mut self, ended: Result<T, Fault>) -> Result<T, Fault> {
        self.whole = ended.as_ref().err().is_none_or(Fault::connection_is_whole);
        ended
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let Some(mut conn) = self.conn.take() else { return };
        if !self.whole {
            // The pool's own way is to ask a connection whether it lives, for as long as that takes.
            drop(conn.detach());
            return;
        }
        let (rt, back) = (self.pg.rt.clone(), conn.return_to_pool());
        let give_back = async move {
            if rt.timeout(RETURN_MAX, back).await.is_err() {
                tracing::warn!("a connection to the database fell silent after its use");
            }
        };
        drop(self.pg.rt.spawn("postgres-return", give_back));
    }
}
