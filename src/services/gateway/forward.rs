//! One request, sent on to a replica and answered with its answer.

use axum::{
    body::Bytes,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, header};

use crate::{
    ports::rpc::Door,
    services::kit::{
        Call, Fault, Kit, Outgoing, Way,
        call::{FORWARDED_FOR, REQUEST_ID, SERVICE_TOKEN},
        extract::read_body,
    },
    wire::{
        routes::{POST_TWEETS, Route},
        trace::TRACEPARENT,
    },
};

/// Headers that belong to one connection (RFC 9110, 7.6.1), and `Expect`, which is answered here.
const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::EXPECT,
];
/// What a client might say to pass for another, and what is set anew for every attempt.
const NOT_BELIEVED: [HeaderName; 8] = [
    SERVICE_TOKEN,
    FORWARDED_FOR,
    REQUEST_ID,
    HeaderName::from_static(TRACEPARENT),
    header::FORWARDED,
    HeaderName::from_static("x-real-ip"),
    header::HOST,
    // The buffered body has a length of its own.
    header::CONTENT_LENGTH,
];

/// Sends a request on. A `POST /tweets` is repeated only under an `Idempotency-Key`.
pub(super) async fn forward(
    kit: &Kit,
    route: &'static Route,
    call: &Call,
    request: Request,
) -> Response {
    match attempt(kit, route, call, request).await {
        Ok(response) => response,
        Err(fault) => fault.into_response(),
    }
}

async fn attempt(
    kit: &Kit,
    route: &'static Route,
    call: &Call,
    request: Request,
) -> Result<Response, Fault> {
    let (parts, body) = request.into_parts();
    let body = if axum::body::HttpBody::is_end_stream(&body) {
        Bytes::new()
    } else {
        read_body(body).await?
    };
    let mut headers = parts.headers;
    drop_hop_by_hop(&mut headers);
    drop_all(&mut headers, &NOT_BELIEVED);
    // After the drops: a key that the role does not see makes nothing safe to repeat.
    let keyed = route.path == POST_TWEETS && headers.contains_key("idempotency-key");
    let way = Way {
        role: route.role,
        door: Door::Public,
        idempotent: route.idempotent || keyed,
        limit: kit.common.config.gateway.attempt_timeout(),
    };
    let uri = path_only(parts.uri);
    let request =
        Outgoing { method: parts.method, uri, headers, origin: Some(call.origin()), body };
    let mut response = kit.calls.send(way, request).await?;
    drop_hop_by_hop(response.headers_mut());
    Ok(response)
}

/// Path and query, without the scheme and host of a request in absolute form.
fn path_only(uri: http::Uri) -> http::Uri {
    if uri.authority().is_none() {
        return uri;
    }
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = uri.into_parts().path_and_query;
    http::Uri::from_parts(parts).unwrap_or_default()
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    let lines = headers.get_all(header::CONNECTION).iter();
    let named: Vec<HeaderName> = lines
        .flat_map(|line| line.to_str().unwrap_or_default().split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    drop_all(headers, &HOP_BY_HOP);
}

/// Most messages have none of these, and comparing names costs less than looking each up.
fn drop_all(headers: &mut HeaderMap, names: &[HeaderName]) {
    for name in names {
        if headers.keys().any(|present| present == name) {
            headers.remove(name);
        }
    }
}
