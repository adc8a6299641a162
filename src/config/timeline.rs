//! `[timeline]`: reading timelines.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, within};

/// Reading timelines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timeline {
    /// How long a replica may show a body it has near, in milliseconds; a delete waits this long
    /// before it is answered. Default 250.
    pub near_ttl_ms: u64,
    /// Bodies a replica keeps near. Default 100,000 (about 50 MB).
    pub near_bodies_max: u64,
    /// Tweets on a page if the reader does not say. Default 20.
    pub page_default: u64,
    /// Most tweets on a page. Default 100.
    pub page_max: u64,
    /// Most candidates looked at for one page; the page may then be short. Default 2,000.
    pub candidates_max: u64,
    /// Entries that a rebuild of a cold timeline brings. Default 200.
    pub rebuild_entries: u64,
    /// Rebuilds at once per replica; above it 503. Default 64.
    pub rebuilds_max: u64,
    /// Entries a timeline holds at most, up to 800. Default 800.
    pub entries_max: u64,
    /// A stream reads again after this many milliseconds without a hint. Default 10,000.
    pub stream_poll_ms: u64,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            near_ttl_ms: 250,
            near_bodies_max: 100_000,
            page_default: 20,
            page_max: 100,
            candidates_max: 2_000,
            rebuild_entries: 200,
            rebuilds_max: 64,
            entries_max: 800,
            stream_poll_ms: 10_000,
        }
    }
}

impl Timeline {
    /// How long a replica may show a body it has near.
    #[must_use]
    pub const fn near_ttl(&self) -> Duration {
        Duration::from_millis(self.near_ttl_ms)
    }

    /// A stream reads again after this long without a hint.
    #[must_use]
    pub const fn stream_poll(&self) -> Duration {
        Duration::from_millis(self.stream_poll_ms)
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        within("timeline.near_ttl_ms", self.near_ttl_ms, 0, 1_500)?;
        within("timeline.near_bodies_max", self.near_bodies_max, 1, 100_000_000)?;
        within("timeline.page_max", self.page_max, 1, 200)?;
        within("timeline.page_default", self.page_default, 1, self.page_max)?;
        within("timeline.candidates_max", self.candidates_max, self.page_max, 100_000)?;
        within("timeline.rebuild_entries", self.rebuild_entries, 1, 800)?;
        within("timeline.rebuilds_max", self.rebuilds_max, 1, 10_000)?;
        within("timeline.entries_max", self.entries_max, 1, 800)?;
        within("timeline.stream_poll_ms", self.stream_poll_ms, 10, 60_000)
    }
}
