//! The text of a tweet.

/// The longest tweet, in Unicode scalar values.
pub const TEXT_MAX: usize = 280;

/// Why a text was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Nothing but white space.
    #[error("a tweet is not empty")]
    Empty,
    /// Longer than [`TEXT_MAX`].
    #[error("a tweet has at most 280 characters")]
    TooLong,
    /// Has a control character other than a line break or a tab.
    #[error("a tweet has no control characters")]
    Control,
}

/// A tweet's text: 1 to 280 characters, not blank, no control characters but line breaks and tabs.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TweetText(String);

impl TweetText {
    /// Checks `text`; it is kept as it is.
    ///
    /// # Errors
    /// [`TextError`] if it is blank, too long or has control characters.
    pub fn parse(text: &str) -> Result<Self, TextError> {
        if text.trim().is_empty() {
            return Err(TextError::Empty);
        }
        // A character is at most four bytes: this bounds the count below.
        if text.len() > TEXT_MAX * 4 || text.chars().count() > TEXT_MAX {
            return Err(TextError::TooLong);
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err(TextError::Control);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_counted_in_characters() {
        assert!(TweetText::parse(&"é".repeat(280)).is_ok());
        assert_eq!(TweetText::parse(&"é".repeat(281)), Err(TextError::TooLong));
    }

    #[test]
    fn blank_and_control_texts_are_refused() {
        assert_eq!(TweetText::parse(" \n\t"), Err(TextError::Empty));
        assert_eq!(TweetText::parse("a\u{0}b"), Err(TextError::Control));
        assert!(TweetText::parse("two\nlines").is_ok());
    }
}
