//! A page as a driver reads it: only what is held against the record.

use std::borrow::Cow;

use serde::Deserialize;

use crate::domain::{TweetId, UserId};

/// A page.
#[derive(Debug, Default, Deserialize)]
pub struct Page<'a> {
    /// Newest first, as they came.
    #[serde(borrow)]
    pub tweets: Vec<Tweet<'a>>,
    /// Where the next page begins.
    #[serde(default)]
    pub next: Option<TweetId>,
    /// Something may be missing.
    #[serde(default)]
    pub degraded: bool,
}

impl<'a> Page<'a> {
    /// The page of an answer's body. Text is checked once and not string by string.
    ///
    /// # Errors
    /// It is none.
    pub fn read(body: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(body).map_err(|error| error.to_string())?;
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

/// A tweet.
#[derive(Clone, Debug, Deserialize)]
pub struct Tweet<'a> {
    /// The tweet.
    pub id: TweetId,
    /// Who wrote it.
    pub author: Author,
    /// The text.
    #[serde(borrow)]
    pub text: Cow<'a, str>,
}

/// An author.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Author {
    /// Who.
    pub id: UserId,
}

/// Which list a page is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// The reader's home timeline.
    Home,
    /// A user's own tweets.
    Author(u32),
}

/// A page that was read, with everything that it is judged by.
#[derive(Debug)]
pub struct Read<'a> {
    /// Who read, by rank.
    pub reader: u32,
    /// Which list.
    pub list: List,
    /// Below which tweet; absent for the newest page.
    pub before: Option<TweetId>,
    /// When it was asked for, in microseconds since the run began.
    pub asked_us: u64,
    /// When the answer was there, likewise.
    pub came_us: u64,
    /// The page.
    pub page: Page<'a>,
}

/// The name of a run in the text of its tweets, followed by the number of the post.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(String);

/// What the text of a tweet says of its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The post of this number.
    Post(u32),
    /// Written by the driver, and no post of the schedule.
    Driver,
    /// Something else.
    Foreign,
}

/// Filling that makes texts about as long as tweets are.
const FILLING: &str = "we set out before the light came up and the road was ours alone for an hour or two, \
    past the mill and the long field, until the others woke and there was talk and coffee and the day began";
/// The shortest text: as many characters of [`FILLING`] at least.
const FILLING_MIN: usize = 20;

impl Tag {
    /// The name of a run out of a random number.
    #[must_use]
    pub fn new(random: u64) -> Self {
        Self(format!("load.{:012x}.", random >> 16))
    }

    /// The text of a post.
    #[must_use]
    pub fn text(&self, post: u32) -> String {
        let spread = FILLING.len() - FILLING_MIN;
        // A step that shares no factor with the spread visits every length.
        let length = FILLING_MIN + post as usize * 61 % spread;
        format!("{}{post} {}", self.0, FILLING[..length].trim_end())
    }

    /// The text with which a run begins.
    #[must_use]
    pub fn beginning(&self) -> String {
        format!("{}begins", self.0)
    }

    /// What `text` says of its origin.
    #[must_use]
    pub fn origin(&self, text: &str) -> Origin {
        let Some(rest) = text.strip_prefix(&self.0) else { return Origin::Foreign };
        if rest == "begins" {
            return Origin::Driver;
        }
        let number = rest.split(' ').next().and_then(|number| number.parse().ok());
        number.filter(|&post| self.text(post) == text).map_or(Origin::Foreign, Origin::Post)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TweetText;

    #[test]
    fn a_text_tells_its_post_and_nobody_else_does() {
        let tag = Tag::new(0x1234_5678_9abc_def0);
        for post in [0, 1, 17, 4_000_000] {
            let text = tag.text(post);
            assert_eq!(tag.origin(&text), Origin::Post(post));
            assert!(TweetText::parse(&text).is_ok());
            assert_eq!(tag.origin(&text[..text.len() - 1]), Origin::Foreign);
            assert_eq!(Tag::new(7).origin(&text), Origin::Foreign);
        }
        assert_eq!(tag.origin(&tag.beginning()), Origin::Driver);
        let lengths: std::collections::BTreeSet<usize> =
            (0..170).map(|n| tag.text(n).len()).collect();
        assert!(lengths.len() > 100);
    }

    #[test]
    fn a_page_of_the_api_is_read() {
        let json = r#"{"tweets":[{"id":"9","author":{"id":"7","handle":"ada","name":"A"},
            "text":"a \"b\"","media":[],"created_at_ms":1}],"next":"9","more":{"later":1}}"#;
        let page: Page<'_> = serde_json::from_str(json).unwrap();
        assert_eq!(page.next, Some(TweetId(9)));
        assert_eq!(page.tweets[0].text, "a \"b\"");
        assert_eq!(page.tweets[0].author.id, UserId(7));
        assert!(!page.degraded);
    }
}
