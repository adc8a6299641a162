//! `[postgres]`: where the databases of the user and the tweet role are, and what a call may cost.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Invalid, Secret, one_of, within};

/// How a connection is protected, from not at all to fully.
pub const TLS_MODES: [&str; 4] = ["disable", "require", "verify-ca", "verify-full"];

/// One server with two databases. A role that runs in a process of its own has its own server in
/// its own configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Postgres {
    /// The server's name or address. Default `127.0.0.1`.
    pub host: String,
    /// Its port. Default 5432.
    pub port: u16,
    /// The user that owns both databases. Default `chirp`.
    pub user: String,
    /// Its password. Default empty, for servers that ask for none.
    pub password: Secret,
    /// A file that holds the password instead, up to 16 KiB; white space around it does not count. It is
    /// read again for connections that are made, so it may be replaced, by renaming, while processes
    /// run. Default empty: none.
    pub password_file: PathBuf,
    /// The database of the user role. Default `chirp_user`.
    pub user_database: String,
    /// The database of the tweet role. Default `chirp_tweet`.
    pub tweet_database: String,
    /// `disable`, `require` (encrypted, to whoever answers), `verify-ca` or `verify-full` (encrypted,
    /// to the named host). Default `verify-full`: a password must not be told to a stranger.
    pub tls: String,
    /// A PEM file with the authorities to trust instead of the public ones. Default empty: the public
    /// ones.
    pub ca_file: String,
    /// Connections of one process to one database. Default 8: two to four times a small server's
    /// cores; more only move the queue into the server.
    pub connections_max: u32,
    /// How long a call waits for a connection, in milliseconds, also for one that has to be made.
    /// Default 1,000.
    pub acquire_ms: u64,
    /// After this many milliseconds the server ends a statement. Default 1,000: the slowest, a batch
    /// of an outbox, takes a few dozen.
    pub statement_ms: u64,
    /// After this many milliseconds the server ends a statement that waits for a lock. Default 800:
    /// below `statement_ms`, so that the error says what it waited for.
    pub lock_ms: u64,
    /// After this many milliseconds the server ends a transaction whose client has gone silent, and
    /// with it its locks. Default 3,000.
    pub silence_ms: u64,
    /// After this many milliseconds a call gives up, whatever the server does. Default 2,500: longer
    /// than a connection and a statement may take, so that the server, which knows why, answers
    /// first; three such calls fit the gateway's 8 s.
    pub call_ms: u64,
    /// A connection is replaced after this many seconds, so that a server behind a changed name, or
    /// one that was added, is found. Default 1,800.
    pub lifetime_s: u64,
}

impl Default for Postgres {
    fn default() -> Self {
        Self {
            host: "127.0.0.1".to_owned(),
            port: 5432,
            user: "chirp".to_owned(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            user_database: "chirp_user".to_owned(),
            tweet_database: "chirp_tweet".to_owned(),
            tls: "verify-full".to_owned(),
            ca_file: String::new(),
            connections_max: 8,
            acquire_ms: 1_000,
            statement_ms: 1_000,
            lock_ms: 800,
            silence_ms: 3_000,
            call_ms: 2_500,
            lifetime_s: 1_800,
        }
    }
}

impl Postgres {
    /// How long a call waits for a connection.
    #[must_use]
    pub const fn acquire(&self) -> Duration {
        Duration::from_millis(self.acquire_ms)
    }

    /// When a call gives up.
    #[must_use]
    pub const fn call(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    /// How long a connection is used.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        Duration::from_secs(self.lifetime_s)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        one_of("postgres.password_file", &self.password_file, &self.password)?;
        if !TLS_MODES.contains(&self.tls.as_str()) {
            let problem = format!("is `{}`, allowed are {}", self.tls, TLS_MODES.join(", "));
            return Err(Invalid { key: "postgres.tls", problem });
        }
        if self.user_database == self.tweet_database {
            let problem = "is `postgres.user_database` too: each role has its own".to_owned();
            return Err(Invalid { key: "postgres.tweet_database", problem });
        }
        within("postgres.connections_max", u64::from(self.connections_max), 1, 1_000)?;
        within("postgres.statement_ms", self.statement_ms, 10, 60_000)?;
        within("postgres.lock_ms", self.lock_ms, 1, self.statement_ms)?;
        within("postgres.silence_ms", self.silence_ms, 10, 600_000)?;
        within("postgres.call_ms", self.call_ms, self.statement_ms + 1, 120_000)?;
        within("postgres.acquire_ms", self.acquire_ms, 1, self.call_ms)?;
        within("postgres.lifetime_s", self.lifetime_s, 1, 86_400)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_allowed_and_what_contradicts_them_is_named() {
        let fine = Postgres::default();
        assert_eq!(fine.validate(), Ok(()));
        for (wrong, key) in [
            (Postgres { tls: "prefer".to_owned(), ..fine.clone() }, "postgres.tls"),
            (Postgres { lock_ms: 1_001, ..fine.clone() }, "postgres.lock_ms"),
            (Postgres { call_ms: 1_000, ..fine.clone() }, "postgres.call_ms"),
            (
                Postgres { tweet_database: fine.user_database.clone(), ..fine.clone() },
                "postgres.tweet_database",
            ),
            (Postgres { connections_max: 0, ..fine.clone() }, "postgres.connections_max"),
            (
                Postgres {
                    password: Secret("hunter2".to_owned()),
                    password_file: PathBuf::from("password"),
                    ..fine.clone()
                },
                "postgres.password_file",
            ),
        ] {
            assert_eq!(wrong.validate().unwrap_err().key, key);
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let config = Postgres { password: Secret("hunter2".to_owned()), ..Postgres::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
