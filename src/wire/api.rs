//! Bodies of the public API. Answers are only ever extended; unknown fields of requests are refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::domain::{Body, DisplayName, Handle, MediaId, MediaRef, TweetId, TweetText, UserId};

/// `POST /users`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignUp {
    /// The wanted handle, 1 to 15 of `a-z0-9_`.
    pub handle: String,
    /// The display name, 1 to 50 characters; the handle if absent.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub name: Option<String>,
    /// The password, 8 to 256 characters.
    pub password: String,
}

/// `POST /sessions`: either a handle with its password, or a refresh token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    /// The handle.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub handle: Option<String>,
    /// The password.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub password: Option<String>,
    /// A refresh token, which is used up by this.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub refresh_token: Option<String>,
}

/// An account as everybody may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub id: UserId,
    /// The handle.
    pub handle: Handle,
    /// The display name.
    pub name: DisplayName,
    /// When the account was made, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

/// `POST /users` (201) and `POST /sessions` (201).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Session {
    /// Whose session.
    pub user: User,
    /// A bearer token for every other route.
    pub access_token: String,
    /// Seconds until the access token expires.
    pub expires_in_s: u64,
    /// Gets the next pair of tokens, once.
    pub refresh_token: String,
}

/// `GET /users/{handle}` and `GET /me`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The account.
    #[serde(flatten)]
    pub user: User,
    /// How many follow it.
    pub followers: u64,
    /// How many it follows.
    pub following: u64,
    /// What is between the reader and this user; absent for the reader's own profile.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub viewer: Option<Viewer>,
}

/// What is between the reader and another user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts, named in the JSON")]
pub struct Viewer {
    /// The reader follows the user.
    pub following: bool,
    /// The user follows the reader.
    pub followed_by: bool,
    /// The reader blocks the user.
    pub blocking: bool,
    /// The user blocks the reader.
    pub blocked_by: bool,
}

/// `POST /follow`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Follow {
    /// Whom to follow.
    pub handle: String,
}

/// `POST /tweets`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostTweet {
    /// The text, 1 to 280 characters.
    pub text: String,
    /// Pictures that were uploaded, in the order in which they are shown: at most 4, each once.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub media: Vec<MediaId>,
}

/// `POST /media`: the promise of a picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewMedia {
    /// `image/jpeg`, `image/png`, `image/webp` or `image/gif`.
    pub content_type: String,
    /// The exact size, in bytes.
    pub bytes: u64,
}

/// `POST /media` (201).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Media {
    /// What a tweet names in `media`.
    pub media_id: MediaId,
    /// How the bytes are sent.
    pub upload: Upload,
    /// When the upload must be done and used, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

/// The one request that uploads a picture. It carries no token: the URL is the permission.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// Where to; a URL that begins with no scheme is meant from the root of the API.
    pub url: String,
    /// `PUT`.
    pub method: String,
    /// Headers that the request must have, beside the `content-length` that HTTP clients set.
    pub headers: BTreeMap<String, String>,
}

/// The author as shown beside a tweet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Author {
    /// The author.
    pub id: UserId,
    /// The handle.
    pub handle: Handle,
    /// The display name when the tweet was written.
    pub name: DisplayName,
}

/// A tweet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tweet {
    /// The tweet.
    pub id: TweetId,
    /// Who wrote it.
    pub author: Author,
    /// The text, to be shown as text and never as markup.
    pub text: TweetText,
    /// The pictures, in the order of their author.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub media: Vec<Picture>,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
}

/// A picture of a tweet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Where it is; a URL that begins with no scheme is meant from the root of the API.
    pub url: String,
    /// Its media type, such as `image/png`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The width, in pixels.
    pub width: u32,
    /// The height, in pixels.
    pub height: u32,
}

