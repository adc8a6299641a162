//! One server: its connections, and pipelines over them.
//!
//! Reads share connections. A write that replicas must have holds a connection of its own until they
//! do: `WAIT` stops everything behind it, and covers only what was written before it on the same
//! connection. Before it goes the fence, a write that always happens: a script that found nothing to
//! do wrote nothing, and `WAIT` would then not wait for what it had seen.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, TlsCertificates, Value, aio::MultiplexedConnection, io::tcp::TcpSettings,
};
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use super::{
    super::endpoint::Endpoint,
    fault::{Answer, Fault, answer, connection},
    scripts::SCRIPTS,
    slots::tag_of,
};
use crate::{
    config,
    ports::Kind,
    rt::{Instant, Rt},
};

/// Commands of one pipeline: 0.1 ms of the server's time each at most, so that reads of others wait
/// for some milliseconds, not more.
pub(super) const PIPELINE_MAX: usize = 512;
/// Requests that may queue for one connection before callers wait for room.
const QUEUE_MAX: usize = 256;
/// After a connection could not be made, callers are refused at once for so long.
const REFUSED_FOR: Duration = Duration::from_millis(100);
/// A fence is worth nothing once its `WAIT` has ended.
const FENCE_TTL_MS: u64 = 1_000;

/// One command, and the key that says where it goes.
pub(super) struct Call {
    pub(super) key: String,
    pub(super) cmd: Cmd,
    /// Running it twice is as good as once: it may be sent again when a connection breaks.
    pub(super) again: bool,
}

impl Call {
    pub(super) const fn new(key: String, cmd: Cmd) -> Self {
        Self { key, cmd, again: true }
    }

    /// A second run would answer otherwise.
    pub(super) const fn once(key: String, cmd: Cmd) -> Self {
        Self { key, cmd, again: false }
    }
}

/// What commands are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Read,
    Write,
}

#[derive(Default)]
struct State {
    open: Option<MultiplexedConnection>,
    /// Counts the connections of this lane, so that only the one that broke is dropped.
    made: u64,
    refused: Option<(Instant, Fault)>,
}

#[derive(Default)]
struct Lane {
    turn: Mutex<()>,
    state: Mutex<State>,
}

struct Lanes {
    lanes: Vec<Lane>,
    next: AtomicUsize,
}

impl Lanes {
    fn new(count: u64) -> Self {
        Self { lanes: (0..count).map(|_| Lane::default()).collect(), next: AtomicUsize::new(0) }
    }

    fn any(&self) -> &Lane {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.lanes[next % self.lanes.len()]
    }

    /// A lane that nobody else holds.
    async fn own(&self) -> (&Lane, MutexGuard<'_, ()>) {
        let free = self.lanes.iter().find_map(|lane| Some((lane, lane.turn.try_lock().ok()?)));
        if let Some(own) = free {
            return own;
        }
        let lane = self.any();
        (lane, lane.turn.lock().await)
    }
}

/// One server.
pub(super) struct Node {
    pub(super) address: String,
    rt: Rt,
    config: Arc<config::Redis>,
    door: Arc<Door>,
    reads: Lanes,
    writes: Lanes,
}

/// How connections are made.
pub(super) struct Door {
    rt: Rt,
    endpoint: Endpoint<config::Redis>,
    /// What the file of authorities holds, once it could be read.
    authorities: OnceCell<Vec<u8>>,
}

impl Door {
    pub(super) fn new(rt: &Rt, endpoint: Endpoint<config::Redis>) -> Self {
        Self { rt: rt.clone(), endpoint, authorities: OnceCell::new() }
    }

    pub(super) fn config(&self) -> &Arc<config::Redis> {
        &self.endpoint.config
    }

