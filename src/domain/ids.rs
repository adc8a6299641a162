//! Typed 64-bit identifiers. They are written as decimal strings wherever JavaScript may read them.

use std::{fmt, num::ParseIntError, str::FromStr};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// An account, as author, follower, followee or reader. A snowflake; see [`super::snowflake`].
    UserId
);
id!(
    /// A tweet. Unique, and increasing per author whatever the clocks do.
    TweetId
);
id!(
    /// One log-in of one user; a refresh token belongs to it.
    SessionId
);

impl TweetId {
    /// Above every id that is ever given out, which fit 63 bits.
    pub const MAX: Self = Self(i64::MAX as u64);
}
