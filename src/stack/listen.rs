//! Listeners: bound before anything else, served when the roles are built, drained at the end.
//!
//! A bound listener queues connections in the kernel, so nobody who was told an address is refused
//! while the roles are still being built.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::StackError;
use crate::{
    adapters::proof::{self, Proof},
    rt::Shutdown,
};

/// A client that has not sent the head of its next request by then is hung up on. Clients that
/// keep connections open must close idle ones earlier than this.
pub const HEADER_READ_MAX: Duration = Duration::from_secs(30);
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
    /// Serves `router` on at most `connections_max` connections at once, and `proof` to whoever asks
    /// who listens here.
    #[must_use]
    pub fn serve(self, router: Router, connections_max: usize, proof: Proof) -> Server {
        let server = Server {
            address: self.address,
            connections: TaskTracker::new(),
            in_work: Arc::new(AtomicUsize::new(0)),
            stop: Shutdown::new(),
            kill: Shutdown::new(),
        };
        let accept = Accept {
            router,
            proof,
            permits: Arc::new(Semaphore::new(connections_max)),
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
    router: Router,
    proof: Proof,
    permits: Arc<Semaphore>,
    connections: TaskTracker,
    in_work: Arc<AtomicUsize>,
    stop: Shutdown,
    kill: Shutdown,
}

impl Accept {
    async fn run(self, listener: TcpListener) {
        while let Some((stream, peer)) = self.next(&listener).await {
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else { return };
            // Answers are small and written whole: waiting to fill a packet only costs time.
            drop(stream.set_nodelay(true));
            let connection = self.connection(stream, peer);
            let kill = self.kill.clone();
            self.connections.spawn(async move {
                kill.run_until_cancelled(connection).await;
                drop(permit);
            });
        }
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
        let (proof, here) = (self.proof.clone(), stream.local_addr().ok());
        let service = service_fn(move |request: Request<Incoming>| {
            let proven = here
                .filter(|_| request.uri().path() == proof::PATH)
                .map(|here| proof.answer(request.uri().query(), here));
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let work = InWork::begin(&in_work);
            let answer = router.clone().oneshot(request);
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
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                biased;
                // A client that hangs up or talks nonsense ends its own connection only.
                _ = connection.as_mut() => return,
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
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn call(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    fn router() -> Router {
        let slow = || async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            "slow"
        };
        let endless = || async {
            let first = futures_util::stream::once(async { Ok::<_, io::Error>("first") });
            let stream = futures_util::StreamExt::chain(first, futures_util::stream::pending());
            Body::from_stream(stream)
        };
        let who = |ConnectInfo(peer): ConnectInfo<SocketAddr>| async move { peer.ip().to_string() };
        Router::new()
            .route("/slow", get(slow))
            .route("/endless", get(endless))
            .route("/who", get(who))
    }

    fn proof() -> Proof {
        Proof::new("the token")
    }

    #[tokio::test]
    async fn a_listener_proves_itself_for_its_own_address_only() {
        let server = server(10).await;
        let here = server.address;
        let mut stream = TcpStream::connect(here).await.unwrap();
        proof().demand(&mut stream, here).await.unwrap();
        let elsewhere = SocketAddr::new(here.ip(), 1);
        assert!(proof().demand(&mut stream, elsewhere).await.is_err());
        let mut stream = TcpStream::connect(here).await.unwrap();
        assert!(Proof::new("guess").demand(&mut stream, here).await.is_err());
        let asked = call(here, proof::PATH).await;
        assert!(asked.starts_with("HTTP/1.1 404"), "{asked}");
    }

    async fn server(connections_max: usize) -> Server {
        bind("127.0.0.1:0".parse().unwrap()).await.unwrap().serve(
            router(),
            connections_max,
            proof(),
        )
    }

    #[tokio::test]
    async fn a_client_that_comes_before_the_roles_are_built_is_served_when_they_are() {
        let bound = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = bound.address;
        let early = tokio::spawn(async move { call(address, "/who").await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        let _server = bound.serve(router(), 10, proof());
        assert!(early.await.unwrap().ends_with("127.0.0.1"));
        assert!(matches!(bind(address).await, Err(StackError::PortInUse(_))));
    }

    #[tokio::test]
    async fn a_drain_lets_a_request_finish_and_cuts_an_endless_stream() {
        let server = server(10).await;
        let address = server.address;
        let slow = tokio::spawn(async move { call(address, "/slow").await });
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /endless HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let started = tokio::time::Instant::now();
        server.drain(Duration::from_secs(5)).await;
        assert!(started.elapsed() < Duration::from_secs(2));
        assert!(slow.await.unwrap().ends_with("slow"));
        let mut rest = String::new();
        // The stream ends, cleanly or not.
        drop(stream.read_to_string(&mut rest).await);
        assert!(rest.contains("first"), "{rest}");
        assert!(TcpStream::connect(address).await.is_err());
    }

    #[tokio::test]
    async fn a_connection_too_many_waits_until_another_ends() {
        let server = server(1).await;
        let address = server.address;
        let first = TcpStream::connect(address).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut second = tokio::spawn(async move { call(address, "/who").await });
        assert!(tokio::time::timeout(Duration::from_millis(60), &mut second).await.is_err());
        drop(first);
        assert!(second.await.unwrap().ends_with("127.0.0.1"));
        server.drain(Duration::ZERO).await;
    }
}
