//! Evidence.

use std::fmt;

use chirp::domain::TweetId;

/// Evidence that a promise was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    pub rule: &'static str,
    pub tweet: Option<TweetId>,
    pub author: String,
    pub reader: String,
    pub about: String,
    /// After this kill, which fell there.
    pub kill: usize,
    pub mark: String,
    /// When it was seen, in milliseconds since the Unix epoch.
    pub at_ms: u64,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, tweet, author, reader, about, kill, mark, at_ms } = self;
        let tweet = tweet.map_or_else(|| "-".to_owned(), |tweet| tweet.to_string());
        write!(f, "VIOLATION of `{rule}`: tweet {tweet} of {author}, read by {reader}: {about} ")?;
        match kill {
            0 => write!(f, "(seen at {at_ms} ms, before the first kill)"),
            _ => write!(f, "(seen at {at_ms} ms, after kill {kill}, which fell on `{mark}`)"),
        }
    }
}
