//! Edges in rows: of each user, whom they follow and who follows them.

use std::ops::Range;

/// For each user the others, in increasing order: compressed sparse rows. Four bytes a user and four
/// an edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rows {
    /// Where each row begins, and where the last ends.
    offsets: Vec<u32>,
    others: Vec<u32>,
}

impl Rows {
    /// Rows of which row `i` begins at `offsets[i]` and ends at `offsets[i + 1]`.
    pub(super) fn new(offsets: Vec<u32>, others: Vec<u32>) -> Self {
        debug_assert_eq!(offsets.last().map(|&end| end as usize), Some(others.len()));
        Self { offsets, others }
    }

    /// The others of `user`.
    #[must_use]
    pub fn of(&self, user: u32) -> &[u32] {
        let at = |user: usize| self.offsets[user] as usize;
        &self.others[at(user as usize)..at(user as usize + 1)]
    }

    /// The users.
    #[must_use]
    pub fn users(&self) -> Range<u32> {
        0..u32::try_from(self.offsets.len() - 1).expect("users are below 2^32")
    }

    /// All rows one after another.
    #[must_use]
    pub fn others(&self) -> &[u32] {
        &self.others
    }

    /// Where each row begins in [`Self::others`], and where the last ends.
    #[must_use]
    pub fn offsets(&self) -> &[u32] {
        &self.offsets
    }

    /// The same edges from the other side.
    #[must_use]
    pub fn turned(&self) -> Self {
        let users = self.offsets.len() - 1;
        let mut offsets = vec![0_u32; users + 1];
        for &other in &self.others {
            offsets[other as usize + 1] += 1;
        }
        for user in 0..users {
            offsets[user + 1] += offsets[user];
        }
        let mut next = offsets.clone();
        let mut others = vec![0_u32; self.others.len()];
        // In the order of users, so that every row is sorted.
        for user in self.users() {
            for &other in self.of(user) {
                let place = &mut next[other as usize];
                others[*place as usize] = user;
                *place += 1;
            }
        }
        Self { offsets, others }
    }

    /// Bytes in memory.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        (self.offsets.len() + self.others.len()) * size_of::<u32>()
    }
}

/// Who follows whom. Users are numbers from 0; nobody follows themself, nor anybody twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Graph {
    /// Whom each user follows.
    pub following: Rows,
    /// Who follows each user.
    pub followers: Rows,
}

impl Graph {
    pub(super) fn new(following: Rows) -> Self {
        let followers = following.turned();
        Self { following, followers }
    }

    /// How many users.
    #[must_use]
    pub fn users(&self) -> u32 {
        self.following.users().end
    }

    /// How many edges.
    #[must_use]
    pub fn edges(&self) -> usize {
        self.following.others.len()
    }

    /// Bytes in memory, both directions.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.following.bytes() + self.followers.bytes()
    }
}