    /// Leads to the server at `address`, with what logs in now. The caller bounds the time.
    pub(super) async fn client(&self, address: &str) -> Result<Client, Fault> {
        let refused = |text: String| Fault::refused(Kind::Unavailable, text);
        let Endpoint { config, tokens } = &self.endpoint;
        let Some((host, port)) = config::host_port(address) else {
            return Err(refused(format!("`{address}` is not `host:port`")));
        };
        let token = tokens.token().await.map_err(|e| Fault::refused(e.kind, e.message))?;
        let host = host.to_owned();
        let addr = if config.tls {
            ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
        if !config.username.is_empty() {
            login = login.set_username(&config.username);
        }
        if !token.0.is_empty() {
            login = login.set_password(&token.0);
        }
        let tcp = TcpSettings::default().set_nodelay(true);
        let failed = |error| refused(format!("{address}: {}", connection(&error)));
        let info = addr.into_connection_info().map_err(failed)?;
        let info = info.set_tcp_settings(tcp).set_redis_settings(login);
        let made = if config.tls && !config.ca_file.is_empty() {
            let root_cert = Some(self.authorities().await?.clone());
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert })
        } else {
            Client::open(info)
        };
        made.map_err(failed)
    }

    async fn authorities(&self) -> Result<&Vec<u8>, Fault> {
        let file = &self.endpoint.config.ca_file;
        let read = async || {
            let path = file.clone();
            let read = self.rt.blocking(move || std::fs::read(path)).await;
            read.unwrap_or_else(|| Err(std::io::Error::other("a panic")))
        };
        let refused =
            |error| Fault::refused(Kind::Unavailable, format!("cannot read `{file}`: {error}"));
        self.authorities.get_or_try_init(read).await.map_err(refused)
    }
}

impl Node {
    pub(super) fn new(rt: &Rt, door: &Arc<Door>, address: &str) -> Self {
        let config = Arc::clone(door.config());
        Self {
            address: address.to_owned(),
            rt: rt.clone(),
            door: Arc::clone(door),
            reads: Lanes::new(config.read_connections),
            writes: Lanes::new(config.write_connections),
            config,
        }
    }

    /// Sends commands in pipelines and gives an answer for each, in order. `asking`: the slot is just
    /// moving here.
    pub(super) async fn send(
        &self,
        purpose: Purpose,
        calls: &[&Call],
        asking: bool,
    ) -> Vec<Answer> {
        let every = |answer: &dyn Fn() -> Answer| calls.iter().map(|_| answer()).collect();
        let waits = purpose == Purpose::Write && self.config.wait_replicas > 0;
        let (lane, _turn) = match purpose {
            Purpose::Read => (self.reads.any(), None),
            Purpose::Write if !waits => (self.writes.any(), None),
            Purpose::Write => {
                let own = self.rt.timeout(self.config.write_timeout(), self.writes.own()).await;
                let Ok((lane, turn)) = own else {
                    let busy = Fault::refused(Kind::Timeout, "no connection was free in time");
                    return every(&|| Answer::Fault(busy.clone()));
                };
                (lane, Some(turn))
            }
        };
        let (made, mut open) = match self.open(lane).await {
            Ok(open) => open,
            // Whoever has waited once for a server that does not answer does not wait again.
            Err(fault) if fault.kind == Kind::Timeout => {
                return every(&|| Answer::Fault(fault.clone()));
            }
            Err(fault) => return every(&|| Answer::Broken(fault.clone())),
        };
        let mut answers = Vec::with_capacity(calls.len());
        let mut broke = None;
        for chunk in calls.chunks(PIPELINE_MAX) {
            match self.pipeline(&mut open, purpose, chunk, asking).await {
                Ok(found) => answers.extend(found),
                Err(fault) => {
                    answers.extend(chunk.iter().map(|_| lost(&fault)));
                    broke = Some(fault);
                    break;
                }
            }
        }
        let unsent = || Answer::Fault(Fault::refused(Kind::Unavailable, "not sent any more"));
        answers.extend((answers.len()..calls.len()).map(|_| unsent()));
        if waits && let Some(at) = answers.iter().position(Answer::is_done) {
            let confirmed = match &broke {
                Some(fault) => Err(fault.clone()),
                None => self.confirm(&mut open, &calls[at].key, asking).await,
            };
            if let Err(fault) = confirmed {
                let done = answers.iter_mut().filter(|answer| answer.is_done());
                done.for_each(|answer| *answer = Answer::Fault(fault.clone()));
                broke.get_or_insert(fault);
            }
        }
        if broke.is_some() || !self.mend(&mut open, &answers).await {
            self.drop_lane(lane, made).await;
        }
        answers
    }

    /// One pipeline: an answer for each command, or what happened to the connection.
    async fn pipeline(
        &self,
        open: &mut MultiplexedConnection,
        purpose: Purpose,
        calls: &[&Call],
        asking: bool,
    ) -> Result<impl Iterator<Item = Answer> + use<>, Fault> {
        let mut pipe = Pipeline::with_capacity(calls.len() * 2);
        for call in calls {
            if asking {
                pipe.cmd("ASKING");
            }
            pipe.add_command(call.cmd.clone());
        }
        let limit = match purpose {
            Purpose::Read => self.config.read_timeout(),
            Purpose::Write => self.config.write_timeout(),
        };
        let values = self.exchange(open, &pipe, limit).await?;
        let asked = usize::from(asking);
        Ok(values.into_iter().skip(asked).step_by(1 + asked).map(answer))
    }

