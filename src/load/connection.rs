//! A virtual client: one connection that has one request at a time. There is no pool behind it.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::wire::problem::Problem;

/// A call that takes longer has an unknown end: above every limit of the system.
pub const CALL_MAX: Duration = Duration::from_secs(20);
/// A connection that cannot be made is tried again after this long.
const CONNECT_PAUSE: Duration = Duration::from_millis(50);
/// The longest that a connection may take to be made.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// The largest answer that is read: a page of 100 tweets fits many times.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// Where calls go.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its address.
    pub address: SocketAddr,
    /// The name and port under which it is called.
    pub host: HeaderValue,
    /// What stands before every path; empty, or begins with `/` and does not end with it.
    pub base: String,
}

impl Target {
    /// What listens at `address`.
    ///
    /// # Panics
    /// Never: an address is a header.
    #[must_use]
    pub fn of(address: SocketAddr) -> Self {
        let host = HeaderValue::try_from(address.to_string()).expect("an address is a header");
        Self { address, host, base: String::new() }
    }
}

/// A request before it is sent.
#[derive(Debug)]
pub struct Call<'a> {
    /// The method.
    pub method: Method,
    /// Path and query.
    pub path: &'a str,
    /// `Bearer` and the token.
    pub bearer: &'a HeaderValue,
    /// A body of JSON.
    pub body: Option<String>,
}

/// An answer, whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// What kind of error it is: the code of its problem, or its status.
    #[must_use]
    pub fn kind(&self) -> String {
        let problem = serde_json::from_slice::<Problem>(&self.body).ok();
        let code = problem.and_then(|problem| Some(problem.kind.rsplit_once(':')?.1.to_owned()));
        code.unwrap_or_else(|| format!("status {}", self.status))
    }
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// It was certainly not sent.
    Unreachable,
    /// It may have been done.
    Unknown,
}

/// One connection, made when it is needed.
pub struct Connection {
    target: Target,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Bytes of the bodies of requests and of answers so far.
    pub bytes: (u64, u64),
}

impl Connection {
    /// A connection that is not there yet.
    #[must_use]
    pub const fn new(target: Target) -> Self {
        Self { target, sender: None, bytes: (0, 0) }
    }

    async fn open(&self) -> Option<SendRequest<Full<Bytes>>> {
        let connect = async {
            let stream = TcpStream::connect(self.target.address).await.ok()?;
            stream.set_nodelay(true).ok()?;
            let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
            // It ends when the sender is dropped, or the other side hangs up.
            tokio::spawn(connection);
            Some(sender)
        };
        tokio::time::timeout(CONNECT_MAX, connect).await.ok()?
    }

    async fn ready(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, NoAnswer> {
        let alive = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !alive {
            self.sender = self.open().await;
            if self.sender.is_none() {
                tokio::time::sleep(CONNECT_PAUSE).await;
            }
        }
        self.sender.as_mut().ok_or(NoAnswer::Unreachable)
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`NoAnswer`]; the next call makes a new connection.
    pub async fn call(&mut self, call: &Call<'_>) -> Result<Answer, NoAnswer> {
        let exchanged = tokio::time::timeout(CALL_MAX, self.exchange(call)).await;
        let answer = exchanged.unwrap_or(Err(NoAnswer::Unknown));
        self.bytes.0 += call.body.as_ref().map_or(0, |body| body.len() as u64);
        self.bytes.1 += answer.as_ref().map_or(0, |answer| answer.body.len() as u64);
        if answer.is_err() {
            self.sender = None;
        }
        answer
    }

    async fn exchange(&mut self, call: &Call<'_>) -> Result<Answer, NoAnswer> {
        let mut request = self.request(call);
        // A server may hang up just before a request comes: that one was not sent, and is sent once more.
        for _ in 0..2 {
            let sender = self.ready().await?;
            match sender.try_send_request(request).await {
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    let body = http_body_util::Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
                    let body = body.collect().await.map_err(|_| NoAnswer::Unknown)?;
                    return Ok(Answer { status, body: body.to_bytes() });
                }
                Err(mut error) => match error.take_message() {
                    Some(unsent) => (request, self.sender) = (unsent, None),
                    None => return Err(NoAnswer::Unknown),
                },
            }
        }
        Err(NoAnswer::Unreachable)
    }

    fn request(&self, call: &Call<'_>) -> Request<Full<Bytes>> {
        let path = format!("{}{}", self.target.base, call.path);
        let mut request = Request::builder()
            .method(&call.method)
            .uri(path)
            .header(header::HOST, &self.target.host)
            .header(header::AUTHORIZATION, call.bearer);
        if call.body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = call.body.clone().unwrap_or_default();
        request.body(Full::new(Bytes::from(body))).expect("paths are made of handles and numbers")
    }
}
