//! The folder of pictures: what its URLs permit, what its answers say, what a crash leaves.

use axum::{Router, body::Body};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tower::ServiceExt as _;

use super::{serve::router, *};
use crate::rt::tokio_rt::TokioRuntime;

const ID: MediaId = MediaId(7);
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n and the rest";
const TTL: Duration = Duration::from_mins(1);

struct Folder {
    dir: tempfile::TempDir,
    blobs: FileBlobs,
    routes: Router,
}

impl Folder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let blobs = FileBlobs::open(dir.path(), "a token", TokioRuntime::handle()).unwrap();
        let routes = router(blobs.clone());
        Self { dir, blobs, routes }
    }

    async fn signs(&self, bytes: usize, ttl: Duration) -> String {
        self.blobs.presign(ID, MediaKind::Png, bytes as u64, ttl).await.unwrap().url
    }

    async fn puts(&self, url: &str, body: Body, length: usize) -> u16 {
        let request = Request::put(format!("/{url}"))
            .header("content-type", "image/png")
            .header("content-length", length);
        self.asks(request.body(body).unwrap()).await.status().as_u16()
    }

    async fn asks(&self, request: Request<Body>) -> Response<Body> {
        let Ok(answer) = self.routes.clone().oneshot(request).await;
        answer
    }

    /// What lies in the folders: uploaded, published, unfinished.
    fn holds(&self) -> [usize; 3] {
        FOLDERS
            .map(|folder| fs::read_dir(self.dir.path().join(FOLDER).join(folder)).unwrap().count())
    }
}

#[tokio::test]
async fn a_url_permits_what_was_signed_and_nothing_else() {
    let folder = Folder::new();
    let url = folder.signs(PNG.len(), TTL).await;
    let other = MediaId(8).to_string();
    let forged = [
        url.replace(&ID.to_string(), &other),
        url.replace("type=image/png", "type=image/gif"),
        url.replace("bytes=", "bytes=1"),
        url.replace("expires=", "expires=9"),
        url.replace("signature=", "signature=A"),
        url.split("&signature").next().unwrap().to_owned(),
        url.split('?').next().unwrap().to_owned(),
        url.replace(&ID.to_string(), "..%2F..%2Fuser.db"),
    ];
    for forged in forged {
        assert_eq!(folder.puts(&forged, Body::from(PNG), PNG.len()).await, 403, "{forged}");
    }
    let elsewhere = FileBlobs::open(folder.dir.path(), "another", TokioRuntime::handle()).unwrap();
    let foreign = elsewhere.presign(ID, MediaKind::Png, PNG.len() as u64, TTL).await.unwrap().url;
    assert_eq!(folder.puts(&foreign, Body::from(PNG), PNG.len()).await, 403, "another's key");
    let late = folder.signs(PNG.len(), Duration::ZERO).await;
    assert_eq!(folder.puts(&late, Body::from(PNG), PNG.len()).await, 403, "it has expired");
    assert_eq!(folder.holds(), [0, 0, 0], "nothing was written");
    assert_eq!(folder.puts(&url, Body::from(PNG), PNG.len()).await, 204);
    assert_eq!(folder.holds(), [1, 0, 0]);
}

#[tokio::test]
async fn a_body_of_another_size_than_it_says_leaves_nothing() {
    let folder = Folder::new();
    let url = folder.signs(PNG.len(), TTL).await;
    for body in [&PNG[1..], &[PNG, b"!"].concat()] {
        assert_eq!(folder.puts(&url, Body::from(body.to_vec()), PNG.len()).await, 422);
    }
    let broken = futures_util::stream::iter([Ok(&PNG[..5]), Err(io::Error::other("torn"))]);
    assert_eq!(folder.puts(&url, Body::from_stream(broken), PNG.len()).await, 422);
    assert_eq!(folder.holds(), [0, 0, 0]);
}

#[tokio::test]
async fn a_picture_is_served_so_that_it_can_do_nothing() {
    let folder = Folder::new();
    // A picture to its first bytes, a page to whoever would guess.
    let mixed = b"GIF89a/*<script>alert(1)</script>*/=1;".as_slice();
    let signed = folder.blobs.presign(ID, MediaKind::Png, mixed.len() as u64, TTL).await.unwrap();
    assert_eq!(folder.puts(&signed.url, Body::from(mixed), mixed.len()).await, 204);
    let version = folder.blobs.look(ID).await.unwrap().unwrap().version;
    let published = folder.blobs.publish(ID, &version, MediaKind::Gif).await;
    assert_eq!(published, Outcome::Done(true));
    let path = format!("/media/m/{ID}");
    let answer = folder.asks(Request::get(&path).body(Body::empty()).unwrap()).await;
    let header = |name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(answer.status(), 200);
    assert_eq!(header("content-type"), "image/gif", "as the bytes say, not as was promised");
    assert_eq!(header("x-content-type-options"), "nosniff");
    assert_eq!(header("content-security-policy"), "sandbox; default-src 'none'");
    assert_eq!(header("cache-control"), "public, max-age=86400, immutable");
    assert_eq!(header("content-length"), mixed.len().to_string());
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), mixed);
    for (method, path, status) in [
        ("GET", format!("/media/m/{}", MediaId(9)), 404),
        ("GET", "/media/m/..%2Fup%2Fx".to_owned(), 404),
        ("DELETE", path.clone(), 405),
        ("GET", format!("/media/up/{ID}"), 405),
        ("HEAD", path, 200),
    ] {
        let request = Request::builder().method(method).uri(&path).body(Body::empty()).unwrap();
        let answer = folder.asks(request).await;
        assert_eq!(answer.status(), status, "{method} {path}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
    }
}

#[tokio::test]
async fn of_those_who_publish_at_once_one_does() {
    let folder = Folder::new();
    let url = folder.signs(PNG.len(), TTL).await;
    assert_eq!(folder.puts(&url, Body::from(PNG), PNG.len()).await, 204);
    let version = folder.blobs.look(ID).await.unwrap().unwrap().version;
    let publish = || folder.blobs.publish(ID, &version, MediaKind::Png);
    let all = futures_util::future::join_all((0..8).map(|_| publish())).await;
    assert_eq!(all.iter().filter(|one| **one == Outcome::Done(true)).count(), 1, "{all:?}");
    assert_eq!(folder.holds(), [1, 1, 0]);
}

#[tokio::test]
async fn what_a_crash_left_unfinished_is_removed_and_what_is_at_work_is_not() {
    let folder = Folder::new();
    let tmp = folder.dir.path().join(FOLDER).join("tmp");
    let old = File::create(tmp.join(format!("{ID}.1"))).unwrap();
    let age = LEFT_BEHIND + Duration::from_mins(1);
    old.set_modified(std::time::SystemTime::now() - age).unwrap();
    File::create(tmp.join(format!("{ID}.2"))).unwrap();
    FileBlobs::open(folder.dir.path(), "a token", TokioRuntime::handle()).unwrap();
    assert_eq!(folder.holds(), [0, 0, 1]);
}
