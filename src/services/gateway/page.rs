//! The page at `/`: three files, compiled in.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::services::kit::{Kit, Routes, answers::json_bytes};

/// Only the page's own files and its own origin: no inline script, no frame, no foreign host.
const CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
    img-src 'self' data:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Serves the files.
pub(super) fn mount(routes: Routes<Arc<Kit>>) -> Routes<Arc<Kit>> {
    routes
        .page("/", async || html())
        .page("/app.css", async || {
            file("text/css; charset=utf-8", include_bytes!("../../../web/app.css"))
        })
        .page("/app.js", async || {
            file("text/javascript; charset=utf-8", include_bytes!("../../../web/app.js"))
        })
}

fn html() -> Response {
    let mut response = file("text/html; charset=utf-8", include_bytes!("../../../web/index.html"));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn file(kind: &'static str, bytes: &'static [u8]) -> Response {
    let mut response = json_bytes(StatusCode::OK, bytes);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // A new build may serve other files under the same names.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}
