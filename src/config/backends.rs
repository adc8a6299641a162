//! `[backends]`: which stores fill the ports.

use serde::{Deserialize, Serialize};

use super::Invalid;

/// What can be chosen, as it is written.
pub const KINDS: [&str; 4] = ["embedded", "containers", "auto", "external"];

/// Which stores fill the ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backends {
    /// `embedded`: files of the data folder. `external`: the servers that `[postgres]`, `[redis]`,
    /// `[cassandra]` and `[aws]` name. For `chirp up` also `containers`: such servers in containers of
    /// its own; and `auto`: containers where Docker answers, else embedded. Default `embedded`.
    pub kind: String,
    /// Whether a process that opens external stores first brings their schema up to date. Without, it
    /// refuses one that is behind, and `chirp migrate` is somebody else's step. Default true.
    pub migrate: bool,
}

impl Default for Backends {
    fn default() -> Self {
        Self { kind: "embedded".to_owned(), migrate: true }
    }
}

impl Backends {
    /// Whether the stores are servers of their own.
    #[must_use]
    pub fn external(&self) -> bool {
        self.kind == "external"
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        if KINDS.contains(&self.kind.as_str()) {
            return Ok(());
        }
        let problem = format!("is `{}`, allowed are {}", self.kind, KINDS.join(", "));
        Err(Invalid { key: "backends.kind", problem })
    }
}
