//! Calls as a client sees them: an answer, certainly not sent, or unknown.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chirp::{
    domain::TweetId,
    wire::api::{Page, Tweet},
};
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

/// A call that takes longer has an unknown end. Above every limit of the server.
const CALL_MAX: Duration = Duration::from_secs(20);
/// Tweets asked for at once: the most that a page has.
pub const PAGE: usize = 100;
/// A read is repeated this often while the server says that it cannot answer, or not wholly.
const READ_TRIES: usize = 60;
/// The pause between two such reads.
const READ_PAUSE: Duration = Duration::from_millis(50);

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Acknowledged, with this status and body.
    Done { status: u16, replayed: bool, body: Bytes },
    /// It certainly did not happen.
    Refused { status: u16, why: String },
    /// It may have happened.
    Unknown(String),
}

/// Why a list could not be read.
#[derive(Clone, Debug)]
pub enum NoList {
    /// The reader may not see it.
    Blocked,
    /// The server did not give it, whole, in time.
    Unavailable(String),
}

/// How a call ended, for those who count calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Answered, also by a refusal that the caller has to mend.
    Answered,
    /// A page that may be incomplete.
    Degraded,
    /// Certainly not done, for a reason that will pass.
    Unavailable,
    Unknown,
}

/// A call that has ended.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What the caller calls it; empty: as `method` and `path` say.
    pub label: &'static str,
    pub method: &'static str,
    /// The first part of the path.
    pub room: &'static str,
    pub began: Instant,
    pub ended: Instant,
    pub how: Ended,
}

/// Is told of every call.
pub type Watch = Arc<dyn Fn(Call) + Send + Sync>;

/// A running stack. Connections are kept open between calls.
#[derive(Clone)]
pub struct Api {
    pool: Client<HttpConnector, Full<Bytes>>,
    pub at: SocketAddr,
    label: &'static str,
    watch: Option<Watch>,
}

/// A write before it is sent.
pub struct Write<'a> {
    pub method: &'static str,
    pub path: String,
    pub token: &'a str,
    pub key: Option<&'a str>,
    pub body: Option<String>,
}

struct Answer {
    status: u16,
    replayed: bool,
    body: Bytes,
}

enum Trouble {
    NotSent(String),
    Unknown(String),
}

fn how(answer: &Result<Answer, Trouble>) -> Ended {
    match answer {
        Err(Trouble::NotSent(_)) => Ended::Unavailable,
        Err(Trouble::Unknown(_)) => Ended::Unknown,
        Ok(answer) => match answer.status {
            500 | 502 | 504 => Ended::Unknown,
            503 if answer.says("unknown-outcome") => Ended::Unknown,
            429 | 503.. => Ended::Unavailable,
            200 if answer.says("\"degraded\":true") => Ended::Degraded,
            _ => Ended::Answered,
        },
    }
}

impl Answer {
    fn says(&self, word: &str) -> bool {
        self.body.windows(word.len()).any(|part| part == word.as_bytes())
    }
}

