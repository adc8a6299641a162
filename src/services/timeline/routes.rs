//! HTTP in and out of the role.

use std::sync::Arc;

use axum::{Router, body::Body, extract::State, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::{
    Core,
    error::Error,
    page::{List, Page},
};
use crate::{
    domain::{Handle, TweetId, Window},
    services::kit::{
        Caller, Fault, Json, Kit, Path, Query,
        answers::{empty, json_bytes},
    },
    wire::internal::{APPLY, Apply},
};

/// Events of one call to [`APPLY`]; callers send one.
const APPLY_MAX: usize = 100;

pub(super) fn public(kit: &Kit, core: Arc<Core>) -> Router {
    kit.public(core)
        .on("GET", "/timeline", home)
        .on("GET", "/timeline/stream", stream)
        .on("GET", "/users/{handle}/tweets", author)
        .finish()
}

pub(super) fn internal(kit: &Kit, core: Arc<Core>) -> Router {
    kit.internal(core).on("POST", APPLY, apply).finish()
}

/// Which page is asked for.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PageQuery {
    limit: Option<u64>,
    before: Option<TweetId>,
    after: Option<TweetId>,
}

impl PageQuery {
    fn window(self) -> Result<Window, Fault> {
        match (self.before, self.after) {
            (None, None) => Ok(Window::Latest),
            (Some(bound), None) => Ok(Window::Before(bound)),
            (None, Some(bound)) => Ok(Window::After(bound)),
            (Some(_), Some(_)) => Err(Fault::field("after", "give either `before` or `after`")),
        }
    }

    fn limit(self, core: &Core) -> Result<usize, Fault> {
        let config = &core.config.timeline;
        match self.limit.unwrap_or(config.page_default) {
            limit if (1..=config.page_max).contains(&limit) => Ok(limit as usize),
            _ => Err(Fault::field("limit", format!("allowed are 1 to {}", config.page_max))),
        }
    }
}

async fn home(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Query(query): Query<PageQuery>,
) -> Result<Response, Fault> {
    let (window, limit) = (query.window()?, query.limit(&core)?);
    let page = core.page(caller.user, List::Home, window, limit).await?;
    Ok(answer(&page))
}

async fn author(
    State(core): State<Arc<Core>>,
    caller: Caller,
    Path(handle): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Response, Fault> {
    let (window, limit) = (query.window()?, query.limit(&core)?);
    // What is no handle is nobody's.
    let handle = Handle::parse(&handle).map_err(|_| Error::NoUser)?;
    let author = core.peers.user_of(&handle).await?;
    if author != caller.user {
        let relations = core.relations(caller.user).await.map_err(Error::Store)?;
        if relations.blocks_reading(author) {
            return Err(Error::Blocked.into());
        }
    }
    let page = core.page(caller.user, List::Author(author), window, limit).await?;
    Ok(answer(&page))
}

async fn stream(State(core): State<Arc<Core>>, caller: Caller) -> Result<Response, Fault> {
    let mut response = Response::new(Body::from_stream(core.open_stream(caller).await?));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies that buffer would hold events back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

async fn apply(State(core): State<Arc<Core>>, Json(apply): Json<Apply>) -> Result<Response, Fault> {
    if apply.events.len() > APPLY_MAX {
        return Err(Fault::field("events", format!("at most {APPLY_MAX} at once")));
    }
    core.apply(&apply.events).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

fn answer(page: &Page) -> Response {
    json_bytes(StatusCode::OK, page.json())
}
