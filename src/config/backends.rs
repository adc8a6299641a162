//! `[backends]`: which stores fill the ports.

use serde::{Deserialize, Serialize};

use super::Invalid;

/// What can be chosen, as it is written.
pub const KINDS: [&str; 2] = ["embedded", "external"];

/// Which stores fill the ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Backends {
    /// `embedded`: files of the data folder. `external`: the servers that `[postgres]`, `[redis]`,
    /// `[cassandra]` and `[aws]` name. Default `embedded`.
    pub kind: String,
}

impl Default for Backends {
    fn default() -> Self {
        Self { kind: "embedded".to_owned() }
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
