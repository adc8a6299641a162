//! Scenarios of calls between roles.

use axum::routing::{get, post};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{adapters::proof, rt::tokio_rt::TokioRuntime};

fn proof() -> Proof {
    Proof::new("the token")
}

/// A listener of this system.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    let answer = move |uri: Uri| async move { proof().answer(uri.query(), here) };
    let router = router.route(proof::PATH, get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    here
}

/// A listener of somebody else's, which passes on all that it hears to a role, if there is one,
/// and keeps it too.
async fn stranger(role: Option<SocketAddr>) -> (SocketAddr, Arc<Mutex<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&heard);
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let keep = Arc::clone(&keep);
            tokio::spawn(async move {
                let mut bytes = vec![0; 4_096];
                while let Ok(count @ 1..) = caller.read(&mut bytes).await {
                    keep.lock().extend_from_slice(&bytes[..count]);
                    let Some(role) = role else {
                        let ok = b"HTTP/1.1 204 No Content\r\nx-chirp-proof: 00\r\n\r\n";
                        caller.write_all(ok).await.unwrap();
                        continue;
                    };
                    let mut role = TcpStream::connect(role).await.unwrap();
                    role.write_all(&bytes[..count]).await.unwrap();
                    let count = role.read(&mut bytes).await.unwrap();
                    caller.write_all(&bytes[..count]).await.unwrap();
                }
            });
        }
    });
    (address, heard)
}

#[tokio::test]
async fn a_stranger_at_the_port_of_a_role_hears_nothing() {
    let role = serve(echo("public")).await;
    for relay in [None, Some(role)] {
        let (address, heard) = stranger(relay).await;
        let peers = peers();
        peers.set_remote(Role::User, address, address);
        for door in [Door::Public, Door::Internal] {
            let mut secret = request("/echo");
            secret.headers_mut().insert("x-chirp-service-token", "the token".parse().unwrap());
            let answer = peers.call(Role::User, 0, door, secret).await;
            assert!(matches!(answer, Outcome::Failed(_)), "{answer:?}");
        }
        peers.check_health().await;
        assert!(!peers.healthy(Role::User, 0));
        let heard = String::from_utf8(heard.lock().clone()).unwrap();
        assert!(heard.contains(proof::PATH), "{heard}");
        assert!(!heard.contains("the token") && !heard.contains("hello"), "{heard}");
    }
    // At its own address the role is believed; with another token it is a stranger, too.
    for (token, trusted) in [("the token", true), ("another", false)] {
        let peers = Peers::new(TokioRuntime::handle(), Proof::new(token));
        peers.set_remote(Role::User, role, role);
        let answer = peers.call(Role::User, 0, Door::Public, request("/echo")).await;
        assert_eq!(answer.is_done(), trusted, "{answer:?}");
    }
}

/// An address where nobody listens.
async fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

fn peers() -> Arc<Peers> {
    Peers::new(TokioRuntime::handle(), proof())
}

fn request(path: &str) -> Request<Body> {
    Request::post(path).body(Body::from("hello")).unwrap()
}

