//! The fault proxy itself, before a server that gives back what it is told.

use std::time::{Duration, Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};

use crate::support::{
    proxy::{Proxy, Rule},
    run::{Alone, Scenario, scenarios},
};

pub const SCENARIOS: &[Scenario<Alone>] = scenarios![
    what_passes_is_what_was_said,
    a_delay_holds_each_way_and_keeps_the_order,
    a_delay_is_not_paid_again_by_what_follows_at_once,
    who_is_refused_finds_the_connection_closed,
    what_was_said_to_a_frozen_connection_passes_when_it_thaws,
    a_half_open_connection_never_speaks_again_and_a_new_one_does,
    no_end_of_a_half_open_connection_hears_that_the_other_has_closed,
    what_is_cut_before_never_arrives_and_what_is_cut_after_does,
    what_is_held_arrives_later_though_its_client_has_gone,
];

/// Silence of so long counts as silence.
const SILENCE: Duration = Duration::from_millis(150);
/// The longest that anything may take that has to come.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the server saw.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Said(Vec<u8>),
    Closed,
}

struct Echo {
    port: u16,
    seen: mpsc::UnboundedReceiver<Seen>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, seen) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let mut buffer = [0; 1_024];
                    while let Ok(read @ 1..) = client.read(&mut buffer).await {
                        drop(tell.send(Seen::Said(buffer[..read].to_vec())));
                        drop(client.write_all(&buffer[..read]).await);
                    }
                    drop(tell.send(Seen::Closed));
                });
            }
        });
        Self { port, seen }
    }

    async fn sees(&mut self) -> Seen {
        timeout(PATIENCE, self.seen.recv()).await.expect("the server is told").unwrap()
    }

    async fn sees_nothing(&mut self) {
        let seen = timeout(SILENCE, self.seen.recv()).await;
        assert!(seen.is_err(), "{seen:?}");
    }
}

async fn connect(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port)).await.unwrap()
}

/// What is heard next; empty: the connection was closed.
async fn hears(client: &mut TcpStream) -> Vec<u8> {
    let mut buffer = [0; 1_024];
    let read = timeout(PATIENCE, client.read(&mut buffer)).await.expect("something is heard");
    buffer[..read.unwrap_or(0)].to_vec()
}

async fn hears_nothing(client: &mut TcpStream) {
    let mut buffer = [0; 1_024];
    let read = timeout(SILENCE, client.read(&mut buffer)).await;
    assert!(read.is_err(), "{read:?}");
}

async fn says(client: &mut TcpStream, what: &[u8]) {
    client.write_all(what).await.unwrap();
}

async fn what_passes_is_what_was_said(_: Alone) {
    let mut echo = Echo::start().await;
    let proxy = Proxy::before(echo.port);
    let mut client = connect(&proxy).await;
    says(&mut client, b"hello").await;
    assert_eq!(hears(&mut client).await, b"hello");
    assert_eq!(echo.sees().await, Seen::Said(b"hello".to_vec()));
    drop(client);
    assert_eq!(echo.sees().await, Seen::Closed);
}

async fn a_delay_holds_each_way_and_keeps_the_order(_: Alone) {
    const DELAY: Duration = Duration::from_millis(100);
    let echo = Echo::start().await;
    let proxy = Proxy::before(echo.port);
    let mut client = connect(&proxy).await;
    proxy.set(Rule::Delay(DELAY));
    let began = Instant::now();
    says(&mut client, b"slow").await;
    assert_eq!(hears(&mut client).await, b"slow");
    assert!(began.elapsed() >= 2 * DELAY, "{:?}", began.elapsed());
    says(&mut client, b"one").await;
    proxy.set(Rule::Pass);
    says(&mut client, b"two").await;
    let mut heard = Vec::new();
    while heard.len() < 6 {
        heard.extend(hears(&mut client).await);
    }
    assert_eq!(heard, b"onetwo");
}