impl Api {
    pub fn new(at: SocketAddr) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        // A second attempt that nobody recorded would falsify what is known of the first.
        builder.retry_canceled_requests(false);
        Self { pool: builder.build_http(), at, label: "", watch: None }
    }

    /// The same, but `watch` is told of every call.
    pub fn watched(self, label: &'static str, watch: Watch) -> Self {
        Self { label, watch: Some(watch), ..self }
    }

    async fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Answer, Trouble> {
        let began = Instant::now();
        let answer = self.exchange(method, path, headers, body).await;
        if let Some(watch) = &self.watch {
            let known = |all: &[&'static str], is: &dyn Fn(&str) -> bool| {
                all.iter().copied().find(|one| is(one)).unwrap_or_default()
            };
            watch(Call {
                label: self.label,
                method: known(&["GET", "POST", "PUT", "DELETE"], &|one| one == method),
                room: known(&["/timeline", "/tweets", "/follow", "/blocks", "/users"], &|one| {
                    path.starts_with(one)
                }),
                began,
                ended: Instant::now(),
                how: how(&answer),
            });
        }
        answer
    }

    async fn exchange(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<String>,
    ) -> Result<Answer, Trouble> {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.at));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let request = request.body(Full::new(Bytes::from(body.unwrap_or_default()))).unwrap();
        let answer = async {
            let answer = self.pool.request(request).await.map_err(|error| {
                let text = format!("{error:?}");
                if error.is_connect() { Trouble::NotSent(text) } else { Trouble::Unknown(text) }
            })?;
            let status = answer.status().as_u16();
            let replayed = answer.headers().contains_key("idempotency-replayed");
            let body = answer.into_body().collect().await;
            let body = body.map_err(|error| Trouble::Unknown(format!("{error:?}")))?.to_bytes();
            Ok(Answer { status, replayed, body })
        };
        let limit = tokio::time::timeout(CALL_MAX, answer).await;
        limit.unwrap_or_else(|_| Err(Trouble::Unknown("no answer in time".to_owned())))
    }

    /// A write, and what its client may conclude.
    pub async fn write(&self, write: Write<'_>) -> Verdict {
        let bearer = format!("Bearer {}", write.token);
        let mut headers = Vec::new();
        if !write.token.is_empty() {
            headers.push(("authorization", bearer.as_str()));
        }
        headers.extend(write.key.map(|key| ("idempotency-key", key)));
        match self.call(write.method, &write.path, &headers, write.body).await {
            Err(Trouble::NotSent(why)) => Verdict::Refused { status: 0, why },
            Err(Trouble::Unknown(why)) => Verdict::Unknown(why),
            Ok(Answer { status: status @ 200..300, replayed, body }) => {
                Verdict::Done { status, replayed, body }
            }
            Ok(Answer { status, body, .. }) => {
                let why = String::from_utf8_lossy(&body).into_owned();
                let unknown = status == 503 && why.contains("unknown-outcome");
                if unknown || matches!(status, 500 | 502 | 504) {
                    Verdict::Unknown(why)
                } else {
                    Verdict::Refused { status, why }
                }
            }
        }
    }

    /// A read, without a second attempt.
    pub async fn get(&self, path: &str, token: &str) -> Result<Bytes, (u16, String)> {
        let bearer = format!("Bearer {token}");
        match self.call("GET", path, &[("authorization", &bearer)], None).await {
            Ok(Answer { status: 200, body, .. }) => Ok(body),
            Ok(Answer { status, body, .. }) => {
                Err((status, String::from_utf8_lossy(&body).into_owned()))
            }
            Err(Trouble::NotSent(why) | Trouble::Unknown(why)) => Err((0, why)),
        }
    }

    /// One page, once it is whole.
    pub async fn page(&self, path: &str, token: &str) -> Result<Page, NoList> {
        let mut last = String::new();
        for _ in 0..READ_TRIES {
            match self.get(path, token).await {
                Ok(body) => match serde_json::from_slice::<Page>(&body) {
                    Ok(page) if !page.degraded => return Ok(page),
                    Ok(_) => "the page is degraded".clone_into(&mut last),
                    Err(error) => return Err(NoList::Unavailable(error.to_string())),
                },
                Err((403, _)) => return Err(NoList::Blocked),
                Err((status @ (500.. | 429), why)) => last = format!("{status} {why}"),
                Err((status, why)) => return Err(NoList::Unavailable(format!("{status} {why}"))),
            }
            tokio::time::sleep(READ_PAUSE).await;
        }
        Err(NoList::Unavailable(last))
    }

    /// The part of a list that lies in `low..high`, newest first, as the pages give it.
    pub async fn list(
        &self,
        path: &str,
        token: &str,
        low: TweetId,
        high: Option<TweetId>,
    ) -> Result<(Vec<Tweet>, usize), NoList> {
        let (mut found, mut pages, mut before) = (Vec::new(), 0, high);
        loop {
            let cursor = before.map(|before| format!("&before={before}")).unwrap_or_default();
            let page = self.page(&format!("{path}?limit={PAGE}{cursor}"), token).await?;
            pages += 1;
            let below = page.tweets.iter().any(|tweet| tweet.id < low);
            found.extend(page.tweets.into_iter().filter(|tweet| tweet.id >= low));
            before = page.next;
            if below || before.is_none_or(|next| next <= low) {
                return Ok((found, pages));
            }
        }
    }
}
