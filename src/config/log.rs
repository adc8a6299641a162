//! `[log]`: what is logged, and how much of it is kept.

use serde::{Deserialize, Serialize};

use super::{Invalid, within};

/// Levels from silent to loud.
pub const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What is logged, and how much of it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// The quietest level that is written: `off`, `error`, `warn`, `info`, `debug` (one line per
    /// request) or `trace`. Default `info`.
    pub level: String,
    /// The log file is put aside when it has this many bytes. Default 10,485,760 (10 MiB).
    pub file_bytes_max: u64,
    /// Files that were put aside and are kept, the newest first. Default 5.
    pub files_kept: u64,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".to_owned(), file_bytes_max: 10 << 20, files_kept: 5 }
    }
}

impl Log {
    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        if !LEVELS.contains(&self.level.as_str()) {
            let problem = format!("is `{}`, allowed are {}", self.level, LEVELS.join(", "));
            return Err(Invalid { key: "log.level", problem });
        }
        within("log.file_bytes_max", self.file_bytes_max, 4_096, 1 << 40)?;
        within("log.files_kept", self.files_kept, 0, 1_000)
    }
}
