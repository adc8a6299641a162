//! Listeners: bound before anything else, served when the roles are built, drained at the end.
//!
//! A bound listener queues connections in the kernel, so nobody who was told an address is refused
//! while the roles are still being built.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::StackError;
use crate::{
    adapters::proof::{self, Proof},
    config::Up,
    rt::Shutdown,
    services::kit::{
        limits::counted_as,
        places::{Place, Places},
    },
};

/// A client that has not sent the head of its next request by then is hung up on. Clients that
/// keep connections open must close idle ones earlier than this.
pub const HEADER_READ_MAX: Duration = Duration::from_secs(30);
/// A new connection on which no whole head of a request has come by then is hung up on: longer than
/// a slow network needs, and than browsers keep a spare connection for nothing.
const FIRST_HEAD_MAX: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Pause after a failed accept, which is nearly always a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// After the last request in work has its answer, connections get this long to carry it out.
/// Streams, which never end by themselves, end then.
const FLUSH: Duration = Duration::from_millis(250);

/// A listener that is bound and does not accept yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    /// Where it listens; with the port that the system chose if any was asked for.
    pub address: SocketAddr,
}

/// What a listener holds at once, and how long it waits for a new connection to say something.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Open connections; further ones wait to be accepted.
    pub connections_max: usize,
    /// Open connections of one address, or of one /64; further ones are hung up on.
    pub address_connections_max: usize,
    /// The same for this machine.
    pub local_connections_max: usize,
    /// The first request's head must be there by then.
    pub first_head_max: Duration,
}

impl Bounds {
    /// The bounds that are configured.
    #[must_use]
    pub fn of(up: &Up) -> Self {
        let size = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        Self {
            connections_max: size(up.connections_max),
            address_connections_max: size(up.address_connections_max),
            local_connections_max: size(up.local_connections_max),
            first_head_max: FIRST_HEAD_MAX,
        }
    }

    fn of_address(&self, address: IpAddr) -> usize {
        if address.to_canonical().is_loopback() {
            self.local_connections_max
        } else {
            self.address_connections_max
        }
    }
}

/// Binds `address`.
///
/// # Errors
/// [`StackError::PortInUse`], or [`StackError::Listen`].
pub async fn bind(address: SocketAddr) -> Result<Bound, StackError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok(Bound { listener, address })
    };
    bound.await.map_err(|source: io::Error| match source.kind() {
        io::ErrorKind::AddrInUse => StackError::PortInUse(address),
        _ => StackError::Listen { address, source },
    })
}

/// What a listener serves: a router, or one until another takes its place for good.
#[derive(Clone, Debug)]
pub struct Late {
    first: Router,
    then: Arc<OnceLock<Router>>,
}

impl Late {
    /// `first`, until there is more.
    #[must_use]
    pub fn new(first: Router) -> Self {
        Self { first, then: Arc::default() }
    }

    /// From now on `router`. It can be said once.
    pub fn set(&self, router: Router) {
        drop(self.then.set(router));
    }

    fn now(&self) -> Router {
        self.then.get().unwrap_or(&self.first).clone()
    }
}

impl From<Router> for Late {
    fn from(router: Router) -> Self {
        Self::new(router)
    }
}

/// A listener that serves a router.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    connections: TaskTracker,
    in_work: Arc<AtomicUsize>,
    stop: Shutdown,
    kill: Shutdown,
}

impl Bound {
    /// Serves `router` within `bounds`, and `proof` to whoever asks who listens here; none where no
    /// role calls.
    #[must_use]
    pub fn serve(self, router: impl Into<Late>, bounds: Bounds, proof: Option<Proof>) -> Server {
        let server = Server {
            address: self.address,
            connections: TaskTracker::new(),
            in_work: Arc::new(AtomicUsize::new(0)),
            stop: Shutdown::new(),
            kill: Shutdown::new(),
        };
        let accept = Accept {
            router: router.into(),
            bounds,
            proof,
            permits: Arc::new(Semaphore::new(bounds.connections_max)),
            addresses: Places::default(),
            connections: server.connections.clone(),
            in_work: Arc::clone(&server.in_work),
            stop: server.stop.clone(),
            kill: server.kill.clone(),
        };
        server.connections.spawn(accept.run(self.listener));
        server
    }
}

impl Server {
    /// Stops accepting, lets requests in work finish for at most `limit`, and hangs up.
    pub async fn drain(self, limit: Duration) {
        self.stop.cancel();
        self.connections.close();
        let idle = async {
            while self.in_work.load(Ordering::Acquire) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        // Whatever is still in work after the limit is cut off; that is what the limit means.
        drop(tokio::time::timeout(limit, idle).await);
        drop(tokio::time::timeout(FLUSH, self.connections.wait()).await);
        self.kill.cancel();
        self.connections.wait().await;
    }
}

struct Accept {
    router: Late,
    bounds: Bounds,
    proof: Option<Proof>,
    permits: Arc<Semaphore>,
    addresses: Places<IpAddr>,
    connections: TaskTracker,
    in_work: Arc<AtomicUsize>,
    stop: Shutdown,
    kill: Shutdown,
}

impl Accept {
    async fn run(self, listener: TcpListener) {
        while let Some((stream, peer)) = self.next(&listener).await {
            let Some(place) = self.admit(peer.ip()) else {
                tracing::debug!(address = %peer.ip(), "too many connections of one address");
                continue;
            };
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            // Answers are small and written whole: waiting to fill a packet only costs time.
            drop(stream.set_nodelay(true));
            let connection = self.connection(stream, peer);
            let kill = self.kill.clone();
            self.connections.spawn(async move {
                kill.run_until_cancelled(connection).await;
                drop((permit, place));
            });
        }
    }

    fn admit(&self, address: IpAddr) -> Option<Place<IpAddr>> {
        self.addresses.take(counted_as(address), self.bounds.of_address(address))
    }

    /// The next connection, once there is room for it; `None` when the listener stops.
    async fn next(&self, listener: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
        let accept = async {
            loop {
                // Held for an instant: the loop waits here, and the kernel queues, while all are taken.
                drop(self.permits.acquire().await);
                match listener.accept().await {
                    Ok(accepted) => return accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        self.stop.run_until_cancelled(accept).await
    }

    fn connection(&self, stream: TcpStream, peer: SocketAddr) -> impl Future<Output = ()> + use<> {
        let router = self.router.clone();
        let in_work = Arc::clone(&self.in_work);
        let stop = self.stop.clone();
        let first_head_max = self.bounds.first_head_max;
        let begun = Arc::new(Notify::new());
        let heard = Arc::clone(&begun);
        let (proof, here) = (self.proof.clone(), stream.local_addr().ok());
        let service = service_fn(move |request: Request<Incoming>| {
            let asked = here.zip(proof.as_ref()).filter(|_| request.uri().path() == proof::PATH);
            let proven = asked.map(|(here, proof)| proof.answer(request.uri().query(), here));
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            heard.notify_one();
            let work = InWork::begin(&in_work);
            let answer = router.now().oneshot(request);
            async move {
                let answer = match proven {
                    Some(proven) => Ok(proven),
                    None => answer.await,
                };
                drop(work);
                answer
            }
        });
        async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ_MAX)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            let mut connection = pin!(connection);
            let silent = async {
                if tokio::time::timeout(first_head_max, begun.notified()).await.is_ok() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                // A client that hangs up or talks nonsense ends its own connection only.
                _ = connection.as_mut() => return,
                () = silent => return,
                () = stop.cancelled() => {}
            }
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
}

/// Counts a request that has no answer yet.
struct InWork(Arc<AtomicUsize>);

impl InWork {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
