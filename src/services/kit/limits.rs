//! Rate limits as answers: 429 with `RateLimit-*` and `Retry-After`.

use std::net::{IpAddr, Ipv6Addr};

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{
    Common,
    answers::{Code, Fault},
};
use crate::{
    config::Http,
    ports::{Counted, Limit, Verdict},
};

const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("ratelimit-reset");

/// What counts as one address: an IPv4 address, or the /64 of an IPv6 address, as one subscriber has
/// at least that much (RFC 6177).
#[must_use]
pub fn counted_as(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = u128::MAX << 64;
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// How a counted call stands; shown in `RateLimit-*`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    limit: Limit,
    verdict: Verdict,
}

impl Standing {
    pub(super) fn show(self, headers: &mut HeaderMap) {
        headers.insert(LIMIT, HeaderValue::from(self.limit.burst));
        headers.insert(REMAINING, HeaderValue::from(self.verdict.remaining));
        let reset_s = self.verdict.reset_after.as_millis().div_ceil(1_000) as u64;
        headers.insert(RESET, HeaderValue::from(reset_s));
    }

    /// The fault of a call that went over the limit.
    pub(super) fn check(self) -> Result<Self, Fault> {
        if self.verdict.allowed {
            Ok(self)
        } else {
            let fault = Fault::from(Code::RateLimited).retry_after(self.verdict.retry_after);
            Err(fault.standing(self))
        }
    }
}

/// Counts calls. Gives how each stands, in order; none if the limiter does not answer: the system
/// rather serves too much than nothing.
pub(super) async fn count(common: &Common, calls: &[Counted<'_>]) -> Vec<Standing> {
    if calls.is_empty() {
        return Vec::new();
    }
    match common.limiter.check(calls).await {
        Ok(verdicts) => {
            let standing =
                |(call, verdict): (&Counted<'_>, _)| Standing { limit: call.limit, verdict };
            calls.iter().zip(verdicts).map(standing).collect()
        }
        Err(error) => {
            common.metrics.store_error(&error);
            tracing::warn!(%error, "a rate limit could not be checked");
            Vec::new()
        }
    }
}

/// Counts one call of `key` towards `calls` a minute and refuses it over the limit.
pub async fn allow(
    common: &Common,
    name: &'static str,
    key: &str,
    calls: u64,
) -> Result<(), Fault> {
    let call = Counted { name, key, limit: Http::per_minute(calls) };
    count(common, &[call]).await.pop().map_or(Ok(()), |standing| standing.check().map(drop))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_counts_as_its_network_and_an_ipv4_address_as_itself() {
        let counted = |text: &str| counted_as(text.parse().unwrap()).to_string();
        assert_eq!(counted("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:2:ffff::1"), "2001:db8:1:2::");
        assert_eq!(counted("2001:db8:1:3::1"), "2001:db8:1:3::");
        assert_eq!(counted("203.0.113.7"), "203.0.113.7");
        // As a listener that takes both families sees an ipv4 address.
        assert_eq!(counted("::ffff:203.0.113.7"), "203.0.113.7");
    }
}
