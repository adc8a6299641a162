//! Every environment variable that chirp knows. The command line reads the environment once and
//! hands it down; nobody else looks at it.
//!
//! A key `section.key` is set by `CHIRP_SECTION_KEY`; see [`name_of`].

/// What every name begins with.
pub const PREFIX: &str = "CHIRP_";
/// The configuration file, instead of `chirp.toml` in the working directory.
pub const CONFIG: &str = "CHIRP_CONFIG";
/// A file whose first bytes always say which point of a flow was passed last, for tests that kill.
pub const CRASH_MARKS: &str = "CHIRP_CRASH_MARKS";
/// Names that begin so belong to test programs and are not configuration.
pub const TEST_PREFIX: &str = "CHIRP_TEST_";
/// Names that are not keys of the configuration.
pub const RESERVED: [&str; 2] = [CONFIG, CRASH_MARKS];
/// Colours are off if this is set to anything but the empty text (<https://no-color.org>).
pub const NO_COLOR: &str = "NO_COLOR";

/// The variable that sets `key`: `up.data_dir` is `CHIRP_UP_DATA_DIR`.
#[must_use]
pub fn name_of(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('.', "_").to_uppercase())
}
