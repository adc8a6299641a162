//! Who follows an author, in partitions that stay below 100 k rows.
//!
//! A *small* author's followers lie in one partition, part 0. After about [`SMALL_MAX`] rows the author
//! is *big* for ever: a flag at the author's row says so, and what is written from then on lies in 1,024
//! partitions, one for each bucket. Nothing is moved. Part 0 stays as it is, and every reader of a big
//! author reads it beside the others, which costs a statement per page.
//!
//! Inside a partition followers lie in the order of the port, by bucket and then by id, so that a
//! cursor means the same place before and after the change, and pages may go on across it.
//!
//! Why nobody is missed: who writes into the part of a bucket has seen the flag at a quorum, and a
//! reader reads the flag when the call begins. So a follower who was stored before the call lies in part
//! 0 or is behind a flag that the call sees. A writer who has not seen the flag yet writes into part 0,
//! which is read in any case.
//!
//! Rows are counted where they are written: one write in [`CHECK_EVERY`] counts the rows of the
//! [`SAMPLE`] buckets around its own, which is a 64th of the partition. Twenty writers who learn of the
//! change late add some thousand rows to part 0, and there is no counter that could be wrong.

use std::cmp::Reverse;

use futures_util::future::try_join;
use quick_cache::sync::Cache;

use super::{cql::Work, fault::Fault, store::CassandraTimelineStore};
use crate::{
    adapters::sql::{from_key, key},
    domain::{
        UserId,
        fanout::{BUCKETS, bucket_of},
    },
    ports::FollowerPage,
    wire::events::FollowerCursor,
};

/// About so many rows make a small author big. With what late writers add, far below the 100 k rows up
/// to which a partition is read and compacted well.
pub const SMALL_MAX: usize = 50_000;
/// The most followers of one page.
pub const PAGE_MAX: usize = 10_000;

/// One write in so many counts.
const CHECK_EVERY: u64 = 64;
/// Buckets that are counted together: 1/64 of all, so that 50,000 rows are some 780, give or take 4 %.
const SAMPLE: u16 = 16;
/// Big authors that are remembered. One that is forgotten is read again.
const REMEMBERED_MAX: usize = 10_000;
/// The part of small authors.
pub(super) const SMALL: i16 = 0;

/// Authors who are known to be big, which they stay.
#[derive(Debug)]
pub(super) struct BigAuthors {
    known: Cache<UserId, ()>,
    sample_max: usize,
}

impl BigAuthors {
    /// Nobody is known to be big. Who has `small_max` rows becomes so.
    pub(super) fn new(small_max: usize) -> Self {
        let sample_max = (small_max * usize::from(SAMPLE) / usize::from(BUCKETS)).max(1);
        Self { known: Cache::new(REMEMBERED_MAX), sample_max }
    }

    pub(super) fn remember(&self, author: UserId) {
        self.known.insert(author, ());
    }

    fn knows(&self, author: UserId) -> bool {
        self.known.get(&author).is_some()
    }
}

/// One row: bucket, follower, version, and whether the follower follows.
type Row = (i16, i64, i64, bool);
/// A place among followers: bucket and follower.
type Place = (i16, i64);

/// Where a page goes on.
#[derive(Clone, Copy, Debug)]
struct Start {
    bucket: i16,
    /// After this follower of the bucket; `None`: at its beginning.
    after: Option<i64>,
}

/// What was read of one partition or, merged, of several.
#[derive(Debug)]
struct Part {
    rows: Vec<Row>,
    /// There may be more.
    more: bool,
}

impl Part {
    /// Moves followers into a page of at most `limit`. Gives where the next one goes on, unless all
    /// rows are moved and there are no more.
    fn fill(&self, page: &mut Vec<UserId>, limit: usize) -> Option<Place> {
        let mut last = None;
        for row in &self.rows {
            if page.len() == limit {
                return last;
            }
            if row.3 {
                page.push(UserId(from_key(row.1)));
            }
            last = Some(place(row));
        }
        last.filter(|_| self.more)
    }
}

const fn place(row: &Row) -> Place {
    (row.0, row.1)
}

/// The part of a big author in which the followers of `bucket` lie.
pub(super) const fn part_of(bucket: i16) -> i16 {
    bucket + 1
}

pub(super) const fn signed(bucket: u16) -> i16 {
    // At most 1,024.
    bucket.cast_signed()
}

