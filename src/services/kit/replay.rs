//! `POST /internal/replay?since_ms=`: the one repair tool.

use std::sync::Arc;

use axum::{extract::State, response::Response};
use http::StatusCode;
use serde::Deserialize;

use super::{
    answers::{Fault, json},
    extract::Query,
    relay::Relay,
};
use crate::wire::internal::Replayed;

/// The query of a replay.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Since {
    /// Rows committed at or after this are sent again, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// Sends the outbox again since a time; every consumer is idempotent.
pub async fn replay(
    State(relay): State<Arc<Relay>>,
    Query(since): Query<Since>,
) -> Result<Response, Fault> {
    let rows = relay.replay(since.since_ms).await.certain()?;
    Ok(json(StatusCode::OK, &Replayed { rows }))
}
