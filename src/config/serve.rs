//! `[serve]`: what a role in a process of its own needs beside `[up]`, above all as a pod.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::{Invalid, Secret, host_port, one_of, within};

/// The shortest service token that is taken from the configuration: 128 bits as hexadecimal digits.
const TOKEN_MIN: usize = 32;
/// The longest: far below the largest head of a request.
const TOKEN_MAX: usize = 1_024;
/// The most names of a listener.
const ADVERTISED_MAX: usize = 16;

/// What a role in a process of its own needs beside `[up]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Serve {
    /// Address of the admin listener. On any other than loopback it answers strangers only whether
    /// the process lives and is ready; the rest needs the service token. Default 127.0.0.1.
    pub admin_address: IpAddr,
    /// Under which names, as `host:port` with commas between, others may call these listeners where
    /// the address they call is not the one that is bound: behind a virtual address, a port that is
    /// forwarded, or a proxy. Whoever can make such a name lead elsewhere can stand between two roles,
    /// so the fewest that work. Default empty: none.
    pub advertised: String,
    /// After SIGTERM a process whose stores are servers says that it is not ready, and works on for
    /// this many milliseconds before it closes its listeners, so that callers learn of it first.
    /// Default 3,000: they ask once a second, and give an answer a second.
    pub drain_delay_ms: u64,
    /// What roles know each other by, 32 to 1,024 visible characters. Default empty: `service.token`
    /// of the data folder.
    pub service_token: Secret,
    /// A file that holds the service token instead. Default empty: none.
    pub service_token_file: PathBuf,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            admin_address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            advertised: String::new(),
            drain_delay_ms: 3_000,
            service_token: Secret::default(),
            service_token_file: PathBuf::new(),
        }
    }
}

impl Serve {
    /// The names under which others may call these listeners, each as `host:port`.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.advertised.split(',').map(str::trim).filter(|name| !name.is_empty())
    }

    /// How long a process works on after it has been told to stop.
    #[must_use]
    pub const fn drain_delay(&self) -> Duration {
        Duration::from_millis(self.drain_delay_ms)
    }

    /// Whether `token` can be a service token.
    #[must_use]
    pub fn is_token(token: &str) -> bool {
        (TOKEN_MIN..=TOKEN_MAX).contains(&token.len())
            && token.bytes().all(|byte| byte.is_ascii_graphic())
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        if let Some(wrong) = self.names().find(|name| host_port(name).is_none()) {
            let problem = format!("has `{wrong}`, which is not `host:port`");
            return Err(Invalid { key: "serve.advertised", problem });
        }
        within("serve.advertised", self.names().count() as u64, 0, ADVERTISED_MAX as u64)?;
        within("serve.drain_delay_ms", self.drain_delay_ms, 0, 600_000)?;
        let token = &self.service_token.0;
        if !token.is_empty() && !Self::is_token(token) {
            let problem = format!("must be {TOKEN_MIN} to {TOKEN_MAX} visible characters");
            return Err(Invalid { key: "serve.service_token", problem });
        }
        one_of("serve.service_token_file", &self.service_token_file, &self.service_token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_is_named_and_no_token_is_shown() {
        let fine = Serve::default();
        assert_eq!(fine.validate(), Ok(()));
        let short = Serve { service_token: Secret("hunter2".to_owned()), ..fine.clone() };
        for (wrong, key) in [
            (Serve { advertised: "user".to_owned(), ..fine.clone() }, "serve.advertised"),
            (short, "serve.service_token"),
        ] {
            let error = wrong.validate().unwrap_err();
            assert_eq!(error.key, key);
            assert!(
                !error.to_string().contains("hunter2") && !format!("{wrong:?}").contains("hunter2")
            );
        }
        let both = Serve {
            service_token: Secret("0".repeat(64)),
            service_token_file: PathBuf::from("token"),
            ..fine
        };
        assert_eq!(both.validate().unwrap_err().key, "serve.service_token_file");
    }
}
