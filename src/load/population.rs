//! Who acts: the users of a seeded data set who have a token, and who follows whom.

use std::{collections::BTreeSet, path::Path, time::Duration};

use crate::{
    domain::{Handle, UserId},
    graph::{Graph, Random},
    services::kit::token::claims_uncounted,
    stack::seed::{Order, Plan, credentials},
};

/// What comes after a run is allowed this long.
const AUDIT_MAX: Duration = Duration::from_mins(10);

/// Why there is no population.
#[derive(Debug, thiserror::Error)]
pub enum NoPopulation {
    /// The file of tokens cannot be used.
    #[error("cannot use the credentials `{path}`: {reason}")]
    Credentials {
        /// The file.
        path: String,
        /// Why.
        reason: String,
    },
    /// The tokens have ended, or end before the run does.
    #[error("the access tokens of `{path}` end {when}")]
    Expired {
        /// The file.
        path: String,
        /// Before what.
        when: &'static str,
    },
}

/// One who acts.
#[derive(Clone, Debug)]
pub struct User {
    /// The id.
    pub id: UserId,
    /// The handle.
    pub handle: Handle,
    /// `Bearer` and the access token.
    pub bearer: http::HeaderValue,
}

/// All who act, the most followed first, and whom they and all others follow.
pub struct Population {
    /// Those who have a token, by rank.
    pub users: Vec<User>,
    /// Who follows whom of all users of the data set.
    pub graph: Graph,
    /// Ids of all users, rising with rank.
    ids: Vec<UserId>,
    /// As `chirp seed` is asked for it.
    pub order: String,
    /// Whether their tokens say that calls are not counted towards rate limits.
    pub exempt: bool,
    /// When the tokens end, in milliseconds since the Unix epoch.
    pub expires_at_ms: u64,
}

impl Population {
    /// Reads the tokens of `path` and makes the graph that their data set was seeded with: seconds and
    /// some 300 MB for a million users.
    ///
    /// # Errors
    /// [`NoPopulation::Credentials`].
    pub fn load(path: &Path) -> Result<Self, NoPopulation> {
        let unusable = |reason: String| {
            let path = path.display().to_string();
            NoPopulation::Credentials { path, reason }
        };
        let known = credentials::read(path).map_err(&unusable)?;
        let order = Order::parse(&known.seed)
            .ok_or_else(|| unusable(format!("`{}` is no order of a seed", known.seed)))?;
        let plan = Plan::new(&order).map_err(|error| unusable(error.to_string()))?;
        let ids: Vec<UserId> = (0..plan.users()).map(|user| plan.id(user)).collect();
        let exempt = known.users.iter().all(|user| claims_uncounted(&user.token));
        let mut users = Vec::with_capacity(known.users.len());
        for (rank, user) in known.users.into_iter().enumerate() {
            if ids.get(rank) != Some(&user.id) {
                return Err(unusable(format!("`{}` is not of this seed", user.handle)));
            }
            let mut bearer = http::HeaderValue::try_from(format!("Bearer {}", user.token))
                .map_err(|_| unusable(format!("the token of `{}` is none", user.handle)))?;
            bearer.set_sensitive(true);
            users.push(User { id: user.id, handle: user.handle, bearer });
        }
        if users.len() < 2 {
            return Err(unusable("it has tokens of fewer than two users".to_owned()));
        }
        let (order, expires_at_ms) = (known.seed, known.expires_at_ms);
        Ok(Self { users, graph: plan.into_graph(), ids, order, exempt, expires_at_ms })
    }

    /// Holds the tokens of `path` to a run of `length` that begins now.
    ///
    /// # Errors
    /// [`NoPopulation::Expired`].
    pub fn lasts(&self, path: &Path, now_ms: u64, length: Duration) -> Result<(), NoPopulation> {
        let expired = |when| Err(NoPopulation::Expired { path: path.display().to_string(), when });
        if self.expires_at_ms <= now_ms {
            return expired("already");
        }
        if self.expires_at_ms < now_ms + (length + AUDIT_MAX).as_millis() as u64 {
            return expired("before the run and its audit do");
        }
        Ok(())
    }

    /// How many act.
    #[must_use]
    pub fn len(&self) -> u32 {
        self.users.len() as u32
    }

    /// Whether nobody acts; never, once it is loaded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The rank of a user of the data set.
    #[must_use]
    pub fn rank(&self, id: UserId) -> Option<u32> {
        self.ids.binary_search(&id).ok().map(|rank| rank as u32)
    }

    /// Whom `user` followed when the data set was seeded, of those who act.
    pub fn followees(&self, user: u32) -> impl Iterator<Item = u32> + '_ {
        let acts = self.len();
        self.graph.following.of(user).iter().copied().filter(move |&other| other < acts)
    }

    /// Who followed `user` when the data set was seeded, of those who act.
    #[must_use]
    pub fn followers(&self, user: u32) -> &[u32] {
        let row = self.graph.followers.of(user);
        &row[..row.partition_point(|&other| other < self.len())]
    }

    /// Followers that `user` had when the data set was seeded, of all.
    #[must_use]
    pub fn audience(&self, user: u32) -> usize {
        self.graph.followers.of(user).len()
    }

    /// Whether `reader` followed `author` when the data set was seeded.
    #[must_use]
    pub fn follows(&self, reader: u32, author: u32) -> bool {
        self.graph.following.of(reader).binary_search(&author).is_ok()
    }
}

/// Draws a rank below `n`, the first ones more often, by Zipf's law: of 100,000 users a tenth does four
/// fifths of everything, as ln(10,001) is 0.80 of ln(100,001). Of Twitter's tweets 80 % came from the most
/// active 10 % (Wojcik and Hughes, Pew Research Center 2019). Rank is by followers, so that who is followed
/// more does more.
#[must_use]
#[expect(clippy::cast_sign_loss, reason = "a rank is not negative")]
pub fn active(n: u32, random: &mut Random) -> u32 {
    let rank = libm::pow(f64::from(n) + 1.0, random.unit()) - 1.0;
    (rank as u32).min(n - 1)
}

/// Up to `count` different ranks below `n`: the `top` first ones, then any.
#[must_use]
pub fn sample(n: u32, count: usize, top: u32, random: &mut Random) -> Vec<u32> {
    if count >= n as usize {
        return (0..n).collect();
    }
    let mut chosen: BTreeSet<u32> = (0..top.min(n)).take(count).collect();
    while chosen.len() < count {
        chosen.insert(random.below(u64::from(n)) as u32);
    }
    chosen.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_does_four_fifths() {
        let mut random = Random::new(3);
        let n = 100_000;
        let all: Vec<u32> = (0..200_000).map(|_| active(n, &mut random)).collect();
        let tenth = all.iter().filter(|&&rank| rank < n / 10).count();
        assert!((158_000..162_000).contains(&tenth), "{tenth}");
        assert!(all.iter().all(|&rank| rank < n));
        assert_eq!(active(1, &mut random), 0);
    }

    #[test]
    fn a_sample_has_its_size_once_each() {
        let mut random = Random::new(3);
        assert_eq!(sample(5, 9, 2, &mut random), [0, 1, 2, 3, 4]);
        let some = sample(1_000, 50, 10, &mut random);
        assert_eq!(some.len(), 50);
        assert!(some[..10].iter().enumerate().all(|(n, &rank)| rank == n as u32));
    }
}