    async fn exchange(
        &self,
        open: &mut MultiplexedConnection,
        pipe: &Pipeline,
        limit: Duration,
    ) -> Result<Vec<Value>, Fault> {
        let sent = open.send_packed_commands(pipe, 0, pipe.len());
        match self.rt.timeout(limit, sent).await {
            Ok(Ok(values)) if values.len() == pipe.len() => Ok(values),
            Ok(Ok(_)) => Err(Fault::unknown(Kind::Corrupt, "answers are missing")),
            Ok(Err(error)) => Err(Fault::unknown(Kind::Unavailable, connection(&error))),
            Err(_) => {
                let text = format!("{} did not answer in {} ms", self.address, limit.as_millis());
                Err(Fault::unknown(Kind::Timeout, text))
            }
        }
    }

    /// Waits until replicas have what was done on this connection. The fence lies in the slot of
    /// `key`, which a command just found here, so that it is not sent elsewhere.
    async fn confirm(
        &self,
        open: &mut MultiplexedConnection,
        key: &str,
        asking: bool,
    ) -> Result<(), Fault> {
        let mut pipe = Pipeline::new();
        if asking {
            pipe.cmd("ASKING");
        }
        let fence = format!("{}:fence:{{{}}}", self.config.namespace, tag_of(key));
        pipe.cmd("SET").arg(fence).arg(1).arg("PX").arg(FENCE_TTL_MS);
        let replicas = self.config.wait_replicas;
        pipe.cmd("WAIT").arg(replicas).arg(self.config.wait_timeout_ms);
        let limit = self.config.write_timeout() + self.config.wait_timeout();
        match self.exchange(open, &pipe, limit).await?.as_slice() {
            [.., Value::Okay, Value::Int(have)] if *have >= replicas.cast_signed() => Ok(()),
            found => {
                let text = format!("not confirmed by {replicas} replicas: {:?}", found.last());
                Err(Fault::unknown(Kind::Timeout, text))
            }
        }
    }

    /// Loads the scripts if the server did not know them; `false` if the connection is of no use.
    async fn mend(&self, open: &mut MultiplexedConnection, answers: &[Answer]) -> bool {
        if answers.iter().any(|answer| matches!(answer, Answer::Broken(_))) {
            return false;
        }
        if !answers.iter().any(|answer| matches!(answer, Answer::NoScript)) {
            return true;
        }
        let mut pipe = Pipeline::new();
        for script in SCRIPTS.all() {
            pipe.add_command(script.load());
        }
        self.exchange(open, &pipe, self.config.write_timeout()).await.is_ok()
    }

    async fn open(&self, lane: &Lane) -> Result<(u64, MultiplexedConnection), Fault> {
        let mut state = lane.state.lock().await;
        if let Some(open) = &state.open {
            return Ok((state.made, open.clone()));
        }
        if let Some((until, fault)) = &state.refused
            && self.rt.now() < *until
        {
            return Err(fault.clone());
        }
        let fault = match self.rt.timeout(self.config.connect_timeout(), self.connect()).await {
            Ok(Ok(open)) => {
                state.made += 1;
                state.refused = None;
                return Ok((state.made, state.open.insert(open).clone()));
            }
            Ok(Err(fault)) => fault,
            Err(_) => {
                let text = format!("{} could not be reached in time", self.address);
                Fault::refused(Kind::Timeout, text)
            }
        };
        state.refused = Some((self.rt.now().plus(REFUSED_FOR), fault.clone()));
        Err(fault)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, Fault> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None)
            .set_pipeline_buffer_size(QUEUE_MAX);
        let client = self.door.client(&self.address).await?;
        let connected = client.get_multiplexed_async_connection_with_config(&config).await;
        connected.map_err(|error| {
            let text = format!("{}: {}", self.address, connection(&error));
            Fault::refused(Kind::Unavailable, text)
        })
    }

    /// Drops a connection, so that the next caller makes another.
    async fn drop_lane(&self, lane: &Lane, made: u64) {
        let mut state = lane.state.lock().await;
        if state.made == made {
            state.open = None;
        }
    }
}

/// What a lost connection means for a command that was sent over it: whoever has waited for an answer
/// once does not wait again.
fn lost(fault: &Fault) -> Answer {
    match fault.kind {
        Kind::Unavailable => Answer::Broken(fault.clone()),
        Kind::Timeout | Kind::Full | Kind::Corrupt => Answer::Fault(fault.clone()),
    }
}