impl Tweet {
    /// The tweet of `body`, whose pictures are served below `base_url`.
    #[must_use]
    pub fn of(body: &Body, base_url: &str) -> Self {
        let picture = |picture: &MediaRef| Picture {
            url: format!("{base_url}{}", picture.id),
            kind: picture.shape.kind.as_str().to_owned(),
            width: picture.shape.width,
            height: picture.shape.height,
        };
        Self {
            id: body.id,
            author: Author {
                id: body.author,
                handle: body.handle.clone(),
                name: body.name.clone(),
            },
            text: body.text.clone(),
            media: body.media.iter().map(picture).collect(),
            created_at_ms: body.created_at_ms,
        }
    }
}

/// `POST /tweets` (201).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostedTweet {
    /// The tweet.
    #[serde(flatten)]
    pub tweet: Tweet,
    /// The tweet is safe, but its author may not see it before a broken part has healed.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub degraded: bool,
}

/// 202 of whatever hides something: it was accepted, but may be seen until it is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// `true`.
    pub pending: bool,
}

/// `GET /timeline` and `GET /users/{handle}/tweets`. Services write it with [`page_json`], which
/// gives the same bytes from fragments that are already JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Newest first.
    pub tweets: Vec<Tweet>,
    /// Pass as `before` to get the next older page; absent at the end.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<TweetId>,
    /// Pass as `after` to get what is newer; absent on an empty page.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prev: Option<TweetId>,
    /// A part of the system is broken, so that something may be missing.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub degraded: bool,
}

/// The JSON of a [`Page`] out of the JSON of its tweets.
#[must_use]
pub fn page_json<T: AsRef<[u8]>>(
    tweets: &[T],
    next: Option<TweetId>,
    prev: Option<TweetId>,
    degraded: bool,
) -> Vec<u8> {
    let size: usize = tweets.iter().map(|t| t.as_ref().len() + 1).sum();
    let mut out = Vec::with_capacity(size + 96);
    out.extend_from_slice(br#"{"tweets":["#);
    for (i, tweet) in tweets.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(tweet.as_ref());
    }
    out.push(b']');
    for (name, id) in [("next", next), ("prev", prev)] {
        if let Some(id) = id {
            out.extend_from_slice(format!(r#","{name}":"{id}""#).as_bytes());
        }
    }
    if degraded {
        out.extend_from_slice(br#","degraded":true"#);
    }
    out.push(b'}');
    out
}

/// The JSON of one tweet, as [`page_json`] takes it and body caches hold it; see [`Tweet::of`].
#[must_use]
pub fn tweet_json(body: &Body, base_url: &str) -> Vec<u8> {
    serde_json::to_vec(&Tweet::of(body, base_url)).expect("a tweet has only string keys")
}

/// `/.well-known/jwks.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwks {
    /// The keys: the signing one first, then the one before it.
    pub keys: Vec<Jwk>,
}

/// An Ed25519 public key (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// `EdDSA`.
    pub alg: String,
    /// `sig`.
    #[serde(rename = "use")]
    pub usage: String,
    /// The key's name in a token's header.
    pub kid: String,
    /// The public key, base64url without padding.
    pub x: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{MediaKind, MediaList, MediaShape};

    #[test]
    fn a_page_of_fragments_is_the_page() {
        let shape = MediaShape { kind: MediaKind::Gif, width: 3, height: 2 };
        let media = MediaList::new(vec![MediaRef { id: MediaId(1), shape }]).unwrap();
        let body = Body {
            id: TweetId(9),
            author: UserId(1 << 60),
            handle: Handle::parse("ada").unwrap(),
            name: DisplayName::parse("Ada \"L\"").unwrap(),
            text: TweetText::parse("<b>hi</b>\n\u{1f600}").unwrap(),
            media: media.clone(),
            created_at_ms: 17,
        };
        for (count, next, prev, degraded) in
            [(0, None, None, false), (1, None, Some(9), true), (3, Some(9), Some(9), false)]
        {
            let page = Page {
                tweets: vec![Tweet::of(&body, "m/"); count],
                next: next.map(TweetId),
                prev: prev.map(TweetId),
                degraded,
            };
            let json =
                page_json(&vec![tweet_json(&body, "m/"); count], page.next, page.prev, degraded);
            assert_eq!(json, serde_json::to_vec(&page).unwrap());
            assert_eq!(serde_json::from_slice::<Page>(&json).unwrap(), page);
        }
    }
}
