//! `[redis]`: where the shared caches are, and how long they are waited for.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Invalid, Secret, host_port, one_of, within};

/// Where the shared caches are, and how long they are waited for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Redis {
    /// Servers, as `host:port`. One, or with `cluster` some of the nodes with commas between, from
    /// which the others are learnt. Default `127.0.0.1:6379`.
    pub addresses: String,
    /// Whether the servers are a cluster. Default false.
    pub cluster: bool,
    /// Whether connections are encrypted, and the servers' names checked. Default false.
    pub tls: bool,
    /// A PEM file with the authorities to trust instead of the machine's. Default empty: the machine's.
    pub ca_file: String,
    /// Who logs in; empty: the server's default user. Default empty.
    pub username: String,
    /// The password; empty: none is sent. Default empty.
    pub password: Secret,
    /// A file that holds the password instead, up to 16 KiB; white space around it does not count. It is
    /// read again for connections that are made, so it may be replaced, by renaming, while processes
    /// run. Default empty: none.
    pub password_file: PathBuf,
    /// What every key begins with, so that several stacks can share a server. Default `chirp`.
    pub namespace: String,
    /// How long making a connection may take, in milliseconds. Default 1,000: a handshake of TLS over
    /// a busy network, and far below what a caller waits.
    pub connect_timeout_ms: u64,
    /// How long a read may take, in milliseconds. Default 500: a healthy answer takes one; a page
    /// should rather be made from the store than wait longer.
    pub read_timeout_ms: u64,
    /// How long one pipeline of writes may take, in milliseconds. Default 1,000: 512 scripts take some
    /// milliseconds, and whoever hides something has 2 s in all.
    pub write_timeout_ms: u64,
    /// Replicas of each primary that must have a write before it counts as done. Default 0: without
    /// replicas nothing can undo a write. Set it to 1 where a replica may take over.
    pub wait_replicas: u64,
    /// How long replicas are waited for, in milliseconds. Default 300: they are some milliseconds
    /// behind; after that the write is unknown, and comes again.
    pub wait_timeout_ms: u64,
    /// Connections to each primary for reads, which share them. Default 2: one fills a core of the
    /// server, the second keeps small reads out of the way of big answers.
    pub read_connections: u64,
    /// Connections to each primary for writes. Default 4: with `wait_replicas` a connection is held
    /// until the replicas have the write, so this many writes wait at once.
    pub write_connections: u64,
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            addresses: "127.0.0.1:6379".to_owned(),
            cluster: false,
            tls: false,
            ca_file: String::new(),
            username: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            namespace: "chirp".to_owned(),
            connect_timeout_ms: 1_000,
            read_timeout_ms: 500,
            write_timeout_ms: 1_000,
            wait_replicas: 0,
            wait_timeout_ms: 300,
            read_connections: 2,
            write_connections: 4,
        }
    }
}

impl Redis {
    /// The servers, each as `host:port`.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.addresses.split(',').map(str::trim)
    }

    /// How long making a connection may take.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// How long a read may take.
    #[must_use]
    pub const fn read_timeout(&self) -> Duration {
        Duration::from_millis(self.read_timeout_ms)
    }

    /// How long one pipeline of writes may take.
    #[must_use]
    pub const fn write_timeout(&self) -> Duration {
        Duration::from_millis(self.write_timeout_ms)
    }

    /// How long replicas are waited for.
    #[must_use]
    pub const fn wait_timeout(&self) -> Duration {
        Duration::from_millis(self.wait_timeout_ms)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first that is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        one_of("redis.password_file", &self.password_file, &self.password)?;
        let refuse = |key, problem: &str| Err(Invalid { key, problem: problem.to_owned() });
        within("redis.addresses", self.nodes().count() as u64, 1, 64)?;
        if !self.cluster && self.nodes().count() > 1 {
            return refuse("redis.addresses", "has several servers, which needs `redis.cluster`");
        }
        if let Some(wrong) = self.nodes().find(|address| host_port(address).is_none()) {
            let problem = format!("has `{wrong}`, which is not `host:port`");
            return Err(Invalid { key: "redis.addresses", problem });
        }
        // Braces would move where a key lives; the rest keeps keys readable.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.namespace.is_empty() || !self.namespace.chars().all(plain) {
            return refuse("redis.namespace", "may have letters, digits, `-`, `_` and `.`");
        }
        within("redis.namespace", self.namespace.len() as u64, 1, 64)?;
        within("redis.connect_timeout_ms", self.connect_timeout_ms, 10, 60_000)?;
        within("redis.read_timeout_ms", self.read_timeout_ms, 10, 60_000)?;
        within("redis.write_timeout_ms", self.write_timeout_ms, 10, 60_000)?;
        within("redis.wait_replicas", self.wait_replicas, 0, 5)?;
        // Zero would make the server wait for ever.
        within("redis.wait_timeout_ms", self.wait_timeout_ms, 1, 60_000)?;
        within("redis.read_connections", self.read_connections, 1, 64)?;
        within("redis.write_connections", self.write_connections, 1, 64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_refused() {
        assert_eq!(Redis::default().validate(), Ok(()));
        let at = |addresses: &str| Redis { addresses: addresses.to_owned(), ..Redis::default() };
        assert_eq!(Redis { cluster: true, ..at("a:1, b:1") }.validate(), Ok(()));
        let wrong = [
            at(""),
            at("a"),
            at("a:1, b:1"),
            Redis { namespace: "a{b".to_owned(), ..Redis::default() },
            Redis { wait_timeout_ms: 0, ..Redis::default() },
        ];
        for redis in wrong {
            assert!(redis.validate().is_err(), "{redis:?}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let redis = Redis { password: Secret("hunter2".to_owned()), ..Redis::default() };
        assert!(!format!("{redis:?}").contains("hunter2"));
    }
}
