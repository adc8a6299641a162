//! W3C trace context, carried in the `traceparent` header and in every event.

use serde::{Deserialize, Serialize};

/// The header's name.
pub const TRACEPARENT: &str = "traceparent";

/// Trace and parent span of whatever is being done, as `00-<32 hex>-<16 hex>-<2 hex>`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TraceContext(String);

impl TraceContext {
    /// A new trace out of 24 random bytes.
    #[must_use]
    pub fn new(random: [u8; 24]) -> Self {
        // Every request without a trace makes one: one allocation, no formatting.
        let mut text = *b"00-................................-................-01";
        hex(&random[..16], &mut text[3..35]);
        hex(&random[16..], &mut text[36..52]);
        Self(std::str::from_utf8(&text).expect("hex is ascii").to_owned())
    }

    /// Reads a `traceparent` header; `None` if it is malformed or of another version.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let fits = |part: Option<&str>, length: usize| {
            part.is_some_and(|p| {
                p.len() == length && p.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
            })
        };
        let ok = parts.next() == Some("00")
            && fits(parts.next(), 32)
            && fits(parts.next(), 16)
            && fits(parts.next(), 2)
            && parts.next().is_none();
        ok.then(|| Self(text.to_owned()))
    }

    /// The same trace, continued under the span `span`.
    #[must_use]
    pub fn child(&self, span: u64) -> Self {
        let mut text = *b"00-................................-................-01";
        text[3..35].copy_from_slice(self.trace_id().as_bytes());
        hex(&span.to_be_bytes(), &mut text[36..52]);
        Self(std::str::from_utf8(&text).expect("hex is ascii").to_owned())
    }

    /// The 32 hexadecimal digits of the trace.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }

    /// The header's value.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Writes `bytes` in lower-case hexadecimal into `out`, which is twice as long.
pub fn hex(bytes: &[u8], out: &mut [u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (byte, two) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back_and_a_malformed_one_is_not() {
        let trace = TraceContext::new([7; 24]);
        assert_eq!(TraceContext::parse(trace.as_str()), Some(trace.clone()));
        assert_eq!(trace.child(5).trace_id(), trace.trace_id());
        assert!(trace.child(5).as_str().ends_with("-0000000000000005-01"));
        for bad in ["", "00-zz", "01-07-07-01", &format!("{}-00", trace.as_str())] {
            assert_eq!(TraceContext::parse(bad), None, "{bad:?}");
        }
    }
}
