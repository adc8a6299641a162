//! The HTTP side of the folder of pictures, beside the API on the public listener: takes uploads whose
//! URL was signed, and gives everybody what is published.
//!
//! Pictures come from people, so an answer with one can do nothing: its type is what its bytes say,
//! `nosniff` keeps it that, and the policy gives it an origin of its own without scripts, should a
//! browser open it as a page.

use std::{
    io,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::hmac;
use axum::{
    Router,
    body::Body,
    extract::{Path, Query, Request, State, rejection::QueryRejection},
    routing::{get, put},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde::Deserialize;
use tokio::{
    fs::{self, File, OpenOptions},
    io::{AsyncReadExt as _, AsyncSeekExt as _, AsyncWriteExt as _},
    sync::Semaphore,
};

use super::{FileBlobs, Permit};
use crate::{
    domain::{MediaId, MediaKind},
    wire::problem::{PROBLEM_JSON, Problem},
};

/// Uploads at once; above it 503. Each holds a file and a buffer of the network's.
const UPLOADS_MAX: usize = 64;
/// The longest that an upload may take: 5 MiB over a slow mobile network.
const UPLOAD_MAX: Duration = Duration::from_mins(2);
/// Bytes of a file that are read at once.
const CHUNK: usize = 64 * 1024;
/// A published picture never changes. After a day even a cache that nobody tells forgets that of a
/// tweet that was deleted.
const CACHE: &str = "public, max-age=86400, immutable";
const POLICY: &str = "sandbox; default-src 'none'";

struct Shared {
    blobs: FileBlobs,
    uploads: Semaphore,
}

/// The routes: `PUT /media/up/{id}` and `GET /media/m/{id}`.
pub fn router(blobs: FileBlobs) -> Router {
    let shared = Arc::new(Shared { blobs, uploads: Semaphore::new(UPLOADS_MAX) });
    let method = async || refused(405, "method-not-allowed", "the path has other methods");
    Router::new()
        .route("/media/up/{id}", put(upload).fallback(method))
        .route("/media/m/{id}", get(picture).fallback(method))
        .with_state(shared)
}

/// A signature as it stands in a URL.
pub(super) fn to_text(signature: &[u8]) -> String {
    BASE64.encode(signature)
}

/// The query of a signed URL.
#[derive(Deserialize)]
struct Signed {
    r#type: String,
    bytes: u64,
    expires: u64,
    signature: String,
}

fn refused(status: u16, code: &str, title: &str) -> Response<Body> {
    let problem = Problem::new(status, code, title);
    let body = serde_json::to_vec(&problem).expect("a problem has only string keys");
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = StatusCode::from_u16(status).expect("a valid status");
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    harmless(headers);
    answer
}

fn harmless(headers: &mut HeaderMap) {
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
}

impl FileBlobs {
    /// What the URL permits, if it was signed here and has not expired.
    fn permit(&self, id: &str, signed: &Signed) -> Option<Permit> {
        let kind = MediaKind::parse(&signed.r#type)?;
        let (bytes, expires_ms) = (signed.bytes, signed.expires);
        let permit = Permit { id: id.parse().ok()?, kind, bytes, expires_ms };
        let signature = BASE64.decode(&signed.signature).ok()?;
        hmac::verify(&self.key, permit.text().as_bytes(), &signature).ok()?;
        (self.rt.wall_ms() < expires_ms).then_some(permit)
    }

    /// Writes an upload whole, in the place of one that came before it.
    async fn receive(&self, permit: Permit, body: Body) -> Result<(), Trouble> {
        let scrap = Scrap(Some(self.fresh(permit.id)));
        let path = scrap.0.as_deref().unwrap_or(&self.root);
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).await?;
        let mut body = body.into_data_stream();
        let mut received = 0;
        while let Some(chunk) = body.next().await {
            let chunk = chunk.map_err(|_| Trouble::Size)?;
            received += chunk.len() as u64;
            if received > permit.bytes {
                return Err(Trouble::Size);
            }
            file.write_all(&chunk).await?;
        }
        if received != permit.bytes {
            return Err(Trouble::Size);
        }
        // Nothing may come after its time: it would lie there for ever.
        if self.rt.wall_ms() >= permit.expires_ms {
            return Err(Trouble::Late);
        }
        file.flush().await?;
        file.sync_all().await?;
        fs::rename(path, self.uploaded(permit.id)).await?;
        scrap.keep();
        let own = self.clone();
        let synced = self.rt.blocking(move || own.sync("up")).await;
        Ok(synced.unwrap_or_else(|| Err(io::Error::other("the sync panicked")))?)
    }
}

/// A file that is removed unless it is kept.
struct Scrap(Option<PathBuf>);

impl Scrap {
    fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Scrap {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            // It is removed at the next start otherwise.
            drop(std::fs::remove_file(path));
        }
    }
}

/// Why an upload was not taken.
enum Trouble {
    /// More or fewer bytes than were signed for, or a connection that broke.
    Size,
    /// The URL expired meanwhile.
    Late,
    System(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

async fn upload(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    signed: Result<Query<Signed>, QueryRejection>,
    request: Request,
) -> Response<Body> {
    let permit = signed.ok().and_then(|Query(signed)| shared.blobs.permit(&id, &signed));
    let Some(permit) = permit else {
        return refused(403, "forbidden", "the url was not signed for this, or has expired");
    };
    let (parts, body) = request.into_parts();
    let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    if header(header::CONTENT_TYPE) != Some(permit.kind.as_str()) {
        return refused(415, "unsupported-media-type", "the url was signed for another type");
    }
    let length = header(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
    if length != Some(permit.bytes) {
        return refused(422, "media-size", "the url was signed for another content-length");
    }
    let Ok(_place) = shared.uploads.try_acquire() else {
        return refused(503, "overloaded", "too much is asked at once");
    };
    let receive = shared.blobs.receive(permit, body);
    match shared.blobs.rt.timeout(UPLOAD_MAX, receive).await {
        Ok(Ok(())) => {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            answer
        }
        Ok(Err(Trouble::Size)) => {
            refused(422, "media-size", "the body has not the size that was signed for")
        }
        Ok(Err(Trouble::System(error))) => {
            tracing::warn!(%error, "an upload could not be kept");
            refused(503, "unavailable", "a part of the system cannot be reached")
        }
        Ok(Err(Trouble::Late)) | Err(_) => refused(504, "timeout", "it took too long"),
    }
}

async fn picture(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response<Body> {
    let missing = || refused(404, "not-found", "there is no such picture");
    let Ok(id) = id.parse::<MediaId>() else { return missing() };
    match open(&shared.blobs.published(id)).await {
        Ok((kind, length, file)) => {
            let mut answer = Response::new(Body::from_stream(chunks(file)));
            let headers = answer.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind.as_str()));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(CACHE));
            harmless(headers);
            answer
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => missing(),
        Err(error) => {
            tracing::warn!(%error, "a picture could not be read");
            refused(503, "unavailable", "a part of the system cannot be reached")
        }
    }
}

/// Opens a published file: its kind by its first bytes, its size, and the file at its begin.
async fn open(path: &FilePath) -> io::Result<(MediaKind, u64, File)> {
    let mut file = File::open(path).await?;
    let length = file.metadata().await?.len();
    let mut head = Vec::new();
    (&mut file).take(16).read_to_end(&mut head).await?;
    let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a published file is no picture");
    let kind = MediaKind::of_bytes(&head).ok_or_else(damaged)?;
    file.rewind().await?;
    Ok((kind, length, file))
}

fn chunks(file: File) -> impl stream::Stream<Item = io::Result<Bytes>> {
    stream::try_unfold(file, async |mut file| {
        let mut chunk = Vec::with_capacity(CHUNK);
        let read = (&mut file).take(CHUNK as u64).read_to_end(&mut chunk).await?;
        Ok::<_, io::Error>((read > 0).then(|| (Bytes::from(chunk), file)))
    })
    .into_stream()
}
