//! Pictures in a bucket of S3, as an emulator has it: signatures are checked there. It takes what is not
//! signed at all, and does not know that a copy can depend on its target; S3 does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use chirp::{
    adapters::s3::S3Blobs,
    config::{Aws, Secret},
    domain::{MediaId, MediaKind},
    ports::{
        BlobStore, Outcome, Presigned,
        contract::{Outage, blobs},
    },
    rt::{Rt, tokio_rt::TokioRuntime},
};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use tokio::{runtime, task::block_in_place};

use crate::support::{
    proxy::{Proxy, Rule},
    run::{Backend, Scenario, answers, hold, scenarios},
    server::Container,
};

pub const SCENARIOS: &[Scenario<Server>] = scenarios![
    pictures_in_a_bucket_keep_their_contract,
    a_signed_url_permits_what_was_signed_and_nothing_else,
    a_bucket_is_prepared_again_without_harm_and_a_missing_one_is_told,
];

const KIND: MediaKind = MediaKind::Png;
const TTL: Duration = Duration::from_mins(1);

/// An emulator.
#[derive(Clone)]
pub struct Server {
    port: u16,
    rt: Rt,
}

impl Backend for Server {
    const NAME: &'static str = "ministack";

    async fn begin(container: &Container) -> Self {
        let server = Self { port: container.port, rt: TokioRuntime::handle() };
        let blobs = S3Blobs::new(&Self::config(server.port)).await;
        answers(container, async || blobs.prepare().await).await;
        server
    }
}

impl Server {
    /// A bucket of its own, by this port.
    fn config(port: u16) -> Aws {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let config = Aws {
            endpoint: format!("http://127.0.0.1:{port}"),
            access_key_id: "test".to_owned(),
            access_key_secret: Secret("test".to_owned()),
            bucket: format!("pictures-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            attempt_ms: 10_000,
            ..Aws::default()
        };
        config.validate().unwrap();
        config
    }

    async fn bucket(&self) -> (S3Blobs, Guest) {
        let config = Self::config(self.port);
        let blobs = S3Blobs::new(&config).await;
        blobs.prepare().await.unwrap();
        (blobs, Guest::of(&config))
    }
}

/// A client without any right of its own.
struct Guest {
    client: Client<HttpConnector, Full<Bytes>>,
    base: String,
}

impl Guest {
    fn of(config: &Aws) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, base: format!("{}/{}", config.endpoint, config.bucket) }
    }

    /// The status of a `PUT`.
    async fn puts(&self, url: &str, kind: &str, bytes: Bytes) -> u16 {
        let request = http::Request::put(url).header("content-type", kind);
        let request = request.body(Full::new(bytes)).unwrap();
        self.client.request(request).await.map_or(0, |answer| answer.status().as_u16())
    }
}

#[async_trait]
impl blobs::Visitor for Guest {
    async fn sends(&self, to: &Presigned, kind: MediaKind, bytes: Bytes) -> bool {
        (200..300).contains(&self.puts(&to.url, kind.as_str(), bytes).await)
    }

    async fn gets(&self, id: MediaId) -> Option<(String, Bytes)> {
        let url = format!("{}/m/{id}", self.base);
        let request = http::Request::get(url).body(Full::default()).unwrap();
        let answer = self.client.request(request).await.unwrap();
        if answer.status() != 200 {
            return None;
        }
        let kind = answer.headers()["content-type"].to_str().unwrap().to_owned();
        Some((kind, answer.into_body().collect().await.unwrap().to_bytes()))
    }
}

async fn pictures_in_a_bucket_keep_their_contract(server: Server) {
    let rt = server.rt.clone();
    hold(&rt, blobs::BEHAVIOURS, || {
        let proxy = Proxy::before(server.port);
        let config = Server::config(proxy.port);
        let store = block_in_place(|| {
            runtime::Handle::current().block_on(async {
                let store = S3Blobs::new(&config).await;
                store.prepare().await.unwrap();
                store
            })
        });
        let visitor = Arc::new(Guest::of(&config));
        let outage = Some(Outage::new(move |_| proxy.set(Rule::Refuse)));
        blobs::Context { blobs: Arc::new(store), visitor, rt: rt.clone(), outage }
    })
    .await;
}

async fn a_signed_url_permits_what_was_signed_and_nothing_else(server: Server) {
    let (store, guest) = server.bucket().await;
    let id = MediaId(7);
    let bytes = Bytes::from_static(b"\x89PNG\r\n\x1a\nsome");
    let url = store.presign(id, KIND, bytes.len() as u64, TTL).await.unwrap().url;
    let forged = [
        url.replace(&id.to_string(), &MediaId(8).to_string()),
        url.replace("/up/", "/m/"),
        url.replace("X-Amz-Expires=60", "X-Amz-Expires=61"),
    ];
    for forged in &forged {
        assert_eq!(guest.puts(forged, KIND.as_str(), bytes.clone()).await, 403, "{forged}");
    }
    assert_eq!(guest.puts(&url, "text/html", bytes.clone()).await, 403, "another type");
    let longer = Bytes::from([&bytes[..], b"!"].concat());
    assert_eq!(guest.puts(&url, KIND.as_str(), longer).await, 403, "another size");
    assert_eq!(store.look(id).await.unwrap(), None);
    assert!(!url.contains("test%3Atest") && url.starts_with(&guest.base), "{url}");
    assert_eq!(guest.puts(&url, KIND.as_str(), bytes.clone()).await, 200);
    let short = store.presign(id, KIND, bytes.len() as u64, Duration::from_secs(1)).await.unwrap();
    server.rt.sleep(Duration::from_secs(3)).await;
    assert_eq!(guest.puts(&short.url, KIND.as_str(), bytes).await, 403, "it has expired");
}

async fn a_bucket_is_prepared_again_without_harm_and_a_missing_one_is_told(server: Server) {
    let config = Server::config(server.port);
    let store = S3Blobs::new(&config).await;
    let error = store.publish(MediaId(1), "\"0\"", KIND).await;
    assert!(matches!(error, Outcome::Failed(_)), "{error:?}");
    assert!(!format!("{error:?} {store:?}").contains("access_key_secret"));
    store.prepare().await.unwrap();
    let url = store.presign(MediaId(1), KIND, 3, TTL).await.unwrap().url;
    assert_eq!(Guest::of(&config).puts(&url, KIND.as_str(), "abc".into()).await, 200);
    store.prepare().await.unwrap();
    assert_eq!(store.look(MediaId(1)).await.unwrap().unwrap().bytes, 3);
    let elsewhere = Aws { endpoint: "http://127.0.0.1:1".to_owned(), ..config };
    assert!(S3Blobs::new(&elsewhere).await.prepare().await.is_err());
}
