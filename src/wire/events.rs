//! Events and jobs on the bus, and the envelope that packs them.
//!
//! An outbox row holds one [`Event`]; a message holds one [`Envelope`] of many. Readers decode the
//! envelope first and each event on its own, so that an event of an unknown kind can be parked
//! without its neighbours. Fields are only ever added.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::trace::TraceContext;
use crate::domain::{
    Body, DisplayName, Entry, Handle, MediaList, Pair, PairChange, PairState, TweetId, TweetText,
    UserId, edge::Side,
};

/// The envelope's version.
pub const ENVELOPE_VERSION: u32 = 1;
/// The most bytes of a packed message: the unit in which SNS and SQS bill.
pub const ENVELOPE_BYTES_MAX: usize = 64 * 1024;

/// One thing that happened, or one piece of work, with where it came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When it was committed, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The trace of the request that caused it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trace: Option<TraceContext>,
    /// What happened.
    #[serde(flatten)]
    pub fact: Fact,
}

/// What an [`Event`] says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Fact {
    /// A tweet was committed.
    TweetCreated {
        /// The tweet.
        id: TweetId,
        /// Who wrote it.
        author: UserId,
        /// The author's handle.
        handle: Handle,
        /// The author's display name.
        name: DisplayName,
        /// The text.
        text: TweetText,
        /// The pictures; events that are older than them have none.
        #[serde(skip_serializing_if = "no_media", default)]
        media: MediaList,
    },
    /// A tweet was deleted.
    TweetDeleted {
        /// The tweet.
        id: TweetId,
        /// Who wrote it.
        author: UserId,
    },
    /// The edges between two users changed; the whole state of the pair.
    GraphChanged {
        /// The user with the smaller id.
        low: UserId,
        /// The user with the larger id.
        high: UserId,
        /// The pair's version.
        version: u64,
        /// What the user with the smaller id does.
        low_side: WireSide,
        /// What the user with the larger id does.
        high_side: WireSide,
        /// Followers of the user with the smaller id after the change.
        low_followers: u64,
        /// Followers of the user with the larger id after the change.
        high_followers: u64,
    },
    /// A chunk job: push one tweet to the followers in a range of buckets.
    FanoutChunk {
        /// The tweet.
        tweet: TweetId,
        /// Who wrote it.
        author: UserId,
        /// First bucket.
        first_bucket: u16,
        /// Past the last bucket.
        end_bucket: u16,
        /// Where the chunk goes on: the last follower that is done, with its bucket.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        after: Option<FollowerCursor>,
        /// Which of the tweet's chunk chains this is, from 0.
        part: u16,
        /// How many chains the tweet has.
        parts: u16,
    },
    /// A chunk job: tell the followers of an author who left class `push`.
    ReclassChunk {
        /// The author.
        author: UserId,
        /// Where the job goes on.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        after: Option<FollowerCursor>,
    },
}

pub(super) fn no_media(media: &MediaList) -> bool {
    media.is_empty()
}

/// A place in the list of an author's followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FollowerCursor {
    /// The bucket.
    pub bucket: u16,
    /// The last follower that was read in it.
    pub follower: UserId,
}

/// [`Side`] in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireSide {
    /// Follows the other.
    pub follows: bool,
    /// Blocks the other.
    pub blocks: bool,
    /// Mutes the other.
    pub mutes: bool,
}

impl From<Side> for WireSide {
    fn from(side: Side) -> Self {
        Self { follows: side.follows, blocks: side.blocks, mutes: side.mutes }
    }
}

impl From<WireSide> for Side {
    fn from(side: WireSide) -> Self {
        Self { follows: side.follows, blocks: side.blocks, mutes: side.mutes }
    }
}

/// A message of the bus.
#[derive(Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The version, [`ENVELOPE_VERSION`].
    pub v: u32,
    /// The events, each undecoded.
    pub events: Vec<Box<RawValue>>,
}

/// Why bytes are not an event of a kind that this build knows. Only these count towards parking.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The message is not an envelope.
    #[error("the message is not an envelope")]
    NotAnEnvelope(#[source] serde_json::Error),
    /// The envelope has a version that this build does not know.
    #[error("the envelope has version {0}")]
    Version(u32),
    /// The event's kind is unknown or its fields do not fit.
    #[error("the event cannot be decoded")]
    Event(#[source] serde_json::Error),
}

impl Event {
    /// The event that tells of a new tweet.
    #[must_use]
    pub fn tweet_created(body: &Body, trace: Option<TraceContext>) -> Self {
        let fact = Fact::TweetCreated {
            id: body.id,
            author: body.author,
            handle: body.handle.clone(),
            name: body.name.clone(),
            text: body.text.clone(),
            media: body.media.clone(),
        };
        Self { at_ms: body.created_at_ms, trace, fact }
    }

    /// The event that tells of a change between two users.
    #[must_use]
    pub fn graph_changed(
        change: &PairChange,
        low_followers: u64,
        high_followers: u64,
        at_ms: u64,
        trace: Option<TraceContext>,
    ) -> Self {
        let fact = Fact::GraphChanged {
            low: change.pair.low,
            high: change.pair.high,
            version: change.version,
            low_side: change.state.low.into(),
            high_side: change.state.high.into(),
            low_followers,
            high_followers,
        };
        Self { at_ms, trace, fact }
    }

    /// The event as JSON, as an outbox row holds it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).expect("an event has only string keys and finite numbers").into()
    }

    /// Reads one event.
    ///
    /// # Errors
    /// [`DecodeError::Event`] if the kind is unknown or the fields do not fit.
    pub fn decode(json: &[u8]) -> Result<Self, DecodeError> {
        serde_json::from_slice(json).map_err(DecodeError::Event)
    }
}

