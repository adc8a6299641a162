//! Pictures of a tweet: what they are called, of which kind they are, how large.

use std::{fmt, ops::Deref, str::FromStr};

/// Most pictures of one tweet.
pub const MEDIA_MAX: usize = 4;
/// Hexadecimal digits of an id.
const ID_DIGITS: usize = 32;

/// A picture, from the promise of its upload on. Random: whoever was not told it cannot guess it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MediaId(pub u128);

/// Not the text of an id: 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a media id has 32 hexadecimal digits")]
pub struct NotAnId;

impl fmt::Display for MediaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for MediaId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != ID_DIGITS || !text.bytes().all(digit) {
            return Err(NotAnId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| NotAnId)
    }
}

/// The kinds of pictures that are taken: what every browser shows, and nothing that can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MediaKind {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    Webp,
    /// GIF.
    Gif,
}

impl MediaKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Jpeg, Self::Png, Self::Webp, Self::Gif];

    /// The media type (RFC 6838).
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
        }
    }

    /// Reads a media type; `None` if it is not one of these.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// The kind of the file that begins with `bytes`, by its signature; 12 bytes are enough.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let starts = |signature: &[u8]| bytes.starts_with(signature);
        if starts(b"\xff\xd8\xff") {
            Some(Self::Jpeg)
        } else if starts(b"\x89PNG\r\n\x1a\n") {
            Some(Self::Png)
        } else if starts(b"GIF87a") || starts(b"GIF89a") {
            Some(Self::Gif)
        } else if starts(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            Some(Self::Webp)
        } else {
            None
        }
    }
}

/// What a picture is, as its bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaShape {
    /// The kind.
    pub kind: MediaKind,
    /// The width, in pixels.
    pub width: u32,
    /// The height, in pixels.
    pub height: u32,
}

/// A picture of a tweet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MediaRef {
    /// The picture.
    pub id: MediaId,
    /// What it is.
    pub shape: MediaShape,
}

/// The pictures of a tweet, in the order of their author: at most [`MEDIA_MAX`], none twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MediaList(Vec<MediaRef>);

/// More pictures than a tweet may have, or one of them twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tweet has at most 4 pictures, each once")]
pub struct NotAList;

impl MediaList {
    /// Checks `pictures`.
    ///
    /// # Errors
    /// [`NotAList`] if there are too many, or one of them twice.
    pub fn new(pictures: Vec<MediaRef>) -> Result<Self, NotAList> {
        let twice = (1..pictures.len())
            .any(|at| pictures[..at].iter().any(|before| before.id == pictures[at].id));
        if pictures.len() > MEDIA_MAX || twice { Err(NotAList) } else { Ok(Self(pictures)) }
    }
}

impl Deref for MediaList {
    type Target = [MediaRef];

    fn deref(&self) -> &[MediaRef] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_its_32_digits_and_nothing_else() {
        for id in [MediaId(0), MediaId(0xabc), MediaId(u128::MAX)] {
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().len(), ID_DIGITS);
        }
        let upper = "ABCDEF00000000000000000000000000";
        let signed = "+0000000000000000000000000000001";
        for wrong in ["", "1", upper, signed, "../0000000000000000000000000000"] {
            assert_eq!(wrong.parse::<MediaId>(), Err(NotAnId), "{wrong}");
        }
    }

    #[test]
    fn the_kind_is_told_by_the_first_bytes() {
        let begins = [
            (&b"\xff\xd8\xff\xe0\0\x10JFIF\0"[..], MediaKind::Jpeg),
            (b"\x89PNG\r\n\x1a\n\0\0\0\r", MediaKind::Png),
            (b"RIFF\x24\0\0\0WEBPVP8 ", MediaKind::Webp),
            (b"GIF87a\x01\0\x01\0\0\0", MediaKind::Gif),
            (b"GIF89a\x01\0\x01\0\0\0", MediaKind::Gif),
        ];
        for (bytes, kind) in begins {
            assert_eq!(MediaKind::of_bytes(bytes), Some(kind));
            assert_eq!(MediaKind::parse(kind.as_str()), Some(kind));
        }
        let others: [&[u8]; 6] =
            [b"", b"<svg xmlns=", b"<!doctype html>", b"RIFF\x24\0\0\0WAVE", b"BM", b"\x89PNG"];
        for bytes in others {
            assert_eq!(MediaKind::of_bytes(bytes), None, "{bytes:?}");
        }
        assert_eq!(MediaKind::parse("image/svg+xml"), None);
    }

    #[test]
    fn a_list_has_four_pictures_each_once() {
        let shape = MediaShape { kind: MediaKind::Png, width: 1, height: 1 };
        let picture = |id| MediaRef { id: MediaId(id), shape };
        assert_eq!(MediaList::new((0..4).map(picture).collect()).unwrap().len(), 4);
        assert_eq!(MediaList::new((0..5).map(picture).collect()), Err(NotAList));
        assert_eq!(MediaList::new([1, 2, 1].map(picture).into()), Err(NotAList));
    }
}
