//! `[aws]`: SNS, SQS and S3, or an emulator of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Invalid, Secret, within};

/// SNS, SQS and S3, or an emulator of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Aws {
    /// The region. Default `us-east-1`.
    pub region: String,
    /// Where the services are, as a URL; empty: AWS itself. Default empty.
    pub endpoint: String,
    /// Key id of fixed credentials; empty: what the environment of the process provides (variables,
    /// web identity, container or instance metadata). Default empty.
    pub access_key_id: String,
    /// The secret of the fixed credentials. Default empty.
    pub access_key_secret: Secret,
    /// What the names of topics and queues begin with, so that several stacks can share an account.
    /// Default `chirp`.
    pub namespace: String,
    /// Whether topics, queues and subscriptions are made, and made again when they are gone; and the
    /// bucket, by whatever makes schemas. Default true: what is there keeps its messages, and gets the attributes that are needed. Set it to false
    /// where a template makes them and this program may only use them: then they are looked for.
    pub ensure: bool,
    /// The bucket of pictures. Default `chirp-media`.
    pub bucket: String,
    /// How long making a connection may take, in milliseconds. Default 1,000.
    pub connect_timeout_ms: u64,
    /// How long one attempt of a call may take, in milliseconds, beyond the time that it asks the
    /// server to wait. Default 2,000.
    pub attempt_ms: u64,
    /// Attempts of one call. Default 2: the relay and the workers try again themselves.
    pub attempts_max: u64,
}

impl Default for Aws {
    fn default() -> Self {
        Self {
            region: "us-east-1".to_owned(),
            endpoint: String::new(),
            access_key_id: String::new(),
            access_key_secret: Secret::default(),
            namespace: "chirp".to_owned(),
            ensure: true,
            bucket: "chirp-media".to_owned(),
            connect_timeout_ms: 1_000,
            attempt_ms: 2_000,
            attempts_max: 2,
        }
    }
}

impl Aws {
    /// How long making a connection may take.
    #[must_use]
    pub const fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    /// How long one attempt of a call may take.
    #[must_use]
    pub const fn attempt(&self) -> Duration {
        Duration::from_millis(self.attempt_ms)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn validate(&self) -> Result<(), Invalid> {
        let refuse = |key, problem: &str| Err(Invalid { key, problem: problem.to_owned() });
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let named = |name: &str, low: usize, high: usize| {
            (low..=high).contains(&name.len()) && name.chars().all(plain)
        };
        if !named(&self.region, 1, 32) {
            return refuse("aws.region", "must be 1 to 32 of a-z, 0-9 and `-`");
        }
        // A queue's name has at most 80 characters; the longest that is added has 13.
        if !named(&self.namespace, 1, 40) {
            return refuse("aws.namespace", "must be 1 to 40 of a-z, 0-9 and `-`");
        }
        if !named(&self.bucket, 3, 63) {
            return refuse("aws.bucket", "must be 3 to 63 of a-z, 0-9 and `-`");
        }
        let web = self.endpoint.starts_with("http://") || self.endpoint.starts_with("https://");
        if !self.endpoint.is_empty() && !web {
            return refuse("aws.endpoint", "must begin with `http://` or `https://`");
        }
        if self.access_key_id.is_empty() != self.access_key_secret.0.is_empty() {
            return refuse("aws.access_key_id", "needs `aws.access_key_secret`, and the other way");
        }
        within("aws.connect_timeout_ms", self.connect_timeout_ms, 10, 60_000)?;
        within("aws.attempt_ms", self.attempt_ms, 10, 60_000)?;
        within("aws.attempts_max", self.attempts_max, 1, 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named() {
        let fine = Aws::default();
        assert_eq!(fine.validate(), Ok(()));
        for (wrong, key) in [
            (Aws { endpoint: "localhost:1".to_owned(), ..fine.clone() }, "aws.endpoint"),
            (Aws { bucket: "a".to_owned(), ..fine.clone() }, "aws.bucket"),
            (Aws { namespace: "A".to_owned(), ..fine.clone() }, "aws.namespace"),
            (Aws { access_key_id: "a".to_owned(), ..fine.clone() }, "aws.access_key_id"),
        ] {
            assert_eq!(wrong.validate().unwrap_err().key, key);
        }
    }
}
