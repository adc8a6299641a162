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
        const HEX: [char; 16] =
            ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
        // Every request without a trace makes one: one allocation, no formatting.
        let mut text = String::with_capacity(55);
        text.push_str("00-");
        for (at, byte) in random.into_iter().enumerate() {
            if at == 16 {
                text.push('-');
            }
            text.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
        text.push_str("-01");
        Self(text)
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
        Self(format!("00-{}-{span:016x}-01", self.trace_id()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_read_back_and_a_malformed_one_is_not() {
        let trace = TraceContext::new([7; 24]);
        assert_eq!(TraceContext::parse(trace.as_str()), Some(trace.clone()));
        assert_eq!(trace.child(5).trace_id(), trace.trace_id());
        for bad in ["", "00-zz", "01-07-07-01", &format!("{}-00", trace.as_str())] {
            assert_eq!(TraceContext::parse(bad), None, "{bad:?}");
        }
    }
}
