//! `[cassandra]`: where the durable copy of tweets and graph is, and what a call may cost.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Invalid, Secret, host_port, one_of, within};

/// Where the durable copy of tweets and graph is, and what a call may cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cassandra {
    /// Some of the nodes, as `host:port` with commas between; the others are learnt from them.
    /// Default `127.0.0.1:9042`.
    pub addresses: String,
    /// The keyspace. Default `chirp`.
    pub keyspace: String,
    /// Whether connections are encrypted, and the servers' names checked. Default false.
    pub tls: bool,
    /// A PEM file with the authorities to trust instead of the public ones. Default empty: the public
    /// ones.
    pub ca_file: String,
    /// The name that every node's certificate must carry. Amazon Keyspaces has that of its region,
    /// `cassandra.REGION.amazonaws.com`. Default empty: the address at which a node is dialled.
    pub tls_name: String,
    /// Who logs in; empty: nobody does. Default empty.
    pub username: String,
    /// The password. Default empty.
    pub password: Secret,
    /// A file that holds the password instead, up to 16 KiB; white space around it does not count. It is
    /// read again for connections that are made, so it may be replaced, by renaming, while processes
    /// run. Default empty: none.
    pub password_file: PathBuf,
    /// Copies of every row in each data centre, if `chirp migrate` has to make the keyspace. Default 1,
    /// for a single node; three nodes or more need 3 to bear the loss of one.
    pub replicas: u64,
    /// How long making a connection may take, in milliseconds. Default 2,000.
    pub connect_timeout_ms: u64,
    /// How long one statement may take, in milliseconds, with its retries. Default 2,000: a healthy
    /// one takes a few, and whoever hides something has 2 s in all.
    pub call_ms: u64,
    /// Connections of one process to each node. Default 2.
    pub connections: u64,
    /// Statements of one call that are in work at once. Default 32: enough to hide the network, and
    /// not so many that one call fills a connection.
    pub in_flight_max: u64,
}

impl Default for Cassandra {
    fn default() -> Self {
        Self {
            addresses: "127.0.0.1:9042".to_owned(),
            keyspace: "chirp".to_owned(),
            tls: false,
            ca_file: String::new(),
            tls_name: String::new(),
            username: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            replicas: 1,
            connect_timeout_ms: 2_000,
            call_ms: 2_000,
            connections: 2,
            in_flight_max: 32,
        }
    }
}

impl Cassandra {
    /// The nodes, each as `host:port`.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.addresses.split(',').map(str::trim)
    }

    /// How long making a connection may take.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// How long one statement may take.
    #[must_use]
    pub const fn call(&self) -> Duration {
        Duration::from_millis(self.call_ms)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        one_of("cassandra.password_file", &self.password_file, &self.password)?;
        for (key, is_set) in [
            ("cassandra.password", !self.password.0.is_empty()),
            ("cassandra.password_file", !self.password_file.as_os_str().is_empty()),
        ] {
            if is_set && self.username.is_empty() {
                let problem = "is set, and `cassandra.username` is not".to_owned();
                return Err(Invalid { key, problem });
            }
        }
        within("cassandra.addresses", self.nodes().count() as u64, 1, 64)?;
        if let Some(wrong) = self.nodes().find(|address| host_port(address).is_none()) {
            let problem = format!("has `{wrong}`, which is not `host:port`");
            return Err(Invalid { key: "cassandra.addresses", problem });
        }
        // A keyspace's name stands in statements: letters, digits and underlines need no quoting.
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let begins = self.keyspace.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins || !self.keyspace.chars().all(plain) || self.keyspace.len() > 48 {
            let problem = "must be 1 to 48 of a-z, 0-9 and `_`, a letter first".to_owned();
            return Err(Invalid { key: "cassandra.keyspace", problem });
        }
        within("cassandra.replicas", self.replicas, 1, 9)?;
        within("cassandra.connect_timeout_ms", self.connect_timeout_ms, 10, 60_000)?;
        within("cassandra.call_ms", self.call_ms, 10, 60_000)?;
        within("cassandra.connections", self.connections, 1, 64)?;
        within("cassandra.in_flight_max", self.in_flight_max, 1, 1_024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        let fine = Cassandra::default();
        assert_eq!(fine.validate(), Ok(()));
        for (wrong, key) in [
            (Cassandra { addresses: "a".to_owned(), ..fine.clone() }, "cassandra.addresses"),
            (Cassandra { keyspace: "a; drop".to_owned(), ..fine.clone() }, "cassandra.keyspace"),
            (Cassandra { keyspace: String::new(), ..fine.clone() }, "cassandra.keyspace"),
            (
                Cassandra { password_file: PathBuf::from("password"), ..fine.clone() },
                "cassandra.password_file",
            ),
            (Cassandra { in_flight_max: 0, ..fine.clone() }, "cassandra.in_flight_max"),
        ] {
            assert_eq!(wrong.validate().unwrap_err().key, key);
        }
    }
}
