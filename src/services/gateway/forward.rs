//! One request, sent on to a replica and answered with its answer.

use axum::{
    body::Bytes,
    extract::Request,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, header};

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
const NOT_BELIEVED: [HeaderName; 5] = [
    SERVICE_TOKEN,
    FORWARDED_FOR,
    header::FORWARDED,
    HeaderName::from_static("x-real-ip"),
    header::HOST,
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
    let keyed = route.path == POST_TWEETS && headers.contains_key("idempotency-key");
    outgoing_headers(&mut headers, call);
    let way = Way {
        role: route.role,
        door: Door::Public,
        idempotent: route.idempotent || keyed,
        limit: kit.common.config.gateway.attempt_timeout(),
    };
    let request = Outgoing { method: parts.method, uri: path_only(parts.uri), headers, body };
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

fn outgoing_headers(headers: &mut HeaderMap, call: &Call) {
    drop_hop_by_hop(headers);
    for name in &NOT_BELIEVED {
        headers.remove(name);
    }
    // The buffered body has a length of its own.
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(REQUEST_ID, call.request_id.clone());
    if let Ok(trace) = HeaderValue::from_str(call.trace.as_str()) {
        headers.insert(TRACEPARENT, trace);
    }
    if let Some(address) = call.address {
        let address = HeaderValue::from_str(&address.to_string());
        headers.insert(FORWARDED_FOR, address.expect("an address is visible ascii"));
    }
}

fn drop_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(named) = headers.get(header::CONNECTION).cloned() {
        let named = named.to_str().unwrap_or_default().split(',').map(str::trim);
        for name in named.filter_map(|name| HeaderName::try_from(name).ok()) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}
