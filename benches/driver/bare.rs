//! A server of one page, which may stand still or take its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;

/// Tweets of the page, as many as a reader is given.
const TWEETS: u64 = 20;
/// It stands still for the first of so many seconds.
pub(crate) const EVERY: Duration = Duration::from_secs(10);
/// So long.
pub(crate) const STILL: Duration = Duration::from_secs(1);

struct Known {
    page: Bytes,
    stalls: bool,
    delay: Duration,
    began: Instant,
    ids: AtomicU64,
}

/// Runs until it is killed: `[--stalls] [--delay-us N]`. Prints where it listens.
pub(crate) fn run(words: &[String]) {
    let stalls = words.iter().any(|word| word == "--stalls");
    let after = words.iter().position(|word| word == "--delay-us");
    let delay = after.map_or(0, |at| words[at + 1].parse().unwrap());
    let known = Arc::new(Known {
        page: page(),
        stalls,
        delay: Duration::from_micros(delay),
        began: Instant::now(),
        ids: AtomicU64::new(0),
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let app =
            Router::new().route("/tweets", post(written)).fallback(get(read)).with_state(known);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        axum::serve(
            axum::serve::ListenerExt::tap_io(listener, |stream| {
                stream.set_nodelay(true).unwrap();
            }),
            app,
        )
        .await
        .unwrap();
    });
}

/// A page of tweets that are older than any run.
fn page() -> Bytes {
    let tweet = |id: u64| {
        serde_json::json!({
            "id": id.to_string(),
            "author": {"id": "1", "handle": "ada", "name": "Ada"},
            "text": "we set out before the light came up and the road was ours alone for an hour",
            "media": [], "created_at_ms": 1_700_000_000_000_u64,
        })
    };
    let tweets: Vec<_> = (1..=TWEETS).rev().map(tweet).collect();
    serde_json::json!({ "tweets": tweets }).to_string().into()
}

async fn read(State(known): State<Arc<Known>>) -> Response {
    if known.stalls {
        let into = known.began.elapsed().as_micros() % EVERY.as_micros();
        let left = STILL.as_micros().saturating_sub(into) as u64;
        if left > 0 {
            tokio::time::sleep(Duration::from_micros(left)).await;
        }
    }
    if !known.delay.is_zero() {
        tokio::time::sleep(known.delay).await;
    }
    ([(header::CONTENT_TYPE, "application/json")], known.page.clone()).into_response()
}

/// A tweet, newer than all of the page.
async fn written(State(known): State<Arc<Known>>) -> Response {
    let number = known.ids.fetch_add(1, Ordering::Relaxed);
    let ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let tweet = serde_json::json!({
        "id": ((ms << 20) + number).to_string(),
        "author": {"id": "1", "handle": "ada", "name": "Ada"},
        "text": "begins", "media": [], "created_at_ms": ms,
    });
    let body = tweet.to_string();
    (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}
