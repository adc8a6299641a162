//! What a user is called: the unique handle and the display name.

use std::fmt;

/// The longest handle, in characters.
pub const HANDLE_MAX: usize = 15;
/// The longest display name, in characters.
pub const NAME_MAX: usize = 50;

/// Why a handle or name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The handle is empty or longer than [`HANDLE_MAX`].
    #[error("a handle has 1 to 15 characters")]
    HandleLength,
    /// The handle has a character outside `a-z`, `0-9` and `_`.
    #[error("a handle has only letters a-z, digits and underscores")]
    HandleCharacter,
    /// The name is blank or longer than [`NAME_MAX`].
    #[error("a name has 1 to 50 characters")]
    NameLength,
    /// The name has a control character.
    #[error("a name has no control characters, nor any that turn the direction of text")]
    NameCharacter,
}

/// A unique handle, in lower case: two spellings that differ by case are the same handle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Handle(String);

impl Handle {
    /// Reads a handle, with or without a leading `@`, in any case.
    ///
    /// # Errors
    /// [`NameError`] if it is empty, too long or has a character that is not allowed.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_prefix('@').unwrap_or(text);
        if text.is_empty() || text.len() > HANDLE_MAX {
            return Err(NameError::HandleLength);
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(NameError::HandleCharacter);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }

    /// The handle, without `@`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a character changes the direction of what stands after it: a name with one could make the
/// handle beside it read as another (Unicode Technical Report 36).
const fn turns_text(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The name shown beside a tweet.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DisplayName(String);

impl DisplayName {
    /// Reads a name; blanks around it are cut off.
    ///
    /// # Errors
    /// [`NameError`] if it is blank, too long or has control characters.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        if text.is_empty() || text.chars().count() > NAME_MAX {
            return Err(NameError::NameLength);
        }
        if text.chars().any(|c| c.is_control() || turns_text(c)) {
            return Err(NameError::NameCharacter);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_is_one_whatever_its_case() {
        assert_eq!(Handle::parse("@Ada_1").unwrap(), Handle::parse("ada_1").unwrap());
    }

    #[test]
    fn bad_handles_are_refused() {
        for (text, why) in [
            ("", NameError::HandleLength),
            ("@", NameError::HandleLength),
            ("abcdefghijklmnop", NameError::HandleLength),
            ("a b", NameError::HandleCharacter),
            ("é", NameError::HandleCharacter),
            ("a/b", NameError::HandleCharacter),
        ] {
            assert_eq!(Handle::parse(text), Err(why), "{text:?}");
        }
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(DisplayName::parse("  Ada  ").unwrap().as_str(), "Ada");
        assert_eq!(DisplayName::parse("   "), Err(NameError::NameLength));
        assert_eq!(DisplayName::parse(&"x".repeat(51)), Err(NameError::NameLength));
        assert_eq!(DisplayName::parse("a\u{7}b"), Err(NameError::NameCharacter));
        assert_eq!(DisplayName::parse("Ben\u{202e}evil"), Err(NameError::NameCharacter));
    }
}
