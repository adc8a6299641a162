//! Whose calls no rate limit counts: the owner of a token that claims [`Claims::uncounted`], which is a
//! load driver of the operator's. Shedding, bodies, streams, connections, sign-ups and log-ins are
//! bounded for them as for everybody.
//!
//! A role counts the address before it checks a token, so that whoever calls too often costs no check. A
//! claim is worth something only after a check, so it is looked at first, and **what strangers can make
//! this cost has a bound**:
//!
//! - Without the claim nothing is checked: [`claims_uncounted`] reads a few letters.
//! - A token that was checked before is known ([`Verifier`]), until it ends or its session does.
//! - A check that fails is noted, and after [`FAILED_MAX`] of them within [`PERIOD`] no claim of the
//!   address is checked any more: it is counted, and refused, as everybody is.
//!
//! [`Claims::uncounted`]: super::token::Claims::uncounted

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use http::HeaderValue;
use parking_lot::Mutex;

use super::{
    auth::{Verified, Verifier, bearer, hash_of},
    limits::counted_as,
    token::claims_uncounted,
};
use crate::rt::Instant;

/// Checks of a claim that may fail for one address within [`PERIOD`], at each replica: about 1.5 ms of
/// one core.
const FAILED_MAX: u32 = 30;
/// After so long failures are forgotten.
const PERIOD: Duration = Duration::from_mins(1);
/// Addresses whose failures are kept. While there are as many no other address is checked, so all
/// strangers together cost some 120,000 checks a minute at most, a tenth of one core.
const ADDRESSES_MAX: usize = 4_096;
/// The first claim at a gateway waits so long for the keys, which nobody asked for before: a few calls to
/// the user role. If it does not answer the call is counted.
const KEYS_WAIT: Duration = Duration::from_millis(250);

/// Checks that failed, by address (`None` within a process).
#[derive(Default)]
pub(super) struct Failures(Mutex<Minute>);

#[derive(Default)]
struct Minute {
    began: Option<Instant>,
    failed: BTreeMap<Option<IpAddr>, u32>,
}

impl Failures {
    /// Whether another check may be made for this address.
    fn may_check(&self, address: Option<IpAddr>, now: Instant) -> bool {
        let minute = &mut *self.0.lock();
        if minute.began.is_none_or(|began| now.since(began) >= PERIOD) {
            minute.began = Some(now);
            minute.failed.clear();
        }
        match minute.failed.get(&address) {
            Some(failed) => *failed < FAILED_MAX,
            None => minute.failed.len() < ADDRESSES_MAX,
        }
    }

    fn add(&self, address: Option<IpAddr>) {
        *self.0.lock().failed.entry(address).or_default() += 1;
    }
}

impl Verifier {
    /// The owner of the token in an `Authorization` header, if no limit counts them.
    pub(super) async fn uncounted(
        &self,
        authorization: Option<&HeaderValue>,
        address: Option<IpAddr>,
    ) -> Option<Arc<Verified>> {
        let token = authorization.and_then(bearer).filter(|token| claims_uncounted(token))?;
        let hash = hash_of(token);
        let valid = |owner: &Arc<Verified>| owner.uncounted && self.still_valid(owner);
        if let Some(owner) = self.seen(hash, token) {
            return Some(owner).filter(valid);
        }
        let address = address.map(counted_as);
        if !self.failures.may_check(address, self.now()) {
            return None;
        }
        // Before revocations were heard nobody can tell whether the session was ended.
        let ready = Box::pin(self.ready_within(KEYS_WAIT)).await;
        let owner = if ready { self.check(hash, token).filter(valid) } else { None };
        if owner.is_none() {
            // Here and not before the check: whoever drives load begins with many tokens at once.
            self.failures.add(address);
        }
        owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_fails_a_few_times_a_minute_and_strangers_together_are_bounded() {
        let failures = Failures::default();
        let at = |s: u64| Instant::from_start(Duration::from_secs(s));
        let address = |n: u32| Some(IpAddr::from(n.to_be_bytes()));
        for _ in 0..FAILED_MAX {
            assert!(failures.may_check(address(1), at(5)));
            failures.add(address(1));
        }
        assert!(!failures.may_check(address(1), at(64)));
        assert!(failures.may_check(address(2), at(64)), "another one is not touched");
        for n in 2..=ADDRESSES_MAX as u32 {
            failures.add(address(n));
        }
        assert!(failures.may_check(address(2), at(64)), "it is among those that are kept");
        assert!(!failures.may_check(address(0), at(64)));
        assert!(failures.may_check(address(0), at(65)), "all is forgotten");
        assert!(failures.may_check(address(1), at(65)));
    }
}
