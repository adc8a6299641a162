//! Ids as decimal strings.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::{DisplayName, Handle, SessionId, TweetId, TweetText, UserId};

macro_rules! string_id {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(|_| de::Error::custom("an id is a decimal string"))
            }
        }
    )*};
}

string_id!(UserId, TweetId, SessionId);

macro_rules! parsed_text {
    ($($name:ident),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                $name::parse(&text).map_err(de::Error::custom)
            }
        }
    )*};
}

parsed_text!(Handle, DisplayName, TweetText);
