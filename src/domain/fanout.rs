//! The fan-out rule: how an author's tweets travel, and in which pieces.

/// How an author's tweets reach followers. Only ever moves down this list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Pushed into every warm home timeline.
    #[default]
    Push,
    /// Pushed, and read at read time as well, while readers are being told.
    Both,
    /// Only read at read time.
    Pull,
}

impl Class {
    /// Whether readers merge this author's tweets at read time.
    #[must_use]
    pub const fn is_pulled(self) -> bool {
        matches!(self, Self::Both | Self::Pull)
    }

    /// Whether tweets are pushed into followers' home timelines.
    #[must_use]
    pub const fn is_pushed(self) -> bool {
        matches!(self, Self::Push | Self::Both)
    }

    /// The word for it in SQL, JSON, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Both => "both",
            Self::Pull => "pull",
        }
    }

    /// Reads the word; `None` if it is not one.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "push" => Some(Self::Push),
            "both" => Some(Self::Both),
            "pull" => Some(Self::Pull),
            _ => None,
        }
    }
}

/// How a whole data set's tweets reach home timelines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Strategy {
    /// Pushed into warm timelines, those of the largest authors read at read time.
    #[default]
    Hybrid,
    /// Written into the durable home timeline of every follower, and pushed into warm ones.
    Push,
    /// Only read at read time.
    Pull,
}

impl Strategy {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Hybrid, Self::Push, Self::Pull];

    /// How an author's tweets travel whose class is kept as `kept`. Only `hybrid` asks for it.
    #[must_use]
    pub const fn class(self, kept: Class) -> Class {
        match self {
            Self::Hybrid => kept,
            Self::Push => Class::Push,
            Self::Pull => Class::Pull,
        }
    }

    /// The word for it in SQL, JSON, logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hybrid => "hybrid",
            Self::Push => "push",
            Self::Pull => "pull",
        }
    }

    /// Reads the word; `None` if it is not one.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|strategy| strategy.as_str() == word)
    }
}

/// Followers are spread over this many buckets by [`bucket_of`]; a chunk job covers a range.
/// 1,024 keeps the largest account seen (some 100 M followers) below 100 k rows a bucket.
pub const BUCKETS: u16 = 1024;

/// The bucket of a follower: a multiplicative hash, as snowflakes differ mostly in high bits.
#[must_use]
pub const fn bucket_of(follower: super::UserId) -> u16 {
    // 2^64 divided by the golden ratio, Knuth, TAOCP vol. 3, 6.4.
    (follower.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as u16
}

/// Whether an author must leave class `push`: at or above `celebrity_followers` followers.
/// Never the other way, so that a count around the threshold does not flap.
#[must_use]
pub const fn outgrows_push(class: Class, followers: u64, celebrity_followers: u64) -> bool {
    matches!(class, Class::Push) && followers >= celebrity_followers
}

/// Splits all buckets into `parts` ranges (first, past-last) of nearly equal size.
#[must_use]
pub fn split_buckets(parts: u16) -> Vec<(u16, u16)> {
    let parts = u32::from(parts.clamp(1, BUCKETS));
    let edge = |i: u32| (u32::from(BUCKETS) * i / parts) as u16;
    (0..parts).map(|i| (edge(i), edge(i + 1))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_cover_every_bucket_once() {
        for parts in [1, 2, 3, 7, 32, 1000, 1024] {
            let ranges = split_buckets(parts);
            assert_eq!(ranges.len(), usize::from(parts));
            assert_eq!(ranges.first().unwrap().0, 0);
            assert_eq!(ranges.last().unwrap().1, BUCKETS);
            assert!(ranges.windows(2).all(|w| w[0].1 == w[1].0 && w[0].0 < w[0].1));
        }
    }

    #[test]
    fn buckets_are_even_for_snowflakes_of_one_node() {
        let mut ids = super::super::snowflake::Snowflake::new(1);
        let mut counts = vec![0_u32; usize::from(BUCKETS)];
        for ms in 0..102_400_u64 {
            let id = ids.next(super::super::snowflake::EPOCH_MS + ms * 37);
            counts[usize::from(bucket_of(super::super::UserId(id)))] += 1;
        }
        assert!(counts.iter().all(|&n| n > 20 && n < 400), "{:?}", counts.iter().minmax());
    }

    trait MinMax {
        fn minmax(self) -> (u32, u32);
    }
    impl<'a, I: Iterator<Item = &'a u32> + Clone> MinMax for I {
        fn minmax(self) -> (u32, u32) {
            (*self.clone().min().unwrap_or(&0), *self.max().unwrap_or(&0))
        }
    }

    #[test]
    fn a_class_never_goes_back() {
        assert!(outgrows_push(Class::Push, 100, 100));
        assert!(!outgrows_push(Class::Push, 99, 100));
        assert!(!outgrows_push(Class::Both, 1_000, 100));
        assert!(!outgrows_push(Class::Pull, 0, 100));
    }
}