/// Whether the write of this row counts the rows around it. By hash, so that every author's writes come
/// to it, whatever is written between them, and those of one pair as well.
const fn counts(follower: UserId, version: u64) -> bool {
    let mixed = (follower.0 ^ version.rotate_left(32)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    (mixed >> 32).is_multiple_of(CHECK_EVERY)
}

/// Merges partitions that may hold versions of the same followers. What lies behind the end of one that
/// has more is left out, as there may be rows between.
fn merged(parts: Vec<Part>) -> Part {
    let ends = parts.iter().filter(|part| part.more).filter_map(|part| part.rows.last());
    let end = ends.map(place).min();
    let mut rows: Vec<Row> = parts.into_iter().flat_map(|part| part.rows).collect();
    rows.sort_unstable_by_key(|row| (row.0, row.1, Reverse(row.2)));
    // The first of a follower's versions is the highest.
    rows.dedup_by_key(|row| place(row));
    if let Some(end) = end {
        rows.retain(|row| place(row) <= end);
    }
    Part { rows, more: end.is_some() }
}

impl CassandraTimelineStore {
    /// Writes one version of whether `follower` follows `followee`.
    #[allow(clippy::similar_names, reason = "followers and followees are the words of the house")]
    pub(super) async fn put_follower(
        &self,
        followee: UserId,
        follower: UserId,
        version: u64,
        follows: bool,
    ) -> Result<(), Fault> {
        let bucket = signed(bucket_of(follower));
        let big = self.big.knows(followee)
            || counts(follower, version) && self.has_outgrown(followee, bucket).await?;
        let part = if big { part_of(bucket) } else { SMALL };
        let values = (key(followee.0), part, bucket, key(follower.0), key(version), follows);
        self.cql.write(&self.cql.statements.put_follower, values).await
    }

    /// Whether the author is big, or becomes so now.
    async fn has_outgrown(&self, author: UserId, bucket: i16) -> Result<bool, Fault> {
        let first = bucket - bucket % signed(SAMPLE);
        let start = Start { bucket: first, after: None };
        let most = self.big.sample_max;
        let sample = self.part(author, SMALL, start, first + signed(SAMPLE), most);
        let ((_, big), sample) = try_join(self.author(author), sample).await?;
        if big {
            return Ok(true);
        }
        if sample.rows.len() < most {
            return Ok(false);
        }
        // Known only once it is written: from then on this process writes where only who sees the flag
        // reads.
        self.cql.write(&self.cql.statements.put_big, (key(author.0),)).await?;
        self.big.remember(author);
        Ok(true)
    }

    /// At most `most` rows of one partition, from `start` up to the bucket `end`.
    async fn part(
        &self,
        author: UserId,
        part: i16,
        start: Start,
        end: i16,
        most: usize,
    ) -> Result<Part, Fault> {
        let limit = |rows: usize| i32::try_from(rows).unwrap_or(i32::MAX);
        let mut rows: Vec<Row> = Vec::new();
        let mut first = start.bucket;
        if let Some(after) = start.after {
            let values = (key(author.0), part, first, after, limit(most));
            rows = self.cql.rows(&self.cql.statements.followers_after, values).await?;
            first += 1;
        }
        let room = most - rows.len().min(most);
        if room > 0 && first < end {
            let values = (key(author.0), part, first, end, limit(room));
            rows.extend(self.cql.rows::<Row>(&self.cql.statements.followers_of, values).await?);
        }
        let more = rows.len() >= most;
        Ok(Part { rows, more })
    }

    /// At most `most` rows of each partition of a big author, from `start` up to the bucket `end`.
    async fn parts(
        &self,
        author: UserId,
        start: Start,
        end: i16,
        most: usize,
    ) -> Result<Part, Fault> {
        let buckets = (start.bucket..end).map(|bucket| {
            let after = start.after.filter(|_| bucket == start.bucket);
            let start = Start { bucket, after };
            Box::pin(self.part(author, part_of(bucket), start, bucket + 1, most)) as Work<'_, Part>
        });
        let small = self.part(author, SMALL, start, end, most);
        let (small, mut parts) = try_join(small, self.cql.read_all(buckets.collect())).await?;
        parts.push(small);
        Ok(merged(parts))
    }

    /// A page of followers in the order of buckets, then of ids.
    pub(super) async fn follower_page(
        &self,
        author: UserId,
        (first, end): (u16, u16),
        after: Option<FollowerCursor>,
        limit: usize,
    ) -> Result<FollowerPage, Fault> {
        let end = signed(end.min(BUCKETS));
        let start = match after {
            Some(at) if at.bucket >= first => {
                Start { bucket: signed(at.bucket.min(BUCKETS)), after: Some(key(at.follower.0)) }
            }
            _ => Start { bucket: signed(first.min(BUCKETS)), after: None },
        };
        if start.bucket >= end {
            return Ok(FollowerPage::default());
        }
        let limit = limit.clamp(1, PAGE_MAX);
        if !self.big.knows(author) {
            let small = self.part(author, SMALL, start, end, limit);
            let ((_, big), small) = try_join(self.author(author), small).await?;
            if !big {
                let mut followers = Vec::new();
                let next = merged(vec![small]).fill(&mut followers, limit);
                return Ok(FollowerPage { followers, next: next.map(cursor) });
            }
        }
        self.big_page(author, start, end, limit).await
    }

    /// Reads as many buckets at once as it takes to fill the page, judged by those before.
    async fn big_page(
        &self,
        author: UserId,
        mut start: Start,
        end: i16,
        limit: usize,
    ) -> Result<FollowerPage, Fault> {
        let mut followers = Vec::new();
        let (mut buckets, mut rows) = (0, 0);
        loop {
            let width = width(buckets, rows, limit - followers.len(), self.cql.in_flight_max());
            let until = end.min(start.bucket.saturating_add(signed(width)));
            let part = self.parts(author, start, until, limit - followers.len()).await?;
            buckets += usize::try_from(until - start.bucket).unwrap_or_default();
            rows += part.rows.len();
            if let Some(stopped) = part.fill(&mut followers, limit) {
                return Ok(FollowerPage { followers, next: Some(cursor(stopped)) });
            }
            if until == end {
                return Ok(FollowerPage { followers, next: None });
            }
            if followers.len() == limit {
                return Ok(FollowerPage { followers, next: Some(cursor((until - 1, i64::MAX))) });
            }
            start = Start { bucket: until, after: None };
        }
    }
}

/// How many buckets to read at once for `room` more followers, if `buckets` before had `rows`.
fn width(buckets: usize, rows: usize, room: usize, most: usize) -> u16 {
    let most = most.clamp(1, usize::from(BUCKETS));
    let wanted = match (buckets, rows) {
        (0, _) => 1,
        (_, 0) => buckets * 4,
        _ => (room * buckets).div_ceil(rows),
    };
    wanted.clamp(1, most) as u16
}

const fn cursor((bucket, follower): Place) -> FollowerCursor {
    FollowerCursor { bucket: bucket.cast_unsigned(), follower: UserId(from_key(follower)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(rows: &[Row], more: bool) -> Part {
        Part { rows: rows.to_vec(), more }
    }

    #[test]
    fn the_highest_version_counts_whichever_part_has_it() {
        let small = part(&[(3, 7, 2, true), (3, 7, 1, false), (3, 8, 5, true)], false);
        let big = part(&[(3, 7, 3, false), (3, 8, 4, false), (3, 9, 1, true)], false);
        let both = merged(vec![big, small]);
        assert_eq!(both.rows, [(3, 7, 3, false), (3, 8, 5, true), (3, 9, 1, true)]);
        assert!(!both.more);
    }

    #[test]
    fn nothing_is_taken_from_behind_the_end_of_a_part_that_has_more() {
        let small = part(&[(3, 7, 1, true), (4, 1, 1, true)], true);
        let big = part(&[(3, 9, 1, true), (4, 2, 1, true)], false);
        let mut followers = Vec::new();
        let both = merged(vec![small, big]);
        assert_eq!(both.rows, [(3, 7, 1, true), (3, 9, 1, true), (4, 1, 1, true)]);
        assert_eq!(both.fill(&mut followers, 9), Some((4, 1)));
        assert_eq!(followers, [UserId(7), UserId(9), UserId(1)]);
    }

    #[test]
    fn a_page_stops_at_its_limit_unless_nothing_is_left() {
        let rows = [(1, 1, 1, true), (1, 2, 2, false), (1, 3, 1, true)];
        let mut followers = Vec::new();
        assert_eq!(part(&rows, false).fill(&mut followers, 1), Some((1, 1)));
        assert_eq!(part(&rows[1..], false).fill(&mut followers, 2), None);
        assert_eq!(followers, [UserId(1), UserId(3)]);
    }

    #[test]
    fn buckets_are_read_as_many_at_once_as_fill_a_page() {
        assert_eq!(width(0, 0, 1_000, 32), 1, "nothing is known");
        assert_eq!(width(1, 1_000, 500, 32), 1, "half a bucket");
        assert_eq!(width(1, 100, 900, 32), 9, "nine buckets");
        assert_eq!(width(1, 0, 1_000, 32), 4, "none was found");
        assert_eq!(width(5, 1, 1_000, 32), 32, "at most as many as may be in work");
    }

    #[test]
    fn one_write_in_64_counts_of_many_followers_and_of_one_who_comes_and_goes() {
        let many = (0..64_000_u64).filter(|&id| counts(UserId(id << 12), 1)).count();
        let one = (0..64_000_u64).filter(|&version| counts(UserId(77 << 22), version)).count();
        assert!((800..1_200).contains(&many) && (800..1_200).contains(&one), "{many} {one}");
    }
}
