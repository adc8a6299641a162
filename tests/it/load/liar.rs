//! Stands before the API and lies about what it gives: each lie is a bug that a system could have.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Request, State},
    response::Response,
    serve::ListenerExt,
};
use http_body_util::{BodyExt, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use parking_lot::Mutex;
use serde_json::Value;

/// What is lied about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// Nothing.
    None,
    /// A delivery in a hundred is never shown to its reader.
    Drops,
    /// Some tweets are shown twice.
    Doubles,
    /// Some neighbours change places.
    Swaps,
    /// Deleted tweets are shown to who saw them.
    ShowsDeleted,
    /// Who was blocked is shown to who blocked them.
    ShowsBlocked,
    /// Tweets of somebody are shown to who never followed them.
    Leaks,
    /// Profiles count a follower too many.
    Miscounts,
    /// A post stands twice in a list, as two tweets.
    PostsTwice,
    /// Nothing, but every page takes its time.
    Stalls,
    /// Nothing, but calls beyond [`LIMIT`] in a second are turned away.
    TurnsAway,
}

/// A rare lie is told on one of so many first pages, or on the next that gives reason to.
const PAGES_MAX: u64 = 500;
/// Calls in a second.
pub const LIMIT: u32 = 100;

/// How long a page takes that stalls.
const STALL: std::time::Duration = std::time::Duration::from_millis(40);

struct Known {
    target: SocketAddr,
    lie: Lie,
    /// If there is one, lies are rare, and this chooses where.
    rare: Option<u64>,
    /// Home timelines that were given.
    pages: AtomicU64,
    client: Client<HttpConnector, Full<Bytes>>,
    told: AtomicU64,
    began: std::time::Instant,
    /// Which second it is, and its calls.
    second: Mutex<(u64, u64)>,
    memory: Mutex<Memory>,
}

impl Known {
    /// Counts a call; whether there were enough in this second.
    fn is_beyond(&self) -> bool {
        let (now, mut second) = (self.began.elapsed().as_secs(), self.second.lock());
        if second.0 != now {
            *second = (now, 0);
        }
        second.1 += 1;
        second.1 > u64::from(LIMIT)
    }
}

#[derive(Default)]
struct Memory {
    /// Every tweet that was posted here, by id.
    tweets: BTreeMap<u64, Value>,
    deleted: BTreeSet<u64>,
    /// What a reader has seen.
    seen: BTreeSet<(String, u64)>,
    /// Who blocks whom.
    blocks: BTreeSet<(String, String)>,
}