async fn text(answer: Outcome<Response<Body>>) -> String {
    let body = answer.done().unwrap().into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

/// Answers with the door's name, the query and the body.
fn echo(door: &'static str) -> Router {
    let answer = move |uri: Uri, body: String| async move {
        format!("{door} {} {body}", uri.query().unwrap_or_default())
    };
    Router::new().route("/echo", post(answer))
}

#[tokio::test]
async fn a_call_reaches_the_replica_and_the_door_it_names_here_and_elsewhere() {
    let peers = peers();
    peers.add_local(Role::Tweet, echo("near public"), echo("near internal"));
    let (public, internal) = (serve(echo("far public")).await, serve(echo("far internal")).await);
    peers.set_remote(Role::User, public, internal);
    assert_eq!([Role::Tweet, Role::User, Role::Timeline].map(|r| peers.replicas(r)), [1, 1, 0]);
    for (role, place) in [(Role::Tweet, "near"), (Role::User, "far")] {
        for (door, name) in [(Door::Public, "public"), (Door::Internal, "internal")] {
            let answer = peers.call(role, 0, door, request("/echo?a=1")).await;
            assert_eq!(text(answer).await, format!("{place} {name} a=1 hello"));
        }
    }
}

#[tokio::test]
async fn what_was_never_sent_has_failed_and_marks_the_replica() {
    let peers = peers();
    let none = peers.call(Role::User, 0, Door::Public, request("/")).await;
    assert!(matches!(none, Outcome::Failed(_)), "{none:?}");
    assert!(!peers.healthy(Role::User, 0));
    let address = nowhere().await;
    peers.set_remote(Role::User, address, address);
    assert!(peers.healthy(Role::User, 0));
    let refused = peers.call(Role::User, 0, Door::Public, request("/")).await;
    assert!(matches!(refused, Outcome::Failed(_)), "{refused:?}");
    assert!(!peers.healthy(Role::User, 0));
}

#[tokio::test]
async fn what_was_sent_and_not_answered_is_unknown() {
    // Hangs up instead of answering.
    async fn hang_up() {
        panic!("as a process that dies");
    }
    let address = serve(Router::new().route("/", post(hang_up))).await;
    let peers = peers();
    peers.set_remote(Role::User, address, address);
    let answer = peers.call(Role::User, 0, Door::Public, request("/")).await;
    assert!(matches!(answer, Outcome::Unknown(_)), "{answer:?}");
}

#[tokio::test]
async fn health_follows_readyz_both_ways() {
    let ready = Arc::new(AtomicBool::new(false));
    let shared = Arc::clone(&ready);
    let answer = move || async move {
        if shared.load(Ordering::SeqCst) { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
    };
    let address = serve(Router::new().route(READYZ, get(answer))).await;
    let peers = peers();
    peers.set_remote(Role::Timeline, nowhere().await, address);
    for now in [false, true, false] {
        ready.store(now, Ordering::SeqCst);
        peers.check_health().await;
        assert_eq!(peers.healthy(Role::Timeline, 0), now);
    }
}

#[tokio::test]
async fn the_watch_ends_with_the_shutdown() {
    let shutdown = Shutdown::new();
    let watch = tokio::spawn(peers().watch_health(shutdown.clone()));
    shutdown.cancel();
    tokio::time::timeout(Duration::from_secs(5), watch).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stream_passes_through_as_it_is_written() {
    // The second piece never comes: a buffering client would wait for it for ever.
    let pieces = || async {
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"one"))]);
        Body::from_stream(first.chain(stream::pending()))
    };
    let address = serve(Router::new().route("/stream", get(pieces))).await;
    let peers = peers();
    peers.set_remote(Role::Timeline, address, address);
    let request = Request::get("/stream").body(Body::empty()).unwrap();
    let answer = peers.call(Role::Timeline, 0, Door::Public, request).await.done().unwrap();
    let mut body = answer.into_body().into_data_stream();
    let first = tokio::time::timeout(Duration::from_secs(5), body.next()).await.unwrap();
    assert_eq!(first.unwrap().unwrap(), Bytes::from_static(b"one"));
}

fn remote(address: SocketAddr, host: Option<&str>) -> Remote {
    Remote { public: address, internal: address, host: host.map(str::to_owned) }
}

#[tokio::test]
async fn a_replica_that_has_not_begun_is_no_answer_and_is_left_alone() {
    let not_begun = || async { (StatusCode::SERVICE_UNAVAILABLE, [(NOT_BEGUN, "1")]) };
    let address = serve(Router::new().fallback(not_begun)).await;
    let peers = peers();
    peers.set_remote(Role::User, address, address);
    let answer = peers.call(Role::User, 0, Door::Public, request("/")).await;
    assert!(matches!(answer, Outcome::Failed(_)), "it may be sent elsewhere: {answer:?}");
    assert!(!peers.healthy(Role::User, 0));
}

#[tokio::test]
async fn replicas_come_and_go_and_who_stays_keeps_its_place_and_its_health() {
    let ready = || async { StatusCode::OK };
    let one = serve(Router::new().route(READYZ, get(ready))).await;
    let other = serve(Router::new().route(READYZ, get(ready))).await;
    let peers = peers();
    peers.set_remotes(Role::User, &[remote(one, None)]);
    assert!(!peers.healthy(Role::User, 0), "it has not been asked yet");
    peers.check_health().await;
    assert!(peers.healthy(Role::User, 0));
    peers.set_remotes(Role::User, &[remote(other, None), remote(one, None)]);
    assert_eq!(peers.internal_addresses(Role::User), [one, other]);
    assert!(peers.healthy(Role::User, 0) && !peers.healthy(Role::User, 1));
    peers.set_remotes(Role::User, &[remote(other, None)]);
    assert_eq!(peers.internal_addresses(Role::User), [other]);
    peers.set_remotes(Role::User, &[]);
    assert_eq!(peers.replicas(Role::User), 0);
}

/// Passes connections on, as a virtual address does.
async fn forwards(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut caller, _)) = listener.accept().await {
            let mut role = TcpStream::connect(to).await.unwrap();
            tokio::spawn(async move {
                drop(tokio::io::copy_bidirectional(&mut caller, &mut role).await);
            });
        }
    });
    address
}

#[tokio::test]
async fn behind_another_address_a_role_is_believed_only_under_a_name_that_it_advertises() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    let before = forwards(here).await;
    let name = format!("user.chirp:{}", before.port());
    let proving = proof().of_names([name.as_str()].into_iter());
    let answer = move |uri: Uri| {
        let proving = proving.clone();
        async move { proving.answer(uri.query(), here) }
    };
    let router = echo("public").route(proof::PATH, get(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    let peers = peers();
    for (host, believed) in
        [(None, false), (Some("tweet.chirp"), false), (Some("user.chirp"), true)]
    {
        peers.set_remotes(Role::User, &[remote(before, host)]);
        let answer = peers.call(Role::User, 0, Door::Public, request("/echo")).await;
        assert_eq!(answer.is_done(), believed, "{host:?}: {answer:?}");
    }
}
