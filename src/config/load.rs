//! From defaults, file, environment and flags to one [`Config`] that says where each value is from.
//!
//! Later sources win. Nothing is read here: the command line brings the texts. The defaults, as
//! TOML, are also the list of known keys and of their types.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use toml::{Table, Value};

use super::{Config, Invalid, MASK, env, is_secret};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The configuration file.
    File(PathBuf),
    /// An environment variable, by name.
    Env(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Env(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A key set by a flag.
#[derive(Clone, Debug)]
pub struct Override {
    /// The flag, as typed.
    pub flag: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// The value, as text.
    pub value: String,
}

/// The texts to read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file with its text.
    pub file: Option<(PathBuf, String)>,
    /// Variables of the environment; those without the prefix are skipped.
    pub env: Vec<(String, String)>,
    /// What flags say.
    pub flags: Vec<Override>,
}

/// The effective configuration.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// All values, validated.
    pub config: Config,
    /// Where each key's value is from.
    pub origins: BTreeMap<String, Origin>,
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file is not TOML.
    #[error("{}, line {line}: {message}", file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        message: String,
    },
    /// No such key.
    #[error("{origin} sets `{key}`, which is not a key of the configuration")]
    UnknownKey {
        /// Who sets it.
        origin: String,
        /// The key, or the name of the variable.
        key: String,
        /// A known key that looks alike.
        near: Option<String>,
    },
    /// The value has the wrong type.
    #[error("{origin} sets `{key}` to {found}, which is not {wanted}")]
    WrongType {
        /// Who sets it.
        origin: String,
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// What it must be.
        wanted: &'static str,
    },
    /// The value is of the right type and yet nothing that the key can take.
    #[error("{origin} sets `{key}` to {found}, which cannot be: {why}")]
    Malformed {
        /// Who sets it.
        origin: String,
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// What the parser says.
        why: String,
    },
    /// The value is out of range.
    #[error("{origin} is refused: {invalid}")]
    Invalid {
        /// Who sets it.
        origin: String,
        /// Key and range.
        invalid: Invalid,
    },
}

/// Merges the sources and validates the result.
///
/// # Errors
/// The first thing that is wrong, with who said it.
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let mut merge = Merge::new();
    if let Some((path, text)) = &sources.file {
        merge.file(path, text)?;
    }
    for (name, value) in &sources.env {
        merge.env(name, value)?;
    }
    for set in &sources.flags {
        merge.text(set.key, &set.value, &Origin::Flag(set.flag))?;
    }
    merge.finish()
}

struct Merge {
    values: Table,
    origins: BTreeMap<String, Origin>,
}

impl Merge {
    fn new() -> Self {
        let values = Config::default().to_table();
        let mut origins = BTreeMap::new();
        for (section, keys) in &values {
            for key in keys.as_table().into_iter().flat_map(Table::keys) {
                origins.insert(format!("{section}.{key}"), Origin::Default);
            }
        }
        Self { values, origins }
    }

    fn file(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let origin = Origin::File(path.to_owned());
        let table: Table = toml::from_str(text).map_err(|error| ConfigError::Syntax {
            file: path.to_owned(),
            line: error.span().map_or(1, |s| text[..s.start].matches('\n').count() + 1),
            message: error.message().to_owned(),
        })?;
        for (section, keys) in table {
            let Value::Table(keys) = keys else {
                return Err(self.unknown(&section, &origin));
            };
            if !self.values.contains_key(&section) {
                return Err(self.unknown(&section, &origin));
            }
            for (key, value) in keys {
                self.set(&format!("{section}.{key}"), value, &origin)?;
            }
        }
        Ok(())
    }

    fn env(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let foreign = !name.starts_with(env::PREFIX) || name.starts_with(env::TEST_PREFIX);
        if foreign || env::RESERVED.contains(&name) {
            return Ok(());
        }
        let key = self.origins.keys().find(|key| env::name_of(key) == name).cloned();
        let Some(key) = key else {
            let known = self.origins.keys().map(|key| env::name_of(key));
            let near = nearest(name, known.chain(env::RESERVED.map(str::to_owned)));
            let origin = "the environment".to_owned();
            return Err(ConfigError::UnknownKey { origin, key: name.to_owned(), near });
        };
        self.text(&key, value, &Origin::Env(name.to_owned()))
    }

