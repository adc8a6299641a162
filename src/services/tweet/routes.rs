//! HTTP in and out.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

use super::{
    logic::{Post, Tweets, missing},
    preferences::{PREFERENCE_APPLIED, REPLAYED, bounded, idempotency_key, wait},
};
use crate::{
    domain::{
        TweetId, TweetText, UserId, Window,
        media::{MEDIA_MAX, NotAList},
    },
    services::kit::{
        Call, Caller, Fault, Json, Kit, Path, Query,
        answers::{empty, json},
        extract::read_body,
    },
    wire::{
        api::{NewMedia, Pending, PostTweet},
        internal::AUTHOR_TWEETS,
        routes::POST_TWEETS,
    },
};

/// Most tweets of one internal page.
const AUTHOR_TWEETS_MAX: usize = 200;

type Shared = State<Arc<Tweets>>;
type Answer = Result<Response, Fault>;

pub(super) fn public(kit: &Kit, tweets: &Arc<Tweets>) -> Router {
    kit.public(Arc::clone(tweets))
        .on("POST", POST_TWEETS, post)
        .on("DELETE", "/tweets/{id}", delete)
        .on("POST", "/media", begin)
        .finish()
}

pub(super) fn internal(kit: &Kit, tweets: &Arc<Tweets>) -> Router {
    kit.internal(Arc::clone(tweets)).on("GET", AUTHOR_TWEETS, author_tweets).finish()
}

async fn post(State(tweets): Shared, call: Call, caller: Caller, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let bytes = read_body(body).await?;
    let Json(PostTweet { text, media }) = Json::parse(&parts.headers, &bytes)?;
    let text = TweetText::parse(&text).map_err(|why| Fault::field("text", why.to_string()))?;
    let twice = (1..media.len()).any(|at| media[..at].contains(&media[at]));
    if media.len() > MEDIA_MAX || twice {
        return Err(Fault::field("media", NotAList.to_string()));
    }
    let key = idempotency_key(&parts.headers, &bytes)?;
    let seconds = wait(&parts.headers);
    let wait = seconds.map(|seconds| bounded(seconds, tweets.request_limit()));
    let posted = tweets.post(&caller, &call, Post { text, media, key, wait }).await?;
    let mut response = json(StatusCode::CREATED, &posted.tweet);
    let headers = response.headers_mut();
    if posted.replayed {
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    if let Some(seconds) = seconds.filter(|_| posted.projected) {
        let applied = HeaderValue::from_str(&format!("wait={seconds}"));
        headers.insert(PREFERENCE_APPLIED, applied.expect("digits are a header value"));
    }
    Ok(response)
}

async fn begin(
    State(tweets): Shared,
    caller: Caller,
    Json(NewMedia { content_type, bytes }): Json<NewMedia>,
) -> Answer {
    let media = tweets.uploads.begin(caller.user, &content_type, bytes).await?;
    Ok(json(StatusCode::CREATED, &media))
}

async fn delete(
    State(tweets): Shared,
    call: Call,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    let id: TweetId = id.parse().map_err(|_| missing())?;
    let hidden = tweets.delete(caller.user, id, call.trace.clone()).await?;
    Ok(if hidden {
        empty(StatusCode::NO_CONTENT)
    } else {
        json(StatusCode::ACCEPTED, &Pending { pending: true })
    })
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    before: Option<u64>,
    after: Option<u64>,
    limit: Option<usize>,
}

async fn author_tweets(
    State(tweets): Shared,
    Path(author): Path<u64>,
    Query(page): Query<Page>,
) -> Answer {
    let window = match (page.before, page.after) {
        (None, None) => Window::Latest,
        (Some(id), None) => Window::Before(TweetId(id)),
        (None, Some(id)) => Window::After(TweetId(id)),
        (Some(_), Some(_)) => return Err(Fault::field("after", "send either before or after")),
    };
    let limit = page.limit.unwrap_or(AUTHOR_TWEETS_MAX);
    if !(1..=AUTHOR_TWEETS_MAX).contains(&limit) {
        return Err(Fault::field("limit", "the limit is 1 to 200"));
    }
    Ok(json(StatusCode::OK, &tweets.by_author(UserId(author), window, limit).await?))
}
