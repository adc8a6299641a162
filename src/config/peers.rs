//! `[peers]`: where the other roles are, for processes that share no data folder.

use serde::{Deserialize, Serialize};

use super::{Invalid, host_port, within};
use crate::wire::routes::Role;

/// The most places of one role.
const PLACES_MAX: u64 = 16;

/// Where the other roles are. A process with any of them looks into no data folder, and needs the
/// service token from `[serve]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Peers {
    /// Where the user role is: `host:port/admin`, the ports of its public and its admin listener, with
    /// commas between several. Every address that a name has is a replica; names are looked up again
    /// and again. Default empty.
    pub user: String,
    /// Where the tweet role is, in the same form. Default empty.
    pub tweet: String,
    /// Where the timeline role is, in the same form. Default empty.
    pub timeline: String,
}

/// A place of replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// A name, or an address.
    pub(crate) host: String,
    /// The port of the public listener.
    pub(crate) public: u16,
    /// The port of the admin listener.
    pub(crate) admin: u16,
}

impl Place {
    fn parse(text: &str) -> Option<Self> {
        let (public, admin) = text.trim().rsplit_once('/')?;
        let (host, public) = host_port(public)?;
        // It is told to whoever listens there.
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
        if !host.chars().all(plain) {
            return None;
        }
        Some(Self { host: host.to_owned(), public, admin: admin.parse().ok()? })
    }
}

impl Peers {
    /// Whether any place is known.
    #[must_use]
    pub fn any(&self) -> bool {
        Role::ALL.iter().any(|role| !self.of(*role).is_empty())
    }

    /// The places of `role`; the gateway is called by nobody.
    #[must_use]
    pub fn places(&self, role: Role) -> Vec<Place> {
        self.of(role).split(',').filter_map(Place::parse).collect()
    }

    fn of(&self, role: Role) -> &str {
        match role {
            Role::Gateway => "",
            Role::User => &self.user,
            Role::Tweet => &self.tweet,
            Role::Timeline => &self.timeline,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        let all = [
            ("peers.user", Role::User),
            ("peers.tweet", Role::Tweet),
            ("peers.timeline", Role::Timeline),
        ];
        for (key, role) in all.into_iter().filter(|(_, role)| !self.of(*role).is_empty()) {
            if let Some(wrong) = self.of(role).split(',').find(|text| Place::parse(text).is_none())
            {
                let problem = format!("has `{}`, which is not `host:port/admin`", wrong.trim());
                return Err(Invalid { key, problem });
            }
            within(key, self.places(role).len() as u64, 1, PLACES_MAX)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_a_host_and_two_ports() {
        let peers = |user: &str| Peers { user: user.to_owned(), ..Peers::default() };
        let two = peers("user.chirp:8080/8081, [::1]:1/2");
        assert_eq!(two.validate(), Ok(()));
        let places = two.places(Role::User);
        assert_eq!(places[0], Place { host: "user.chirp".to_owned(), public: 8080, admin: 8081 });
        assert_eq!(places[1], Place { host: "::1".to_owned(), public: 1, admin: 2 });
        assert!(two.any() && !peers("").any());
        for wrong in
            ["user", "user:8080", "user:8080/", "user/8081", "a:1/2,", "a:1/70000", "a b:1/2"]
        {
            assert_eq!(peers(wrong).validate().unwrap_err().key, "peers.user", "{wrong}");
        }
    }
}
