//! What a listener does with those who come.

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
    Router::new().route("/slow", get(slow)).route("/endless", get(endless)).route("/who", get(who))
}

const BOUNDS: Bounds = Bounds {
    connections_max: 10,
    address_connections_max: 10,
    local_connections_max: 10,
    first_head_max: Duration::from_secs(10),
};

fn proof() -> Proof {
    Proof::new("the token")
}

async fn server(bounds: Bounds) -> Server {
    bind("127.0.0.1:0".parse().unwrap()).await.unwrap().serve(router(), bounds, Some(proof()))
}

/// Waits until the server hangs up.
async fn hung_up(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 16])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn a_client_that_comes_before_the_roles_are_built_is_served_when_they_are() {
    let bound = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = bound.address;
    let early = tokio::spawn(async move { call(address, "/who").await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let _server = bound.serve(router(), BOUNDS, None);
    assert!(early.await.unwrap().ends_with("127.0.0.1"));
    assert!(matches!(bind(address).await, Err(StackError::PortInUse(_))));
}

#[tokio::test]
async fn a_drain_lets_a_request_finish_and_cuts_an_endless_stream() {
    let server = server(BOUNDS).await;
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
    let server = server(Bounds { connections_max: 1, ..BOUNDS }).await;
    let address = server.address;
    let first = TcpStream::connect(address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let mut second = tokio::spawn(async move { call(address, "/who").await });
    assert!(tokio::time::timeout(Duration::from_millis(60), &mut second).await.is_err());
    drop(first);
    assert!(second.await.unwrap().ends_with("127.0.0.1"));
    server.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn an_address_that_holds_all_its_connections_is_hung_up_on_until_it_ends_one() {
    let server = server(Bounds { local_connections_max: 2, ..BOUNDS }).await;
    let address = server.address;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 512]).await.unwrap() > 0, "it is served");
        held.push(stream);
    }
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(hung_up(&mut third).await);
    drop(held.pop());
    let answered = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = b"GET /who HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            let mut answer = String::new();
            // The end of the other connection may not have been seen yet.
            if stream.write_all(request).await.is_ok()
                && stream.read_to_string(&mut answer).await.is_ok()
                && answer.ends_with("127.0.0.1")
            {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(5), answered).await.expect("a place is free");
    server.drain(Duration::ZERO).await;
}

#[test]
fn this_machine_and_others_have_bounds_of_their_own() {
    let bounds = Bounds { address_connections_max: 1, local_connections_max: 2, ..BOUNDS };
    let of = |address: &str| bounds.of_address(address.parse().unwrap());
    assert_eq!(["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"].map(of), [2; 4]);
    assert_eq!(["203.0.113.7", "2001:db8::1", "::ffff:203.0.113.7"].map(of), [1; 3]);
    let (stop, router) = (Shutdown::new(), Router::new());
    let accept = Accept {
        router: router.into(),
        bounds,
        proof: None,
        permits: Arc::new(Semaphore::new(1)),
        addresses: Places::default(),
        connections: TaskTracker::new(),
        in_work: Arc::default(),
        kill: stop.clone(),
        stop,
    };
    let admit = |address: &str| accept.admit(address.parse().unwrap());
    let _held = admit("2001:db8:1:2::1").expect("the first of its network");
    assert!(admit("2001:db8:1:2:ffff::9").is_none(), "the same network");
    assert!(admit("2001:db8:1:3::1").is_some(), "another network");
}

#[tokio::test]
async fn a_new_connection_that_sends_no_whole_head_is_hung_up_on() {
    let bounds = Bounds { first_head_max: Duration::from_millis(50), ..BOUNDS };
    let server = server(bounds).await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /who HTTP/1.1\r\nhost:").await.unwrap();
    let mut busy = TcpStream::connect(server.address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(hung_up(&mut silent).await);
    assert!(hung_up(&mut slow).await);
    // One that has sent a head may take longer, and may stay.
    for _ in 0..2 {
        let mut answer = [0; 512];
        let size = busy.read(&mut answer).await.unwrap();
        assert!(answer[..size].ends_with(b"slow"));
        busy.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    }
    server.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn a_listener_proves_itself_for_its_own_address_only() {
    let server = server(BOUNDS).await;
    let here = server.address;
    let mut stream = TcpStream::connect(here).await.unwrap();
    proof().demand(&mut stream, here, None).await.unwrap();
    let elsewhere = SocketAddr::new(here.ip(), 1);
    assert!(proof().demand(&mut stream, elsewhere, None).await.is_err());
    let mut stream = TcpStream::connect(here).await.unwrap();
    assert!(Proof::new("guess").demand(&mut stream, here, None).await.is_err());
    let asked = call(here, proof::PATH).await;
    assert!(asked.starts_with("HTTP/1.1 404"), "{asked}");
}