    fn text(&mut self, key: &str, text: &str, origin: &Origin) -> Result<(), ConfigError> {
        let value = match self.slot(key, origin)? {
            Value::Integer(_) => text.replace('_', "").parse().map(Value::Integer).ok(),
            Value::Boolean(_) => text.parse().map(Value::Boolean).ok(),
            Value::Float(_) => text.parse().map(Value::Float).ok(),
            _ => Some(Value::String(text.to_owned())),
        };
        // Text that does not parse fails the type check below, which names it.
        self.set(key, value.unwrap_or_else(|| Value::String(text.to_owned())), origin)
    }

    fn set(&mut self, key: &str, value: Value, origin: &Origin) -> Result<(), ConfigError> {
        let slot = self.slot(key, origin)?;
        if slot.same_type(&value) {
            *slot = value;
            self.origins.insert(key.to_owned(), origin.clone());
            return Ok(());
        }
        let wanted = match slot {
            Value::Integer(_) => "a whole number",
            Value::Boolean(_) => "`true` or `false`",
            Value::Float(_) => "a number",
            _ => "a text",
        };
        let (origin, key) = (origin.to_string(), key.to_owned());
        let found = shown(&key, &value);
        Err(ConfigError::WrongType { origin, key, found, wanted })
    }

    fn slot(&mut self, key: &str, origin: &Origin) -> Result<&mut Value, ConfigError> {
        if !self.origins.contains_key(key) {
            return Err(self.unknown(key, origin));
        }
        let (section, name) = key.split_once('.').unwrap_or((key, ""));
        Ok(&mut self.values[section][name])
    }

    fn unknown(&self, key: &str, origin: &Origin) -> ConfigError {
        let sections = self.values.keys().cloned();
        let near = nearest(key, self.origins.keys().cloned().chain(sections));
        ConfigError::UnknownKey { origin: origin.to_string(), key: key.to_owned(), near }
    }

    fn finish(self) -> Result<Loaded, ConfigError> {
        let config = match Config::deserialize(self.values.clone()) {
            Ok(config) => config,
            Err(error) => return Err(self.blame(error.message())),
        };
        config.validate().map_err(|invalid| {
            let origin = self.origins.get(invalid.key).unwrap_or(&Origin::Default).to_string();
            ConfigError::Invalid { origin, invalid }
        })?;
        Ok(Loaded { config, origins: self.origins })
    }

    /// Finds the value that is not what its key needs although its type is right, such as a number
    /// below zero or a malformed address: the one that the defaults alone do not bear.
    fn blame(&self, problem: &str) -> ConfigError {
        let defaults = Config::default().to_table();
        let bad = |key: &str| {
            let (section, name) = key.split_once('.')?;
            let value = self.values.get(section)?.get(name)?;
            let mut one = defaults.clone();
            one.get_mut(section)?.as_table_mut()?.insert(name.to_owned(), value.clone());
            let error = Config::deserialize(one).err()?;
            Some((shown(key, value), range_of(error.message())))
        };
        for (key, origin) in &self.origins {
            if let Some((found, why)) = bad(key) {
                let (origin, key) = (origin.to_string(), key.clone());
                return ConfigError::Malformed { origin, key, found, why };
            }
        }
        let (origin, why) = ("the configuration".to_owned(), problem.to_owned());
        ConfigError::Malformed { origin, key: "?".to_owned(), found: "?".to_owned(), why }
    }
}

/// The value as an error may show it.
fn shown(key: &str, value: &Value) -> String {
    if is_secret(key) { MASK.to_owned() } else { value.to_string() }
}

/// What the parser says of a number that its type cannot hold, as [`super::within`] would say it.
fn range_of(problem: &str) -> String {
    let max = match problem.rsplit_once("expected ").map(|(_, wanted)| wanted) {
        Some("u16") => u64::from(u16::MAX),
        Some("u32") => u64::from(u32::MAX),
        Some("u64") => i64::MAX.unsigned_abs(),
        _ => return problem.to_owned(),
    };
    format!("allowed are 0 to {max}")
}

