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
pub mod load;
mod log;
mod media;
mod postgres;
pub mod redis;
mod relay;
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
pub use load::{ConfigError, Loaded, Origin, Override, Sources, load};
pub use log::{LEVELS, Log};
pub use media::Media;
pub use postgres::{Postgres, TLS_MODES};
pub use relay::Relay;
pub use timeline::Timeline;
pub use up::Up;

use std::fmt;

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
    /// What is logged.
    #[serde(default)]
    pub log: Log,
    /// Which stores fill the ports.
    #[serde(default)]
    pub backends: Backends,
    /// Where PostgreSQL is.
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
        self.log.validate()?;
        self.backends.validate()?;
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

    /// Free ports, cheap hashing and generous rate limits.
    #[must_use]
    pub fn for_tests() -> Self {
        Self { up: Up::for_tests(), services: Services::for_tests(), ..Self::default() }
    }
}

/// Whether the value of `key` must not be shown.
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
        Self { auth, http, media, ..Self::default() }
    }
}
