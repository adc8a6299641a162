//! A client of admin listeners: one call, one connection, a time limit.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;

use crate::{
    adapters::proof::Proof,
    services::kit::{Secret, call::SERVICE_TOKEN},
};

/// The most that a call waits for.
const LIMIT: Duration = Duration::from_secs(10);
/// The largest answer that is read: all metrics of a process fit many times.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    /// Somebody listens who does not know the token: it was not sent.
    #[error("the port is another program's by now")]
    Stranger(#[source] std::io::Error),
    /// It was asked and did not answer in time.
    #[error("no answer within {} s", LIMIT.as_secs())]
    Timeout,
    /// The connection broke, or what came is not HTTP or too much.
    #[error("the answer broke off")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `None` if it is not 2xx or not of this shape.
    #[must_use]
    pub fn json<T: DeserializeOwned>(&self) -> Option<T> {
        if self.status / 100 == 2 { serde_json::from_slice(&self.body).ok() } else { None }
    }
}

/// `GET path` at `address`.
///
/// # Errors
/// [`ClientError`] if there is no whole answer.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer, ClientError> {
    call(address, Method::GET, path, None).await
}

/// `POST path` at `address`, with the token that allows to change something.
///
/// # Errors
/// [`ClientError`] if there is no whole answer.
pub async fn post(address: SocketAddr, path: &str, token: &Secret) -> Result<Answer, ClientError> {
    call(address, Method::POST, path, Some(token)).await
}

async fn call(
    address: SocketAddr,
    method: Method,
    path: &str,
    token: Option<&Secret>,
) -> Result<Answer, ClientError> {
    let host = address.to_string();
    let mut request = Request::builder().method(method).uri(path).header("host", host);
    if let Some(token) = token {
        request = request.header(SERVICE_TOKEN, &*token.0);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(broken)?;
    let work = async {
        let mut stream =
            tokio::net::TcpStream::connect(address).await.map_err(ClientError::Connect)?;
        if let Some(token) = token {
            let at = stream.peer_addr().map_err(ClientError::Connect)?;
            let proof = Proof::new(&token.0);
            proof.demand(&mut stream, at, None).await.map_err(ClientError::Stranger)?;
        }
        let io = TokioIo::new(stream);
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.map_err(broken)?;
        // Ends when the sender is dropped below.
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
        let body = body.collect().await.map_err(ClientError::Broken)?.to_bytes();
        Ok(Answer { status, body })
    };
    tokio::time::timeout(LIMIT, work).await.map_err(|_| ClientError::Timeout)?
}

fn broken(error: impl std::error::Error + Send + Sync + 'static) -> ClientError {
    ClientError::Broken(Box::new(error))
}
