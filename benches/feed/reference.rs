//! The servers that chirp is compared with: as little as can be done for the same answer.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    routing::{get, post},
    serve::ListenerExt,
};
use chirp::{
    adapters::embedded::{TweetStores, sqlite::Options},
    domain::{
        Body, DisplayName, Handle, MediaList, TweetId, TweetText, UserId, snowflake::Snowflake,
    },
    ports::{Created, NewTweet, Outcome, TweetStore},
    wire::api::{PostTweet, Tweet},
};
use http::{HeaderMap, StatusCode, header};

use crate::world::wall_ms;

/// Runs the server `role` until it is killed.
pub(crate) fn serve(role: &str, args: &[String]) {
    let router = match role {
        "page" => page(std::fs::read(&args[0]).unwrap().into()),
        "posts" => posts(&args[0]),
        _ => panic!("there is no such server"),
    };
    // As `chirp up` has it.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("{}", listener.local_addr().unwrap());
        let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
        axum::serve(listener, router).await.unwrap();
    });
}

/// A bare handler that answers with the same bytes to everybody.
fn page(bytes: Bytes) -> Router {
    let handler = move || {
        let bytes = bytes.clone();
        async move { ([(header::CONTENT_TYPE, "application/json")], bytes) }
    };
    Router::new().route("/timeline", get(handler))
}

struct Posts {
    store: Arc<dyn TweetStore>,
    last: AtomicU64,
}

/// A minimal handler that runs the statements of a post in the same writer with group commit, and
/// does nothing else: no token, no limits, and nobody relays the outbox row.
fn posts(dir: &str) -> Router {
    let stores = TweetStores::open(std::path::Path::new(dir), Options::default()).unwrap();
    let state = Arc::new(Posts { store: stores.tweets, last: AtomicU64::new(0) });
    Router::new().route("/tweets", post(create)).with_state(state)
}

async fn create(
    State(posts): State<Arc<Posts>>,
    headers: HeaderMap,
    Json(body): Json<PostTweet>,
) -> (StatusCode, Json<Tweet>) {
    let author = headers["x-user"].to_str().unwrap().parse().unwrap();
    let now = wall_ms();
    let id = Snowflake::new(1).next(now);
    let before = posts.last.fetch_max(id, Ordering::Relaxed);
    let id = if before < id { id } else { posts.last.fetch_add(1, Ordering::Relaxed) + 1 };
    let body = Body {
        id: TweetId(id),
        author: UserId(author),
        handle: Handle::parse("user_1").unwrap(),
        name: DisplayName::parse("User Number 1").unwrap(),
        text: TweetText::parse(&body.text).unwrap(),
        media: MediaList::default(),
        created_at_ms: now,
    };
    match posts.store.create(&NewTweet { body, media: Vec::new(), key: None, trace: None }).await {
        Outcome::Done(Created::Fresh(body)) => (StatusCode::CREATED, Json(Tweet::of(&body, ""))),
        other => panic!("not written: {other:?}"),
    }
}