/// A running one.
pub struct Liar {
    pub address: SocketAddr,
    known: Arc<Known>,
    server: tokio::task::JoinHandle<()>,
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn id_of(tweet: &Value) -> u64 {
    tweet["id"].as_str().unwrap().parse().unwrap()
}

/// The same for the same reader and tweet.
fn drawn(reader: &str, id: u64) -> u64 {
    let hash = reader
        .bytes()
        .rev()
        .take(8)
        .fold(id, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    hash >> 33
}

impl Liar {
    /// Begins to lie about what listens at `target`.
    pub async fn start(target: SocketAddr, lie: Lie) -> Self {
        Self::start_with(target, lie, None).await
    }

    /// Likewise, but hardly ever: of deliveries one in ten thousand is dropped, of all else there is one
    /// lie, on a page that `seed` chooses.
    pub async fn start_rare(target: SocketAddr, lie: Lie, seed: u64) -> Self {
        Self::start_with(target, lie, Some(seed)).await
    }

    async fn start_with(target: SocketAddr, lie: Lie, rare: Option<u64>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new()).build(connector);
        let (told, began) = (AtomicU64::new(0), std::time::Instant::now());
        let (second, memory) = (Mutex::default(), Mutex::default());
        let pages = AtomicU64::new(0);
        let known =
            Arc::new(Known { target, lie, rare, pages, client, told, began, second, memory });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = Router::new().fallback(pass).with_state(Arc::clone(&known));
        let server = tokio::spawn(async move {
            axum::serve(listener.tap_io(|stream| stream.set_nodelay(true).unwrap()), app)
                .await
                .unwrap();
        });
        Self { address, known, server }
    }

    /// How often it has lied.
    pub fn told(&self) -> u64 {
        self.known.told.load(Ordering::Relaxed)
    }
}

async fn pass(State(known): State<Arc<Known>>, request: Request) -> Response {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let path = head.uri.path_and_query().unwrap().to_string();
    let (method, route) = (head.method.clone(), head.uri.path().to_owned());
    let reader = head.headers.get("authorization").map(|v| v.to_str().unwrap().to_owned());
    let reader = reader.unwrap_or_default();
    head.uri = format!("http://{}{path}", known.target).parse().unwrap();
    head.headers.remove("host");
    if known.lie == Lie::Stalls && route == "/timeline" {
        tokio::time::sleep(STALL).await;
    }
    if known.lie == Lie::TurnsAway && known.is_beyond() {
        return Response::builder().status(503).body(Body::empty()).unwrap();
    }
    let asked = known.client.request(Request::from_parts(head, Full::new(body))).await;
    let Ok(answer) = asked else {
        return Response::builder().status(502).body(Body::empty()).unwrap();
    };
    let (mut head, body) = answer.into_parts();
    if route == "/timeline/stream" {
        return Response::from_parts(head, Body::new(body));
    }
    let mut bytes = body.collect().await.unwrap().to_bytes();
    let ok = head.status.is_success();
    match (method.as_str(), route.as_str()) {
        ("POST", "/tweets") if ok => {
            let tweet: Value = serde_json::from_slice(&bytes).unwrap();
            known.memory.lock().tweets.insert(id_of(&tweet), tweet);
        }
        ("DELETE", route) if head.status == 204 && route.starts_with("/tweets/") => {
            known.memory.lock().deleted.insert(route[8..].parse().unwrap());
        }
        ("PUT", route) if head.status == 204 && route.starts_with("/blocks/") => {
            known.memory.lock().blocks.insert((reader, route[8..].to_owned()));
        }
        ("GET", "/timeline") if head.status == 200 => {
            let mut page: Value = serde_json::from_slice(&bytes).unwrap();
            let lied = known.lie(&reader, page["tweets"].as_array_mut().unwrap());
            if lied > 0 {
                // What is dropped before may be hidden or deleted by the time all is read again, and then
                // nobody was lied to.
                let again = path.contains("limit=") && !path.contains("after=");
                let matters = again || known.rare.is_none() || known.lie != Lie::Drops;
                known.told.fetch_add(if matters { lied } else { 0 }, Ordering::Relaxed);
                bytes = serde_json::to_vec(&page).unwrap().into();
                head.headers.insert("content-length", bytes.len().into());
            }
        }
        ("GET", route) if head.status == 200 && known.miscounts(route) => {
            let mut profile: Value = serde_json::from_slice(&bytes).unwrap();
            profile["followers"] = (profile["followers"].as_u64().unwrap() + 1).into();
            known.told.fetch_add(1, Ordering::Relaxed);
            bytes = serde_json::to_vec(&profile).unwrap().into();
            head.headers.insert("content-length", bytes.len().into());
        }
        _ => {}
    }
    Response::from_parts(head, Body::from(bytes))
}

impl Known {
    /// Whether this profile is lied about: only after the run has changed something, as what was wrong
    /// before it is not held against it.
    fn miscounts(&self, route: &str) -> bool {
        let profile = route.strip_prefix("/users/").is_some_and(|rest| !rest.contains('/'));
        self.lie == Lie::Miscounts && profile && self.memory.lock().tweets.len() > 1
    }

    /// Whether this page is left as it is although there would be something to lie about.
    fn is_honest(&self) -> bool {
        let Some(seed) = self.rare.filter(|_| self.lie != Lie::Drops) else { return false };
        let page = self.pages.fetch_add(1, Ordering::Relaxed);
        page < drawn("", seed) % PAGES_MAX || self.told.load(Ordering::Relaxed) > 0
    }

    /// Whether there is a lie about a tweet for a reader.
    fn chooses(&self, reader: &str, id: u64) -> bool {
        let one_in = match (self.rare, self.lie) {
            (None, _) => 100,
            (Some(_), Lie::Drops) => 10_000,
            (Some(_), _) => 1,
        };
        drawn(reader, id ^ self.rare.unwrap_or(0)).is_multiple_of(one_in)
    }

