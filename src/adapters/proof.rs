//! Whoever listens at an address proves that it knows the service token, before it is sent anything.
//!
//! An address outlives the process that had it: after kill -9 a stranger may listen there. So every
//! new connection begins with a question, `GET` [`PATH`] with a nonce and the address that was
//! called, and the answer carries an HMAC-SHA256 of both under the token. The callee proves nothing
//! for an address that is not its own; so a stranger cannot have the proof made by a role elsewhere.
//! What is bound to a connection is proven once for all that is sent on it: token, passwords and
//! access tokens of users alike, which a signature on each request would hand over.

use std::{io, net::SocketAddr};

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
pub struct Proof(hmac::Key);

impl std::fmt::Debug for Proof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Proof(..)")
    }
}

impl Proof {
    /// Proofs of `token`.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()))
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
        let (nonce, at) = query.strip_prefix("nonce=")?.split_once("&at=")?;
        let sane = nonce.len() == NONCE_DIGITS && nonce.bytes().all(|b| b.is_ascii_hexdigit());
        let at: SocketAddr = at.parse().ok().filter(|at| sane && same(*at, here))?;
        let tag = hmac::sign(&self.0, message(nonce, at).as_bytes());
        let mut digits = [0; PROOF_DIGITS];
        hex(tag.as_ref(), &mut digits);
        HeaderValue::from_bytes(&digits).ok()
    }

    /// Demands the proof of whoever is at the other end of a fresh connection to `at`. Sends nothing
    /// that is secret.
    ///
    /// # Errors
    /// If it is not given; the connection is of no use then.
    pub async fn demand<S>(&self, stream: &mut S, at: SocketAddr) -> io::Result<()>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut bytes, mut nonce) = ([0; NONCE_DIGITS / 2], [0; NONCE_DIGITS]);
        rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no randomness"))?;
        hex(&bytes, &mut nonce);
        let nonce = String::from_utf8_lossy(&nonce);
        let head = format!("GET {PATH}?nonce={nonce}&at={at} HTTP/1.1\r\nhost: chirp\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let read = stream.read_buf(&mut answer).await?;
            if read == 0 || answer.len() > ANSWER_BYTES_MAX {
                return Err(stranger());
            }
        }
        let tag = shown(&answer).ok_or_else(stranger)?;
        let valid = hmac::verify(&self.0, message(&nonce, at).as_bytes(), &tag);
        valid.map_err(|_| stranger())
    }
}

fn message(nonce: &str, at: SocketAddr) -> String {
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
