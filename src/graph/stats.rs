//! What a graph came out as.

use std::fmt::Write as _;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::rows::{Graph, Rows};

/// The tail of the followers' distribution begins at this many times the mean: below, edges that are
/// returned, which follow the other distribution, count for much.
const TAIL_FROM: f64 = 5.0;

/// Followers or followees of a user, over all users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Degrees {
    /// Half of the users have at most this many.
    pub p50: u32,
    /// Nine of ten.
    pub p90: u32,
    /// Ninety-nine of a hundred.
    pub p99: u32,
    /// Nobody has more.
    pub max: u32,
}

/// What a graph came out as.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stats {
    /// Users.
    pub users: u32,
    /// Edges.
    pub edges: usize,
    /// Edges per user.
    pub mean: f64,
    /// Whom users follow.
    pub following: Degrees,
    /// Who follows users.
    pub followers: Degrees,
    /// The share of edges that are returned.
    pub reciprocity: f64,
    /// The account with the most followers, the first of them.
    pub largest: u32,
    /// The share of the other users who follow it.
    pub largest_share: f64,
    /// The power by which the share of users with k followers falls, estimated over users who have at
    /// least five times the mean (Clauset, Shalizi and Newman 2009, eq. 3.7); `None` if there are none.
    pub exponent: Option<f64>,
    /// Bytes in memory per edge, both directions.
    pub bytes_per_edge: f64,
    /// SHA-256 of all rows of followees: offsets, then others, 32 bits each, little-endian.
    pub sha256: String,
}

impl Stats {
    /// Of `graph`.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "edges are below 2^32")]
    pub fn of(graph: &Graph) -> Self {
        let (users, edges) = (graph.users(), graph.edges());
        let mean = edges as f64 / f64::from(users);
        let followers = counts(&graph.followers);
        let most = followers.iter().copied().max().unwrap_or_default();
        let largest = followers.iter().position(|&count| count == most).unwrap_or_default();
        Self {
            users,
            edges,
            mean,
            following: degrees(counts(&graph.following)),
            exponent: exponent(&followers, mean),
            followers: degrees(followers),
            reciprocity: returned(graph) as f64 / (edges as f64).max(1.0),
            largest: u32::try_from(largest).expect("a user"),
            largest_share: f64::from(most) / f64::from((users - 1).max(1)),
            bytes_per_edge: graph.bytes() as f64 / (edges as f64).max(1.0),
            sha256: sha256(&graph.following),
        }
    }
}

fn counts(rows: &Rows) -> Vec<u32> {
    rows.offsets().windows(2).map(|ends| ends[1] - ends[0]).collect()
}

fn degrees(mut counts: Vec<u32>) -> Degrees {
    counts.sort_unstable();
    // Nearest rank.
    let at = |hundredths: usize| counts[(counts.len() * hundredths).div_ceil(100).max(1) - 1];
    Degrees { p50: at(50), p90: at(90), p99: at(99), max: at(100) }
}

#[expect(clippy::cast_precision_loss, reason = "users are below 2^32")]
fn exponent(followers: &[u32], mean: f64) -> Option<f64> {
    let from = libm::ceil(mean * TAIL_FROM);
    let tail: Vec<f64> =
        followers.iter().map(|&count| f64::from(count)).filter(|&count| count >= from).collect();
    let sum: f64 = tail.iter().map(|count| libm::log(count / (from - 0.5))).sum();
    (sum > 0.0).then(|| 1.0 + tail.len() as f64 / sum)
}

/// How many edges have one the other way: two for each pair.
fn returned(graph: &Graph) -> usize {
    let both = |user: u32| {
        let mut back = graph.followers.of(user).iter().peekable();
        let returns = |other: &&u32| {
            while back.next_if(|known| known < other).is_some() {}
            back.peek() == Some(other)
        };
        graph.following.of(user).iter().filter(returns).count()
    };
    graph.following.users().map(both).sum()
}

fn sha256(rows: &Rows) -> String {
    let mut hash = Sha256::new();
    let mut bytes = Vec::new();
    for chunk in rows.offsets().chunks(1 << 14).chain(rows.others().chunks(1 << 14)) {
        bytes.clear();
        for number in chunk {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        hash.update(&bytes);
    }
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_graph_is_counted_by_hand() {
        // 0 and 1 follow each other, 2 and 3 follow 0.
        let following = Rows::new(vec![0, 1, 2, 3, 4], vec![1, 0, 0, 0]);
        let stats = Stats::of(&Graph::new(following));
        assert_eq!((stats.users, stats.edges, stats.largest), (4, 4, 0));
        assert_eq!(stats.followers, Degrees { p50: 0, p90: 3, p99: 3, max: 3 });
        assert_eq!(stats.following, Degrees { p50: 1, p90: 1, p99: 1, max: 1 });
        assert!((stats.reciprocity - 0.5).abs() < f64::EPSILON);
        assert!((stats.largest_share - 1.0).abs() < f64::EPSILON);
        assert!((stats.bytes_per_edge - 18.0).abs() < f64::EPSILON, "two rows of 5 and 4 numbers");
    }
}
