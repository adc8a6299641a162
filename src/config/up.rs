//! `[up]`: where a local stack listens, keeps its data, and how many replicas it runs.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Invalid, within};
use crate::wire::routes::Role;

/// Where a local stack listens, keeps its data, and how many replicas it runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Up {
    /// Address of the public listener. The admin listener is always on loopback.
    /// Default 127.0.0.1.
    pub address: IpAddr,
    /// Port of the public listener; 0 takes any free one. Default 8080.
    pub port: u64,
    /// Port of the admin listener; 0 takes any free one. Default 8081.
    pub admin_port: u64,
    /// Folder of everything that is kept. Default `.chirp` in the working directory.
    pub data_dir: PathBuf,
    /// Replicas of the user role, as task groups of one process. Default 2.
    pub user_replicas: u64,
    /// Replicas of the tweet role, as task groups of one process. Default 2.
    pub tweet_replicas: u64,
    /// Replicas of the timeline role, each with near-caches of its own. Default 2.
    pub timeline_replicas: u64,
    /// Open connections per listener; further ones wait to be accepted. Default 10,000.
    pub connections_max: u64,
    /// Open connections of one address (of IPv6: of a /64) per listener; further ones are hung
    /// up on. Far above what a household behind one address opens. A gateway on another machine is
    /// one address too: raise this for the roles that it calls. Default 128.
    pub address_connections_max: u64,
    /// The same for this machine, from which proxies, load drivers and the gateways of
    /// `chirp serve` call: below `connections_max`, so that they cannot take every place.
    /// Default 4,096.
    pub local_connections_max: u64,
    /// A start that is not ready after this many milliseconds has failed. Default 30,000.
    pub ready_timeout_ms: u64,
    /// Containers that do not all answer after this many milliseconds have failed, with the time for
    /// images that have to be pulled; it is not part of `ready_timeout_ms`. Default 300,000: Cassandra
    /// took 10 s, 61 s on a busy machine, and 1 GB of images takes minutes on a slow line.
    pub containers_timeout_ms: u64,
    /// Whether containers and what is in them stay after the end, for the next start. Once they do,
    /// they do until `chirp down --purge`. Default false.
    pub reuse: bool,
    /// Whether every replica of a role is a process of its own. Default false.
    pub processes: bool,
    /// A stop lets requests in work finish for this many milliseconds. Default 5,000.
    pub drain_ms: u64,
}

impl Default for Up {
    fn default() -> Self {
        Self {
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8080,
            admin_port: 8081,
            data_dir: PathBuf::from(".chirp"),
            user_replicas: 2,
            tweet_replicas: 2,
            timeline_replicas: 2,
            connections_max: 10_000,
            address_connections_max: 128,
            local_connections_max: 4_096,
            ready_timeout_ms: 30_000,
            containers_timeout_ms: 300_000,
            reuse: false,
            processes: false,
            drain_ms: 5_000,
        }
    }
}

impl Up {
    /// A start that is not ready by then has failed.
    #[must_use]
    pub const fn ready_timeout(&self) -> Duration {
        Duration::from_millis(self.ready_timeout_ms)
    }

    /// Containers that do not all answer by then have failed.
    #[must_use]
    pub const fn containers_timeout(&self) -> Duration {
        Duration::from_millis(self.containers_timeout_ms)
    }

    /// A stop lets requests in work finish for this long.
    #[must_use]
    pub const fn drain(&self) -> Duration {
        Duration::from_millis(self.drain_ms)
    }

    /// Replicas of `role`. There is one gateway: it is the listener that everybody calls.
    #[must_use]
    pub fn replicas(&self, role: Role) -> usize {
        let count = match role {
            Role::Gateway => 1,
            Role::User => self.user_replicas,
            Role::Tweet => self.tweet_replicas,
            Role::Timeline => self.timeline_replicas,
        };
        usize::try_from(count).unwrap_or(usize::MAX)
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        within("up.port", self.port, 0, 65_535)?;
        within("up.admin_port", self.admin_port, 0, 65_535)?;
        within("up.user_replicas", self.user_replicas, 1, 16)?;
        within("up.tweet_replicas", self.tweet_replicas, 1, 16)?;
        within("up.timeline_replicas", self.timeline_replicas, 1, 16)?;
        within("up.connections_max", self.connections_max, 1, 1_000_000)?;
        within("up.address_connections_max", self.address_connections_max, 1, 1_000_000)?;
        within("up.local_connections_max", self.local_connections_max, 1, 1_000_000)?;
        within("up.ready_timeout_ms", self.ready_timeout_ms, 100, 600_000)?;
        within("up.containers_timeout_ms", self.containers_timeout_ms, 1_000, 3_600_000)?;
        within("up.drain_ms", self.drain_ms, 0, 600_000)?;
        if self.data_dir.as_os_str().is_empty() {
            return Err(Invalid { key: "up.data_dir", problem: "is empty".to_owned() });
        }
        if self.port != 0 && self.port == self.admin_port {
            let problem = format!("is {}, as is `up.port`", self.admin_port);
            return Err(Invalid { key: "up.admin_port", problem });
        }
        Ok(())
    }

    /// Any free ports, one replica.
    #[must_use]
    pub fn for_tests() -> Self {
        Self { port: 0, admin_port: 0, ..Self::default() }
    }
}
