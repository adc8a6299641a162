//! Messages as texts, since SQS takes only what XML may contain, and batches that are not too large.

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use bytes::Bytes;

use crate::ports::bus::MESSAGE_BYTES_MAX;

/// What stands before a message in base64.
const PREFIX: &str = "base64:";

/// Whether XML 1.0 has the character.
fn plain(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// The text of a message: the message itself if it is such a text, as JSON nearly always is.
pub(super) fn encode(message: &[u8]) -> String {
    match std::str::from_utf8(message) {
        Ok(text) if !text.is_empty() && !text.starts_with(PREFIX) && text.chars().all(plain) => {
            text.to_owned()
        }
        _ => PREFIX.to_owned() + &BASE64.encode(message),
    }
}

/// The message of a text. What nobody encoded is taken as it is: the consumer judges it.
pub(super) fn decode(text: &str) -> Bytes {
    let encoded = text.strip_prefix(PREFIX).and_then(|encoded| BASE64.decode(encoded).ok());
    encoded.unwrap_or_else(|| text.as_bytes().to_vec()).into()
}

/// Places of `texts` in groups, in order, each of which one call may carry: all of its texts count
/// towards [`MESSAGE_BYTES_MAX`].
pub(super) fn groups(texts: &[String]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut bytes = usize::MAX;
    for (at, text) in texts.iter().enumerate() {
        bytes = bytes.saturating_add(text.len());
        match groups.last_mut() {
            Some(group) if bytes <= MESSAGE_BYTES_MAX => group.push(at),
            _ => {
                bytes = text.len();
                groups.push(vec![at]);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_as_a_text_that_xml_may_contain() {
        let all_bytes: Vec<u8> = (0..=255).collect();
        let messages: [&[u8]; 8] = [
            b"{\"v\":1}",
            "\t\n\r é \u{10FFFF}".as_bytes(),
            b"",
            b"base64:",
            b"base64:AAAA",
            b"nul \0",
            "not a character \u{FFFF}".as_bytes(),
            &all_bytes,
        ];
        for (at, message) in messages.into_iter().enumerate() {
            let text = encode(message);
            assert!(!text.is_empty() && text.chars().all(plain), "{text:?}");
            assert_eq!(text.as_bytes() == message, at < 2, "{text:?}");
            assert_eq!(decode(&text), message);
        }
        assert_eq!(decode("base64:?"), b"base64:?"[..]);
    }

    #[test]
    fn groups_have_every_text_once_and_are_as_large_as_they_may_be() {
        let texts =
            |sizes: &[usize]| sizes.iter().map(|&size| "x".repeat(size)).collect::<Vec<_>>();
        let max = MESSAGE_BYTES_MAX;
        assert_eq!(groups(&[]), Vec::<Vec<usize>>::new());
        assert_eq!(groups(&texts(&[max / 2, max / 2, 1])), [vec![0, 1], vec![2]]);
        assert_eq!(groups(&texts(&[1, max, 1, 1])), [vec![0], vec![1], vec![2, 3]]);
    }
}
