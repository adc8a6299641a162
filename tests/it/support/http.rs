//! A small HTTP client for tests.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, Response, body::Incoming};
use hyper_util::{
    client::legacy::{Client as Pool, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Keeps connections open between calls, as browsers do.
#[derive(Clone)]
pub struct Client(Pool<HttpConnector, Full<Bytes>>);

impl Default for Client {
    fn default() -> Self {
        Self(Pool::builder(TokioExecutor::new()).build_http())
    }
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    async fn read(answer: Response<Incoming>) -> Result<Self, String> {
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        Ok(Self { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// A header as text; empty if it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as a type.
    pub fn json<T: DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {} {:?}", self.status, self.body))
    }

    /// The body as a problem's code, after checking that it is a problem with this status.
    pub fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let body: Value = self.json();
        assert_eq!(body["status"], self.status, "{body}");
        body["type"].as_str().unwrap().trim_start_matches("urn:chirp:problem:").to_owned()
    }

    /// The same, if the status is as expected.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self
    }
}

impl Client {
    /// `GET`, without a token.
    pub async fn get(&self, at: SocketAddr, path: &str) -> Result<Answer, String> {
        self.call(at, "GET", path, &[], None).await
    }

    /// Any call, to its end.
    pub async fn call(
        &self,
        at: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        Answer::read(self.open(at, method, path, headers, body).await?).await
    }

    /// Any call, to the head of its answer.
    pub async fn open(
        &self,
        at: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, String> {
        let json = [("content-type", "application/json")];
        let bytes = body.map(|body| serde_json::to_vec(body).unwrap());
        let headers = [if bytes.is_some() { &json[..] } else { &[] }, headers].concat();
        self.open_raw(at, method, path, &headers, bytes.unwrap_or_default()).await
    }

    /// Any call with a body that is sent as it is, to the end of the answer.
    pub async fn call_raw(
        &self,
        at: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer, String> {
        Answer::read(self.open_raw(at, method, path, headers, body).await?).await
    }

    async fn open_raw(
        &self,
        at: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, String> {
        let method: Method = method.parse().unwrap();
        let mut request = Request::builder().method(method).uri(format!("http://{at}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        self.0.request(request).await.map_err(|error| format!("{error}: {error:?}"))
    }
}