    /// Changes a page; gives how often.
    fn lie(&self, reader: &str, tweets: &mut Vec<Value>) -> u64 {
        let honest = self.is_honest();
        let mut memory = self.memory.lock();
        if honest {
            let shown: Vec<u64> = tweets.iter().map(id_of).collect();
            memory.seen.extend(shown.into_iter().map(|id| (reader.to_owned(), id)));
            return 0;
        }
        let most = if self.rare.is_some() { 1 } else { u64::MAX };
        let ours = |memory: &Memory, tweet: &Value| memory.tweets.contains_key(&id_of(tweet));
        match self.lie {
            Lie::None | Lie::Miscounts | Lie::Stalls | Lie::TurnsAway => 0,
            Lie::PostsTwice => {
                let twice =
                    |tweet: &Value| ours(&memory, tweet) && self.chooses(reader, id_of(tweet));
                let Some(at) = tweets.iter().position(twice) else { return 0 };
                let mut copy = tweets[at].clone();
                // In its place by its id, which is free but for one in millions.
                copy["id"] = (id_of(&copy) - 1).to_string().into();
                tweets.insert(at + 1, copy);
                1
            }
            Lie::Leaks => {
                // A reader of one in sixteen gets whatever lies within the page.
                if !drawn(reader, 0).is_multiple_of(16) {
                    return 0;
                }
                let shown = |tweet: &&Value| !memory.deleted.contains(&id_of(tweet));
                let all: Vec<Value> = memory.tweets.values().filter(shown).cloned().collect();
                insert(tweets, all.into_iter().filter(|tweet| id_of(tweet).is_multiple_of(5)), most)
            }
            Lie::Drops => {
                let before = tweets.len();
                tweets
                    .retain(|tweet| !(ours(&memory, tweet) && self.chooses(reader, id_of(tweet))));
                (before - tweets.len()) as u64
            }
            Lie::Doubles => {
                let twice =
                    |tweet: &Value| ours(&memory, tweet) && self.chooses(reader, id_of(tweet));
                let Some(at) = tweets.iter().position(twice) else { return 0 };
                let copy = tweets[at].clone();
                tweets.push(copy);
                1
            }
            Lie::Swaps => {
                let pair = |two: &[Value]| {
                    two.iter().all(|tweet| ours(&memory, tweet))
                        && self.chooses(reader, id_of(&two[0]))
                };
                let Some(at) = tweets.windows(2).position(pair) else { return 0 };
                tweets.swap(at, at + 1);
                1
            }
            Lie::ShowsDeleted => {
                let shown: Vec<u64> =
                    tweets.iter().filter(|tweet| ours(&memory, tweet)).map(id_of).collect();
                memory.seen.extend(shown.into_iter().map(|id| (reader.to_owned(), id)));
                let saw = |id: &&u64| memory.seen.contains(&(reader.to_owned(), **id));
                let gone: Vec<u64> = memory.deleted.iter().filter(saw).copied().collect();
                insert(tweets, gone.iter().filter_map(|id| memory.tweets.get(id).cloned()), most)
            }
            Lie::ShowsBlocked => {
                let blocked = |tweet: &&Value| {
                    let handle = tweet["author"]["handle"].as_str().unwrap().to_owned();
                    memory.blocks.contains(&(reader.to_owned(), handle))
                };
                let hidden: Vec<Value> = memory.tweets.values().filter(blocked).cloned().collect();
                let shown = |tweet: &Value| !memory.deleted.contains(&id_of(tweet));
                insert(tweets, hidden.into_iter().filter(shown), most)
            }
        }
    }
}

/// Puts at most so many tweets where they belong, if the page reaches there.
fn insert(tweets: &mut Vec<Value>, more: impl Iterator<Item = Value>, most: u64) -> u64 {
    let (Some(top), Some(bottom)) = (tweets.first().map(id_of), tweets.last().map(id_of)) else {
        return 0;
    };
    let mut lied = 0;
    for tweet in more.filter(|tweet| (bottom..top).contains(&id_of(tweet))) {
        if lied < most && tweets.iter().all(|there| id_of(there) != id_of(&tweet)) {
            let at = tweets.partition_point(|there| id_of(there) > id_of(&tweet));
            tweets.insert(at, tweet);
            lied += 1;
        }
    }
    lied
}
