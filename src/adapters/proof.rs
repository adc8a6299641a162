//! Whoever listens at an address proves that it knows the service token, before it is sent anything.
//!
//! An address outlives the process that had it: after kill -9 a stranger may listen there. So every
//! new connection begins with a question, `GET` [`PATH`] with a nonce and the address that was
//! called, and the answer carries an HMAC-SHA256 of both under the token. The callee proves nothing
//! for an address that is not its own; so a stranger cannot have the proof made by a role elsewhere.
//! Where the address that is called is not the one that is bound (a virtual address, a forwarded
//! port), the caller also says by which name it came there, and the callee proves that, but only a
//! name that its configuration allows: whoever can lead such a name elsewhere can stand in between.
//! What is bound to a connection is proven once for all that is sent on it: token, passwords and
//! access tokens of users alike, which a signature on each request would hand over.

use std::{io, net::SocketAddr, sync::Arc};

use aws_lc_rs::{hmac, rand};
use axum::body::Body;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::wire::trace::hex;

/// Where a listener is asked for its proof.
pub const PATH: &str = "/.well-known/chirp-proof";
/// Carries the proof.
const HEADER: HeaderName = HeaderName::from_static("x-chirp-proof");
/// Largest head of an answer that is read, in bytes; ours have some 150.
const ANSWER_BYTES_MAX: usize = 1_024;
/// Hexadecimal digits of a nonce: it must not come twice.
const NONCE_DIGITS: usize = 32;
/// Hexadecimal digits of a proof.
const PROOF_DIGITS: usize = 64;

/// Gives proofs of one token, and demands them.
#[derive(Clone)]
pub struct Proof {
    key: hmac::Key,
    names: Arc<[String]>,
}

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof(..)")
    }
}

impl Proof {
    /// Proofs of `token`.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()), names: Arc::default() }
    }

    /// Also proves `names`, each as `host:port`, wherever the connection was made to.
    #[must_use]
    pub fn of_names<'a>(self, names: impl Iterator<Item = &'a str>) -> Self {
        Self { names: names.map(str::to_owned).collect(), ..self }
    }

    /// The answer to a question whose query is `query`, on a connection that was made to `here`: 204
    /// with the proof, or 404.
    #[must_use]
    pub fn answer(&self, query: Option<&str>, here: SocketAddr) -> Response<Body> {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::NOT_FOUND;
        if let Some(proof) = query.and_then(|query| self.prove(query, here)) {
            answer.headers_mut().insert(HEADER, proof);
            *answer.status_mut() = StatusCode::NO_CONTENT;
        }
        answer
    }

    fn prove(&self, query: &str, here: SocketAddr) -> Option<HeaderValue> {
        let (nonce, called) = query.strip_prefix("nonce=")?.split_once("&at=")?;
        let sane = nonce.len() == NONCE_DIGITS && nonce.bytes().all(|b| b.is_ascii_hexdigit());
        let is_here = |at: &str| at.parse().is_ok_and(|at| same(at, here));
        let mut called = called.split("&as=").take(2).filter(|_| sane);
        let own = called.find(|at| is_here(at) || self.names.iter().any(|name| name == at))?;
        let tag = hmac::sign(&self.key, message(nonce, own).as_bytes());
        let mut digits = [0; PROOF_DIGITS];
        hex(tag.as_ref(), &mut digits);
        HeaderValue::from_bytes(&digits).ok()
    }

    /// Demands the proof of whoever is at the other end of a fresh connection to `at`, which was found
    /// under the name `name` (`host:port`) if under any. Sends nothing that is secret.
    ///
    /// # Errors
    /// If it is not given; the connection is of no use then.
    pub async fn demand<S>(
        &self,
        stream: &mut S,
        at: SocketAddr,
        name: Option<&str>,
    ) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut bytes, mut nonce) = ([0; NONCE_DIGITS / 2], [0; NONCE_DIGITS]);
        rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no randomness"))?;
        hex(&bytes, &mut nonce);
        let nonce = String::from_utf8_lossy(&nonce);
        let called_as = name.map(|name| format!("&as={name}")).unwrap_or_default();
        let head =
            format!("GET {PATH}?nonce={nonce}&at={at}{called_as} HTTP/1.1\r\nhost: chirp\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let read = stream.read_buf(&mut answer).await?;
            if read == 0 || answer.len() > ANSWER_BYTES_MAX {
                return Err(stranger());
            }
        }
        let tag = shown(&answer).ok_or_else(stranger)?;
        let at = at.to_string();
        let valid =
            |at: &str| hmac::verify(&self.key, message(&nonce, at).as_bytes(), &tag).is_ok();
        if valid(&at) || name.is_some_and(valid) { Ok(()) } else { Err(stranger()) }
    }
}

fn message(nonce: &str, at: &str) -> String {
    format!("chirp: who listens at {at}? {nonce}")
}

/// The proof in the head of an answer.
fn shown(head: &[u8]) -> Option<[u8; PROOF_DIGITS / 2]> {
    let head = std::str::from_utf8(head).ok()?.strip_prefix("HTTP/1.1 204")?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, digits) = fields.find(|(name, _)| name.eq_ignore_ascii_case(HEADER.as_str()))?;
    let digits = Some(digits.trim()).filter(|d| d.len() == PROOF_DIGITS && d.is_ascii())?;
    let mut tag = [0; PROOF_DIGITS / 2];
    for (byte, at) in tag.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&digits[at..at + 2], 16).ok()?;
    }
    Some(tag)
}

/// An IPv4 address may come in the clothes of IPv6.
fn same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip().to_canonical(), one.port()) == (other.ip().to_canonical(), other.port())
}

fn stranger() -> io::Error {
    let why = "whoever listens there does not prove to be of this system";
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}
