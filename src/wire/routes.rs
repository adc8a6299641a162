//! The one table of public routes. The gateway routes by it, every role serves its part of it, and
//! tests walk it.

use std::fmt;

/// A role of the system: what one process or pod does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Routing and load balancing over the other three.
    Gateway,
    /// Accounts, sessions, keys, the follow graph.
    User,
    /// Tweets.
    Tweet,
    /// Home and author timelines, fan-out.
    Timeline,
}

impl Role {
    /// Every role, the gateway first.
    pub const ALL: [Self; 4] = [Self::Gateway, Self::User, Self::Tweet, Self::Timeline];

    /// The word for it in commands, configuration, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::User => "user",
            Self::Tweet => "tweet",
            Self::Timeline => "timeline",
        }
    }

    /// Reads the word; `None` if it is not one.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whom a route serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Public,
    /// Whoever has a valid access token; they act as themselves only.
    Bearer,
}

/// One public route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The HTTP method.
    pub method: &'static str,
    /// The path, in axum's syntax.
    pub path: &'static str,
    /// Who serves it.
    pub role: Role,
    /// Who may call it.
    pub access: Access,
    /// A repeated call changes nothing more, so a gateway may retry it. `POST /tweets` is only
    /// with an `Idempotency-Key`.
    pub idempotent: bool,
    /// The answer is an endless stream, exempt from the time limit.
    pub stream: bool,
}

const fn route(
    method: &'static str,
    path: &'static str,
    role: Role,
    access: Access,
    idempotent: bool,
) -> Route {
    Route { method, path, role, access, idempotent, stream: false }
}

use Access::{Bearer, Public};
use Role::{Timeline, Tweet, User};

/// `POST /tweets`, the only route that takes an `Idempotency-Key`.
pub const POST_TWEETS: &str = "/tweets";

/// Every public route.
pub const ROUTES: &[Route] = &[
    route("POST", "/users", User, Public, false),
    route("POST", "/sessions", User, Public, false),
    route("DELETE", "/sessions", User, Bearer, true),
    route("GET", "/.well-known/jwks.json", User, Public, true),
    route("GET", "/me", User, Bearer, true),
    route("GET", "/users/{handle}", User, Bearer, true),
    route("POST", "/follow", User, Bearer, true),
    route("DELETE", "/follow/{handle}", User, Bearer, true),
    route("PUT", "/blocks/{handle}", User, Bearer, true),
    route("DELETE", "/blocks/{handle}", User, Bearer, true),
    route("POST", POST_TWEETS, Tweet, Bearer, false),
    route("DELETE", "/tweets/{id}", Tweet, Bearer, true),
    route("POST", "/media", Tweet, Bearer, false),
    route("GET", "/timeline", Timeline, Bearer, true),
    Route { stream: true, ..route("GET", "/timeline/stream", Timeline, Bearer, true) },
    route("GET", "/users/{handle}/tweets", Timeline, Bearer, true),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_stands_once_and_no_role_but_the_gateway_is_without() {
        let keys: BTreeSet<_> = ROUTES.iter().map(|r| (r.method, r.path)).collect();
        assert_eq!(keys.len(), ROUTES.len());
        for role in [User, Tweet, Timeline] {
            assert!(ROUTES.iter().any(|r| r.role == role));
        }
        assert!(ROUTES.iter().all(|r| r.role != Role::Gateway));
    }

    #[test]
    fn roles_are_read_back() {
        for role in Role::ALL {
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("all"), None);
    }
}
