//! Merging several newest-first lists into one page.

use super::{Entry, TweetId, Window, ring::Slice};

/// One page out of several sources.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Newest first, no tweet twice, all above [`Merged::floor`].
    pub entries: Vec<Entry>,
    /// The highest floor of the sources: below it a source may be missing something.
    pub floor: TweetId,
    /// Every source holds all there is inside the window, down to the floor; for
    /// [`Window::After`], up to the newest.
    pub exhausted: bool,
}

/// Merges `sources`, keeping at most `limit` entries that lie in `window` and above every floor.
///
/// A source that stopped at its own limit is complete only as far as it got: nothing beyond the
/// nearest such end is used, so that no entry of another source can slip in over a gap. For
/// [`Window::After`] a bound below the floor vouches for nothing: what is nearest above it may be
/// missing, and the caller has to look elsewhere.
#[must_use]
pub fn merge(sources: &[Slice], window: Window, limit: usize) -> Merged {
    let floor = sources.iter().map(|s| s.floor).max().unwrap_or_default();
    let upward = matches!(window, Window::After(_));
    let ends = sources.iter().filter(|s| !s.exhausted);
    // How far every source can vouch: down to (or, upward, up to) this id.
    let horizon = if upward {
        ends.filter_map(|s| s.entries.first()).map(|e| e.tweet).min()
    } else {
        ends.filter_map(|s| s.entries.last()).map(|e| e.tweet).max()
    };
    let vouched = |id: TweetId| match horizon {
        Some(edge) if upward => id <= edge,
        Some(edge) => id >= edge,
        None => true,
    };
    let mut entries: Vec<Entry> = sources
        .iter()
        .flat_map(|s| s.entries.iter().copied())
        .filter(|e| e.tweet > floor && window.holds(e.tweet) && vouched(e.tweet))
        .collect();
    entries.sort_unstable_by(|a, b| b.cmp(a));
    entries.dedup_by_key(|e| e.tweet);
    let cut = entries.len() > limit;
    if cut && upward {
        entries.drain(..entries.len() - limit);
    } else {
        entries.truncate(limit);
    }
    // A source that stopped at or under the floor has told all that could be used of it.
    let complete = horizon.is_none_or(|edge| !upward && edge.0 <= floor.0.saturating_add(1));
    Merged { entries, floor, exhausted: complete && !cut }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::{Ring, Token, UserId};

    fn ring(ids: &[u64], floor: u64) -> Ring {
        let mut ring = Ring::filling(Token(1), 800);
        let entries: Vec<Entry> =
            ids.iter().map(|&id| Entry { tweet: TweetId(id), author: UserId(1) }).collect();
        ring.finish_fill(&entries, TweetId(floor));
        ring
    }

    proptest! {
        #[test]
        fn a_page_is_the_union_above_the_highest_floor(
            lists in prop::collection::vec((prop::collection::vec(1_u64..200, 0..60), 0_u64..80), 1..5),
            limit in 1_usize..30,
            bound in 0_u64..210,
            kind in 0..3,
        ) {
            let window = match kind {
                0 => Window::Latest,
                1 => Window::Before(TweetId(bound)),
                _ => Window::After(TweetId(bound)),
            };
            let sources: Vec<Slice> = lists
                .iter()
                .map(|(ids, floor)| ring(ids, *floor).slice(window, limit, |_| true))
                .collect();
            let floor = lists.iter().map(|l| l.1).max().unwrap();
            let all: BTreeSet<u64> = lists
                .iter()
                .flat_map(|(ids, own)| ids.iter().copied().filter(move |id| id > own))
                .filter(|&id| id > floor && window.holds(TweetId(id)))
                .collect();
            let newest_first: Vec<u64> = all.into_iter().rev().collect();
            let expected: Vec<u64> = if kind == 2 {
                newest_first[newest_first.len().saturating_sub(limit)..].to_vec()
            } else {
                newest_first.iter().copied().take(limit).collect()
            };
            let merged = merge(&sources, window, limit);
            let got: Vec<u64> = merged.entries.iter().map(|e| e.tweet.0).collect();
            // A cut source may hide the rest, but never makes a hole in what is given.
            prop_assert_eq!(&got[..], if kind == 2 {
                &expected[expected.len() - got.len()..]
            } else {
                &expected[..got.len()]
            });
            if merged.exhausted {
                prop_assert_eq!(got, expected);
            } else {
                let vouches = kind != 2 || bound >= floor;
                prop_assert!(!got.is_empty() || expected.is_empty() || !vouches);
            }
        }
    }

    #[test]
    fn a_source_that_was_cut_under_the_floor_of_another_leaves_nothing_out_above_it() {
        let short = ring(&[30], 20).slice(Window::Before(TweetId(25)), 1, |_| true);
        let long = ring(&[15, 14, 13], 0).slice(Window::Before(TweetId(25)), 1, |_| true);
        assert!(short.exhausted && !long.exhausted);
        let merged = merge(&[short, long], Window::Before(TweetId(25)), 1);
        assert!(merged.entries.is_empty() && merged.exhausted, "the rest is under the floor");
    }

    #[test]
    fn a_tweet_in_two_sources_is_shown_once() {
        let a = ring(&[5, 3], 0).slice(Window::Latest, 9, |_| true);
        let b = ring(&[5, 4], 0).slice(Window::Latest, 9, |_| true);
        let ids: Vec<u64> =
            merge(&[a, b], Window::Latest, 9).entries.iter().map(|e| e.tweet.0).collect();
        assert_eq!(ids, [5, 4, 3]);
    }
}
