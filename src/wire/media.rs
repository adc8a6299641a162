//! Pictures in JSON: in events and between roles as a list of objects, in columns of tables as the
//! text of that list. What is stored is what [`MediaList`] takes back, and nothing else.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::domain::{MediaId, MediaKind, MediaList, MediaRef, MediaShape};

impl Serialize for MediaId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for MediaId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// One picture.
#[derive(Serialize, Deserialize)]
struct Item {
    id: MediaId,
    #[serde(rename = "type")]
    kind: String,
    width: u32,
    height: u32,
}

impl Serialize for MediaList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter().map(|picture| Item {
            id: picture.id,
            kind: picture.shape.kind.as_str().to_owned(),
            width: picture.shape.width,
            height: picture.shape.height,
        }))
    }
}

impl<'de> Deserialize<'de> for MediaList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let picture = |Item { id, kind, width, height }| {
            let kind = MediaKind::parse(&kind)?;
            Some(MediaRef { id, shape: MediaShape { kind, width, height } })
        };
        let items = Vec::<Item>::deserialize(deserializer)?;
        let pictures: Option<Vec<_>> = items.into_iter().map(picture).collect();
        let pictures = pictures.ok_or_else(|| de::Error::custom("unknown kind of picture"))?;
        Self::new(pictures).map_err(de::Error::custom)
    }
}

/// The text that a column holds; `None` (null) for no pictures, as in rows that are older than them.
#[must_use]
pub fn to_column(media: &MediaList) -> Option<String> {
    let text = || serde_json::to_string(media).expect("a list of pictures has only string keys");
    (!media.is_empty()).then(text)
}

/// The pictures of a column; `None` if its text is not such a list.
#[must_use]
pub fn from_column(text: Option<&str>) -> Option<MediaList> {
    text.map_or_else(|| Some(MediaList::default()), |text| serde_json::from_str(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_survive_a_column_and_nonsense_does_not_become_one() {
        let shape = MediaShape { kind: MediaKind::Webp, width: 800, height: 600 };
        let list = MediaList::new(vec![MediaRef { id: MediaId(7), shape }]).unwrap();
        let text = to_column(&list).unwrap();
        let id = "00000000000000000000000000000007";
        assert_eq!(
            text,
            format!(r#"[{{"id":"{id}","type":"image/webp","width":800,"height":600}}]"#)
        );
        assert_eq!(from_column(Some(&text)), Some(list));
        assert_eq!(to_column(&MediaList::default()), None);
        assert_eq!(from_column(None), Some(MediaList::default()));
        let twice = text.replace(']', &text.replacen('[', ",", 1));
        for wrong in ["", "{}", &text.replace("webp", "svg+xml"), &twice] {
            assert_eq!(from_column(Some(wrong)), None, "{wrong}");
        }
    }
}