/// The known name that differs least from `name`, if it looks like a slip of the hand.
pub(crate) fn nearest(name: &str, known: impl Iterator<Item = String>) -> Option<String> {
    let bound = (name.len() / 3).max(2);
    known
        .map(|candidate| (distance(name, &candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions and replacements that lead from `a` to `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Sources {
        let file = Some((PathBuf::from("chirp.toml"), text.to_owned()));
        Sources { file, ..Sources::default() }
    }

    #[test]
    fn later_sources_win_and_each_value_says_where_it_is_from() {
        let mut sources = file("[up]\nport = 1\nadmin_port = 2\nuser_replicas = 3");
        sources.env = vec![
            ("CHIRP_UP_ADMIN_PORT".into(), "4".into()),
            ("CHIRP_UP_USER_REPLICAS".into(), "5".into()),
            ("HOME".into(), "/root".into()),
            ("CHIRP_CRASH_MARKS".into(), "/tmp/x".into()),
        ];
        let set = Override { flag: "--replicas", key: "up.user_replicas", value: "6".into() };
        sources.flags = vec![set];
        let loaded = load(&sources).unwrap();
        let up = &loaded.config.up;
        assert_eq!((up.port, up.admin_port, up.user_replicas, up.tweet_replicas), (1, 4, 6, 2));
        let from = |key: &str| loaded.origins[key].to_string();
        assert_eq!(from("up.port"), "chirp.toml");
        assert_eq!(from("up.admin_port"), "CHIRP_UP_ADMIN_PORT");
        assert_eq!(from("up.user_replicas"), "--replicas");
        assert_eq!(from("up.tweet_replicas"), "default");
    }

    #[test]
    fn what_is_wrong_is_named_with_who_said_it() {
        let env = |name: &str, value: &str| Sources {
            env: vec![(name.to_owned(), value.to_owned())],
            ..Sources::default()
        };
        for (sources, wanted) in [
            (file("[up]\nprt = 1"), "chirp.toml sets `up.prt`, which is not a key"),
            (file("[upp]\nport = 1"), "chirp.toml sets `upp`, which is not a key"),
            (file("port = 1"), "chirp.toml sets `port`, which is not a key"),
            (
                file("[up]\nport = \"a\""),
                "chirp.toml sets `up.port` to \"a\", which is not a whole",
            ),
            (file("[up]\n\nport = ="), "chirp.toml, line 3: "),
            (
                file("[up]\nport = 70000"),
                "chirp.toml is refused: `up.port` is 70000, allowed are 0",
            ),
            (file("[up]\nport = -1"), "chirp.toml sets `up.port` to -1, which cannot be: "),
            (
                file("[postgres]\nport = 70000"),
                "chirp.toml sets `postgres.port` to 70000, which cannot be: allowed are 0 to 65535",
            ),
            (
                env("CHIRP_POSTGRES_CONNECTIONS_MAX", "5000000000"),
                "CHIRP_POSTGRES_CONNECTIONS_MAX sets `postgres.connections_max` to 5000000000, \
                 which cannot be: allowed are 0 to 4294967295",
            ),
            (
                file("[postgres]\npassword = 1234567"),
                "chirp.toml sets `postgres.password` to ***, which is not a text",
            ),
            (
                env("CHIRP_SERVE_SERVICE_TOKEN", "1234567"),
                "CHIRP_SERVE_SERVICE_TOKEN is refused: `serve.service_token` must be 32",
            ),
            (
                env("CHIRP_UP_ADDRESS", "here"),
                "CHIRP_UP_ADDRESS sets `up.address` to \"here\", which cannot be: ",
            ),
            (env("CHIRP_UP_PRT", "1"), "the environment sets `CHIRP_UP_PRT`, which is not a key"),
            (env("CHIRP_UP_PORT", "x"), "CHIRP_UP_PORT sets `up.port` to \"x\", which is not a"),
            (
                env("CHIRP_LOG_LEVEL", "x"),
                "CHIRP_LOG_LEVEL is refused: `log.level` is `x`, allowed",
            ),
        ] {
            let text = load(&sources).unwrap_err().to_string();
            assert!(text.starts_with(wanted), "{text}\nwanted {wanted}");
            assert!(!text.contains("1234567"), "{text}");
        }
    }

    #[test]
    fn a_slip_of_the_hand_gets_a_suggestion_and_nonsense_gets_none() {
        let near = |text: &str| match load(&file(text)).unwrap_err() {
            ConfigError::UnknownKey { near, .. } => near,
            other => panic!("{other}"),
        };
        assert_eq!(near("[up]\nprt = 1").as_deref(), Some("up.port"));
        assert_eq!(near("[fanuot]\nx = 1").as_deref(), Some("fanout"));
        assert_eq!(near("[up]\nzzzzzzzzzz = 1"), None);
    }
}
