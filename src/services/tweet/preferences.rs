//! What a client asks for beside the tweet: `Idempotency-Key` and `Prefer: wait=N`.

use std::time::Duration;

use http::{HeaderMap, HeaderName};
use sha2::{Digest, Sha256};

use crate::{ports::IdempotencyKey, services::kit::Fault};

/// Names one attempt to post.
pub(super) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// RFC 7240.
pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
/// RFC 7240.
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
/// Set to `true` on the answer to a key that was used before.
pub(super) const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// The longest key.
const KEY_MAX: usize = 128;
/// The longest wait, in seconds.
const WAIT_MAX_S: u64 = 30;

/// The client's key with the hash of the body it stands for.
pub(super) fn idempotency_key(
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<IdempotencyKey>, Fault> {
    let wrong = || {
        Fault::field(
            "idempotency-key",
            "a key has 1 to 128 visible ascii characters and is sent once",
        )
    };
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let key = key.as_bytes();
    let fits = (1..=KEY_MAX).contains(&key.len()) && key.iter().all(u8::is_ascii_graphic);
    if !fits || keys.next().is_some() {
        return Err(wrong());
    }
    let key = std::str::from_utf8(key).map_err(|_| wrong())?.to_owned();
    Ok(Some(IdempotencyKey { key, body_hash: Sha256::digest(body).into() }))
}

/// How long the client wants to wait for the projection. As RFC 7240 asks, a preference that is not
/// understood is ignored.
pub(super) fn wait(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split([',', ';']));
    let seconds: u64 = preferences.find_map(|preference| {
        let (name, seconds) = preference.split_once('=')?;
        name.trim().eq_ignore_ascii_case("wait").then(|| seconds.trim().parse().ok()).flatten()
    })?;
    (1..=WAIT_MAX_S).contains(&seconds).then_some(seconds)
}

/// A wait in seconds, cut so that the plain answer still arrives within `request_limit`.
pub(super) fn bounded(seconds: u64, request_limit: Duration) -> Duration {
    Duration::from_secs(seconds).min(request_limit * 3 / 4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_preference_that_is_not_understood_is_ignored() {
        for (value, seconds) in [
            ("wait=5", Some(5)),
            ("respond-async, WAIT = 30", Some(30)),
            ("wait=0", None),
            ("wait=31", None),
            ("wait=soon", None),
            ("return=minimal", None),
        ] {
            assert_eq!(wait(&headers(&[(PREFER, value)])), seconds, "{value}");
        }
    }

    #[test]
    fn a_key_is_short_visible_and_sent_once() {
        let key = |pairs: &[&str]| {
            let pairs: Vec<_> = pairs.iter().map(|key| (IDEMPOTENCY_KEY, *key)).collect();
            idempotency_key(&headers(&pairs), b"body")
        };
        assert!(key(&[]).unwrap().is_none());
        assert_eq!(key(&["k-1"]).unwrap().unwrap().key, "k-1");
        for bad in [&["two words"][..], &[""], &[&"x".repeat(129)], &["a", "b"]] {
            assert_eq!(key(bad).unwrap_err().problem(None).status, 422, "{bad:?}");
        }
    }
}
