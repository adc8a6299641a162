//! The page at `/`: three files, compiled in.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderName, HeaderValue, StatusCode, header};

use crate::{
    config,
    services::kit::{Kit, Routes, answers::json_bytes},
};

/// Only the page's own files and its own origin, and where pictures are if that is elsewhere: no inline
/// script, no frame, no other host. `blob:` is a picture that its author has not sent yet.
fn policy(media: &config::Media) -> HeaderValue {
    let pictures = media.base_origin().unwrap_or_default();
    let uploads = &media.upload_origin;
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self' {uploads}; \
         img-src 'self' data: blob: {pictures}; base-uri 'none'; form-action 'self'; \
         frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).expect("the configuration allows plain characters only")
}

/// Serves the files.
pub(super) fn mount(routes: Routes<Arc<Kit>>, media: &config::Media) -> Routes<Arc<Kit>> {
    let policy = policy(media);
    routes
        .page("/", async move || html(policy.clone()))
        .page("/app.css", async || {
            file("text/css; charset=utf-8", include_bytes!("../../../web/app.css"))
        })
        .page("/app.js", async || {
            file("text/javascript; charset=utf-8", include_bytes!("../../../web/app.js"))
        })
}

fn html(policy: HeaderValue) -> Response {
    let mut response = file("text/html; charset=utf-8", include_bytes!("../../../web/index.html"));
    let headers = response.headers_mut();
    for (name, value) in [
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
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