impl Fact {
    /// The delivery that a new tweet or a chunk of its fan-out makes.
    #[must_use]
    pub const fn entry(&self) -> Option<Entry> {
        match self {
            Self::TweetCreated { id, author, .. } => Some(Entry { tweet: *id, author: *author }),
            Self::FanoutChunk { tweet, author, .. } => {
                Some(Entry { tweet: *tweet, author: *author })
            }
            Self::TweetDeleted { .. } | Self::GraphChanged { .. } | Self::ReclassChunk { .. } => {
                None
            }
        }
    }

    /// The change of a pair, if this is one.
    #[must_use]
    pub fn pair_change(&self) -> Option<PairChange> {
        match self {
            Self::GraphChanged { low, high, version, low_side, high_side, .. } => {
                Some(PairChange {
                    pair: Pair { low: *low, high: *high },
                    version: *version,
                    state: PairState { low: (*low_side).into(), high: (*high_side).into() },
                })
            }
            Self::TweetCreated { .. }
            | Self::TweetDeleted { .. }
            | Self::FanoutChunk { .. }
            | Self::ReclassChunk { .. } => None,
        }
    }
}

/// Packs encoded events into messages of at most [`ENVELOPE_BYTES_MAX`] bytes, in order. Gives
/// each message with the number of events in it. A single larger event gets a message of its own.
#[must_use]
pub fn pack(events: &[Bytes]) -> Vec<(Bytes, usize)> {
    const OPEN: &[u8] = br#"{"v":1,"events":["#;
    const CLOSE: &[u8] = b"]}";
    let mut messages = Vec::new();
    let mut at = 0;
    while at < events.len() {
        let mut message = Vec::with_capacity(1024);
        message.extend_from_slice(OPEN);
        let first = at;
        while at < events.len() {
            let grown = message.len() + events[at].len() + 1 + CLOSE.len();
            if at > first && grown > ENVELOPE_BYTES_MAX {
                break;
            }
            if at > first {
                message.push(b',');
            }
            message.extend_from_slice(&events[at]);
            at += 1;
        }
        message.extend_from_slice(CLOSE);
        messages.push((message.into(), at - first));
    }
    messages
}

/// Reads a message. Events are decoded one by one with [`Event::decode`].
///
/// # Errors
/// [`DecodeError`] if it is not an envelope of a known version.
pub fn unpack(message: &[u8]) -> Result<Envelope, DecodeError> {
    let envelope: Envelope = serde_json::from_slice(message).map_err(DecodeError::NotAnEnvelope)?;
    if envelope.v == ENVELOPE_VERSION {
        Ok(envelope)
    } else {
        Err(DecodeError::Version(envelope.v))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deleted(id: u64) -> Event {
        let fact = Fact::TweetDeleted { id: TweetId(id), author: UserId(2) };
        Event { at_ms: 5, trace: Some(TraceContext::new([1; 24])), fact }
    }

    #[test]
    fn events_survive_the_envelope_in_order_and_within_the_billing_unit() {
        let events: Vec<Bytes> = (0..2_000).map(|id| deleted(id).encode()).collect();
        let messages = pack(&events);
        assert!(messages.len() > 1);
        let mut back = Vec::new();
        for (message, count) in messages {
            assert!(message.len() <= ENVELOPE_BYTES_MAX);
            let envelope = unpack(&message).unwrap();
            assert_eq!(envelope.events.len(), count);
            back.extend(envelope.events.iter().map(|e| Event::decode(e.get().as_bytes()).unwrap()));
        }
        assert_eq!(back, (0..2_000).map(deleted).collect::<Vec<_>>());
    }

    #[test]
    fn an_unknown_kind_does_not_hide_its_neighbours() {
        let message = br#"{"v":1,"events":[{"at_ms":1,"kind":"later"},{"at_ms":1,"kind":"tweet_deleted","id":"3","author":"4","new_field":1}]}"#;
        let envelope = unpack(message).unwrap();
        assert!(Event::decode(envelope.events[0].get().as_bytes()).is_err());
        assert!(Event::decode(envelope.events[1].get().as_bytes()).is_ok());
        assert!(matches!(unpack(br#"{"v":2,"events":[]}"#), Err(DecodeError::Version(2))));
        assert!(matches!(unpack(b"nonsense"), Err(DecodeError::NotAnEnvelope(_))));
    }

    #[test]
    fn an_event_older_than_pictures_has_none_and_one_without_looks_as_old() {
        let old = br#"{"at_ms":5,"kind":"tweet_created","id":"1","author":"2","handle":"ada","name":"Ada","text":"hi"}"#;
        let event = Event::decode(old).unwrap();
        let Fact::TweetCreated { media, .. } = &event.fact else { panic!("{event:?}") };
        assert!(media.is_empty());
        assert_eq!(event.encode(), &old[..]);
    }

    #[test]
    fn ids_are_strings() {
        let json = String::from_utf8(deleted(u64::MAX >> 1).encode().to_vec()).unwrap();
        assert!(json.contains(r#""id":"9223372036854775807""#), "{json}");
    }
}
