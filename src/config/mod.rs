//! Configuration: one file per section, every key with its default, its unit and its reason.
//!
//! Keys carry their unit in the name. A section checks itself with `validate`; tests take
//! `for_tests`, which differs from the default only where a test would wait for nothing.

mod auth;
mod aws;
mod backends;
mod cassandra;
pub mod env;
mod fanout;
mod gateway;
mod http;
mod image;
pub mod load;
mod log;
mod media;
mod peers;
mod postgres;
mod redis;
mod relay;
mod serve;
mod timeline;
mod up;

pub use self::redis::Redis;
pub use auth::Auth;
pub use aws::Aws;
pub use backends::{Backends, KINDS};
pub use cassandra::Cassandra;
pub use fanout::Fanout;
pub use gateway::Gateway;
pub use http::Http;
pub use image::Image;
pub(crate) use load::nearest;
pub use load::{ConfigError, Loaded, Origin, Override, Sources, load};
pub use log::{LEVELS, Log};
pub use media::Media;
pub use peers::{Peers, Place};
pub use postgres::{Postgres, TLS_MODES};
pub use relay::Relay;
pub use serve::Serve;
pub use timeline::Timeline;
pub use up::Up;

use std::{fmt, path::Path};

use serde::{Deserialize, Serialize};

/// Everything that services read. Stack-only sections stand beside it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Services {
    /// Limits of every HTTP listener.
    pub http: Http,
    /// Passwords, tokens and sessions.
    pub auth: Auth,
    /// Routing to replicas.
    pub gateway: Gateway,
    /// From outbox to bus.
    pub relay: Relay,
    /// Reading timelines.
    pub timeline: Timeline,
    /// Writing timelines.
    pub fanout: Fanout,
    /// Pictures, from their upload to their end.
    pub media: Media,
}

/// Everything: the sections of the services, and those that only the stack reads.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Config {
    /// Where a local stack listens and keeps its data.
    #[serde(default)]
    pub up: Up,
    /// What a role in a process of its own needs besides.
    #[serde(default)]
    pub serve: Serve,
    /// Where the other roles are.
    #[serde(default)]
    pub peers: Peers,
    /// What is logged.
    #[serde(default)]
    pub log: Log,
    /// Which stores fill the ports.
    #[serde(default)]
    pub backends: Backends,
    /// Which images `up` takes for containers.
    #[serde(default)]
    pub image: Image,
    /// Where `PostgreSQL` is.
    #[serde(default)]
    pub postgres: Postgres,
    /// Where Redis is.
    #[serde(default)]
    pub redis: Redis,
    /// Where Cassandra is.
    #[serde(default)]
    pub cassandra: Cassandra,
    /// Where SNS, SQS and S3 are.
    #[serde(default)]
    pub aws: Aws,
    /// What services read. Their sections stand beside those above, not below a name.
    #[serde(flatten)]
    pub services: Services,
}

impl Config {
    /// Checks every section.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.up.validate()?;
        self.serve.validate()?;
        self.peers.validate()?;
        self.log.validate()?;
        self.backends.validate()?;
        self.image.validate()?;
        self.postgres.validate()?;
        self.redis.validate()?;
        self.cassandra.validate()?;
        self.aws.validate()?;
        self.services.validate()
    }

    /// Section, then key, then value; what the configuration file would say.
    #[must_use]
    pub fn to_table(&self) -> toml::Table {
        toml::Table::try_from(self).expect("sections are tables of numbers and texts")
    }

    /// The same, for other eyes: a secret that is set is [`MASK`].
    #[must_use]
    pub fn to_masked_table(&self) -> toml::Table {
        let mut table = self.to_table();
        for (_, section) in &mut table {
            for (key, value) in section.as_table_mut().into_iter().flatten() {
                if is_secret(key) && value.as_str() != Some("") {
                    *value = toml::Value::String(MASK.to_owned());
                }
            }
        }
        table
    }

    /// Free ports, cheap hashing and generous rate limits.
    #[must_use]
    pub fn for_tests() -> Self {
        Self { up: Up::for_tests(), services: Services::for_tests(), ..Self::default() }
    }
}

/// What is shown in the place of a secret.
pub const MASK: &str = "***";

/// Whether the value of `key` must not be shown. Every field of the type [`Secret`] has such a name,
/// so that nobody need look at types; a test holds that.
#[must_use]
pub fn is_secret(key: &str) -> bool {
    ["secret", "token", "password"].iter().any(|word| key.ends_with(word))
}

/// A text that is never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A value is outside its legal range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` {problem}")]
pub struct Invalid {
    /// The key, as in the configuration file.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

/// Refuses a number outside `low..=high`.
pub(crate) fn within(key: &'static str, value: u64, low: u64, high: u64) -> Result<(), Invalid> {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        Err(Invalid { key, problem: format!("is {value}, allowed are {low} to {high}") })
    }
}

/// Refuses a secret that is set beside the file that holds it; `key` is that of the file.
pub(crate) fn one_of(key: &'static str, file: &Path, secret: &Secret) -> Result<(), Invalid> {
    if secret.0.is_empty() || file.as_os_str().is_empty() {
        return Ok(());
    }
    let other = key.trim_end_matches("_file");
    Err(Invalid { key, problem: format!("is set, and `{other}` too: keep one of them") })
}

/// Host and port of `host:port`; a host with colons stands in brackets.
#[must_use]
pub fn host_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bracketed.is_none() && host.contains(':') {
        return None;
    }
    let host = bracketed.unwrap_or(host);
    (!host.is_empty()).then_some((host, port.parse().ok()?))
}

impl Services {
    /// Checks every section.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.http.validate()?;
        self.auth.validate()?;
        self.gateway.validate()?;
        self.relay.validate()?;
        self.timeline.validate()?;
        self.fanout.validate()?;
        self.media.validate()
    }

    /// Cheap hashing and generous rate limits.
    #[must_use]
    pub fn for_tests() -> Self {
        let (auth, http, media) = (Auth::for_tests(), Http::for_tests(), Media::for_tests());
        Self { http, auth, media, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports() {
        assert_eq!(host_port("cache.local:6379"), Some(("cache.local", 6379)));
        assert_eq!(host_port("[::1]:1"), Some(("::1", 1)));
        for wrong in ["cache", ":1", "::1:1", "a:66000", "a:"] {
            assert_eq!(host_port(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_secret_that_is_set_is_masked_and_an_empty_one_is_seen_to_be_empty() {
        let secret = |text: &str| Secret(text.to_owned());
        let mut config = Config::default();
        config.postgres.password = secret("hunter2");
        config.serve.service_token = secret("hunter2");
        config.aws.access_key_secret = secret("hunter2");
        let table = config.to_masked_table();
        assert!(!toml::to_string(&table).unwrap().contains("hunter2"));
        assert_eq!(table["postgres"]["password"].as_str(), Some(MASK));
        assert_eq!(table["redis"]["password"].as_str(), Some(""));
        assert_eq!(table["serve"]["service_token_file"].as_str(), Some(""));
    }

    #[test]
    fn every_field_that_is_a_secret_is_known_by_its_name() {
        let sections = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/config"));
        let mut secrets = 0;
        for section in sections.unwrap() {
            let text = std::fs::read_to_string(section.unwrap().path()).unwrap();
            let fields = text.lines().filter_map(|line| line.trim().strip_prefix("pub "));
            for name in fields.filter_map(|field| field.strip_suffix(": Secret,")) {
                secrets += 1;
                assert!(is_secret(name), "`{name}` would be shown");
            }
        }
        assert!(secrets >= 5, "only {secrets} were found");
    }
}
