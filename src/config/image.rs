//! `[image]`: the images of `chirp up --backends containers`, where others are wanted than the pinned
//! ones.

use serde::{Deserialize, Serialize};

use super::Invalid;

/// An image instead of the pinned one, by server. Empty: the pinned one, or where it cannot be
/// pulled the one that `infra/local-images/build` makes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Image {
    /// The databases: `PostgreSQL`. Default empty.
    pub postgres: String,
    /// Redis or Valkey. Default empty.
    pub redis: String,
    /// Apache Cassandra. Default empty.
    pub cassandra: String,
    /// The emulator of SNS, SQS and S3. Default empty.
    pub ministack: String,
}

impl Image {
    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        for (key, name) in [
            ("image.postgres", &self.postgres),
            ("image.redis", &self.redis),
            ("image.cassandra", &self.cassandra),
            ("image.ministack", &self.ministack),
        ] {
            if name.len() > 512 || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
                return Err(Invalid { key, problem: "is not the name of an image".to_owned() });
            }
        }
        Ok(())
    }
}