async fn a_delay_is_not_paid_again_by_what_follows_at_once(_: Alone) {
    const DELAY: Duration = Duration::from_millis(500);
    const PIECES: u32 = 20;
    let mut echo = Echo::start().await;
    let proxy = Proxy::before(echo.port);
    let mut client = connect(&proxy).await;
    proxy.set(Rule::Delay(DELAY));
    let began = Instant::now();
    for _ in 0..PIECES {
        says(&mut client, b"x").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut arrived = 0;
    while arrived < PIECES as usize {
        let Seen::Said(bytes) = echo.sees().await else { panic!("closed") };
        arrived += bytes.len();
    }
    // A delay for each piece would be ten seconds.
    assert!(began.elapsed() < PIECES * DELAY / 2, "{:?}", began.elapsed());
}

async fn who_is_refused_finds_the_connection_closed(_: Alone) {
    let mut echo = Echo::start().await;
    let proxy = Proxy::before(echo.port);
    let mut old = connect(&proxy).await;
    says(&mut old, b"here").await;
    assert_eq!(hears(&mut old).await, b"here");
    assert_eq!(echo.sees().await, Seen::Said(b"here".to_vec()));
    proxy.set(Rule::Refuse);
    assert!(hears(&mut old).await.is_empty());
    assert_eq!(echo.sees().await, Seen::Closed);
    assert!(hears(&mut connect(&proxy).await).await.is_empty());
    echo.sees_nothing().await;
}

async fn what_was_said_to_a_frozen_connection_passes_when_it_thaws(_: Alone) {
    let mut echo = Echo::start().await;
    let proxy = Proxy::before(echo.port);
    let mut client = connect(&proxy).await;
    proxy.set(Rule::Freeze);
    says(&mut client, b"cold").await;
    hears_nothing(&mut client).await;
    echo.sees_nothing().await;
    proxy.set(Rule::Pass);
    assert_eq!(hears(&mut client).await, b"cold");
}

async fn a_half_open_connection_never_speaks_again_and_a_new_one_does(_: Alone) {
    let mut echo = Echo::start().await;
    let proxy = Proxy::before(echo.port);
    let (mut busy, mut idle) = (connect(&proxy).await, connect(&proxy).await);
    for client in [&mut busy, &mut idle] {
        says(client, b"up").await;
        assert_eq!(hears(client).await, b"up");
        assert_eq!(echo.sees().await, Seen::Said(b"up".to_vec()));
    }
    proxy.set(Rule::HalfOpen);
    let mut born_lost = connect(&proxy).await;
    says(&mut busy, b"lost").await;
    hears_nothing(&mut busy).await;
    proxy.set(Rule::Pass);
    for client in [&mut busy, &mut idle, &mut born_lost] {
        says(client, b"again").await;
        hears_nothing(client).await;
    }
    echo.sees_nothing().await;
    let mut fresh = connect(&proxy).await;
    says(&mut fresh, b"new").await;
    assert_eq!(hears(&mut fresh).await, b"new");
}

async fn no_end_of_a_half_open_connection_hears_that_the_other_has_closed(_: Alone) {
    let mut echo = Echo::start().await;
    let proxy = Proxy::before(echo.port);
    let mut client = connect(&proxy).await;
    says(&mut client, b"up").await;
    assert_eq!(hears(&mut client).await, b"up");
    assert_eq!(echo.sees().await, Seen::Said(b"up".to_vec()));
    proxy.set(Rule::HalfOpen);
    // The rule is seen by both directions before the client goes.
    hears_nothing(&mut client).await;
    drop(client);
    echo.sees_nothing().await;
    drop(proxy);
    assert_eq!(echo.sees().await, Seen::Closed);
}

async fn what_is_cut_before_never_arrives_and_what_is_cut_after_does(_: Alone) {
    let mut echo = Echo::start().await;
    let proxy = Proxy::before(echo.port);
    for (rule, arrives) in [(Rule::CutBefore(b"COMMIT"), false), (Rule::CutAfter(b"COMMIT"), true)]
    {
        proxy.set(rule);
        let mut client = connect(&proxy).await;
        says(&mut client, b"BEGIN").await;
        assert_eq!(hears(&mut client).await, b"BEGIN", "{rule:?}");
        assert_eq!(echo.sees().await, Seen::Said(b"BEGIN".to_vec()));
        says(&mut client, b"COMMIT").await;
        assert!(hears(&mut client).await.is_empty(), "{rule:?}");
        if arrives {
            assert_eq!(echo.sees().await, Seen::Said(b"COMMIT".to_vec()));
        }
        assert_eq!(echo.sees().await, Seen::Closed, "{rule:?}");
    }
}

async fn what_is_held_arrives_later_though_its_client_has_gone(_: Alone) {
    let mut echo = Echo::start().await;
    let proxy = Proxy::before(echo.port);
    let mut client = connect(&proxy).await;
    proxy.set(Rule::Hold(b"COMMIT"));
    says(&mut client, b"COMMIT").await;
    echo.sees_nothing().await;
    drop(client);
    echo.sees_nothing().await;
    proxy.set(Rule::Pass);
    assert_eq!(echo.sees().await, Seen::Said(b"COMMIT".to_vec()));
    assert_eq!(echo.sees().await, Seen::Closed);
}
