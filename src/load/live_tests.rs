//! Every promise that pages are judged by, broken by one page that only it rejects, and kept by one.

use std::{borrow::Cow, fmt::Write as _, sync::Arc, time::Instant};

use super::{
    ledger::{Change, End, Ledger},
    live::{NEAR_US, judge},
    population::Population,
    seen::{Author, List, Page, Read, Tag, Tweet},
    violation::Kind,
};
use crate::{
    domain::TweetId,
    stack::seed::{Order, Plan, credentials::FILE},
};

/// Everybody of the demo, with tokens that nobody would accept.
fn population() -> Arc<Population> {
    let order = Order::of("demo");
    let plan = Plan::new(&order).unwrap();
    let mut text = format!(
        "{{\"schema\":\"chirp.credentials/1\",\"seed\":\"{order}\",\"password\":null,\"expires_at_ms\":9}}\n"
    );
    for user in 0..plan.users() {
        let account = plan.account(user);
        let (id, handle) = (account.id, account.handle);
        writeln!(text, "{{\"id\":\"{id}\",\"handle\":\"{handle}\",\"token\":\"a.b.c\"}}").unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(FILE);
    std::fs::write(&path, text).unwrap();
    Arc::new(Population::load(&path).unwrap())
}

/// A run in which an author has written some tweets, a second apart, and a reader who follows the author.
struct Run {
    ledger: Ledger,
    reader: u32,
    author: u32,
}

const FIRST: u64 = 1 << 60;
const SECOND_US: u64 = 1_000_000;

impl Run {
    fn with(posts: u32) -> Self {
        let population = population();
        let reader = 500;
        let author = population.followees(reader).next().unwrap();
        let tag = Tag::new(7 << 16);
        let ledger = Ledger::new(population, tag, TweetId(FIRST), Instant::now());
        let run = Self { ledger, reader, author };
        for post in 0..posts {
            run.posts(post, run.author, End::Done);
        }
        run
    }

    fn posts(&self, post: u32, author: u32, end: End) {
        let id = (end == End::Done).then_some(TweetId(FIRST + 10 * u64::from(post) + 10));
        self.ledger.posting(post, author);
        self.ledger.posted(post, id, end, u64::from(post) * SECOND_US, true);
    }

    fn tweet(&self, post: u32) -> Tweet<'static> {
        let known = self.ledger.post(post).unwrap_or_default();
        let id = known.id.unwrap_or(TweetId(FIRST + 10 * u64::from(post) + 10));
        let author = self.ledger.population.users[known.author as usize].id;
        Tweet { id, author: Author { id: author }, text: Cow::Owned(self.ledger.tag.text(post)) }
    }

    fn change(&self, user: u32, other: u32, went: (Change, End), at_us: u64) {
        let before = self.ledger.changing(user, other, went.0);
        self.ledger.changed((user, other), before, went, at_us);
    }

    fn reads(&self, reader: u32, list: List, before: Option<TweetId>, at_us: u64, page: Page<'_>) {
        let (asked_us, came_us) = (at_us, at_us + 1);
        judge(&self.ledger, &Read { reader, list, before, asked_us, came_us, page });
    }

    /// The reader's first page, `at_us`.
    fn sees(&self, at_us: u64, tweets: Vec<Tweet<'_>>) {
        let page = Page { tweets, next: None, degraded: false };
        self.reads(self.reader, List::Home, None, at_us, page);
    }

    fn kinds(&self) -> Vec<Kind> {
        self.ledger.violations().0.into_keys().collect()
    }
}

const LATER: u64 = 100 * SECOND_US;

#[test]
fn a_page_that_keeps_every_promise_is_no_violation() {
    let run = Run::with(3);
    for at in [0, LATER, 2 * LATER] {
        run.sees(at, vec![run.tweet(2), run.tweet(1), run.tweet(0)]);
    }
    // What is written while a page is read may be missing.
    run.posts(3, run.reader, End::Done);
    run.sees(3 * SECOND_US, vec![run.tweet(2), run.tweet(1), run.tweet(0)]);
    assert_eq!(run.kinds(), []);
}

#[test]
fn the_shape_of_a_page_is_judged() {
    let doubled = Run::with(2);
    doubled.sees(LATER, vec![doubled.tweet(1), doubled.tweet(0), doubled.tweet(1)]);
    assert_eq!(doubled.kinds(), [Kind::Duplicate]);

    let swapped = Run::with(2);
    swapped.sees(LATER, vec![swapped.tweet(0), swapped.tweet(1)]);
    assert_eq!(swapped.kinds(), [Kind::Order]);

    let repeated = Run::with(2);
    let page = Page { tweets: vec![repeated.tweet(1)], ..Page::default() };
    let cursor = Some(repeated.tweet(1).id);
    repeated.reads(repeated.reader, List::Home, cursor, LATER, page);
    assert_eq!(repeated.kinds(), [Kind::CursorRepeat]);
}

#[test]
fn what_nobody_wrote_is_a_phantom() {
    let run = Run::with(1);
    let text = Cow::Borrowed("somebody else's");
    run.sees(LATER, vec![Tweet { id: TweetId(FIRST + 90), text, ..run.tweet(0) }]);
    assert_eq!(run.kinds(), [Kind::Phantom]);

    let refused = Run::with(1);
    refused.posts(1, refused.author, End::Refused);
    refused.sees(LATER, vec![refused.tweet(1)]);
    assert_eq!(refused.kinds(), [Kind::Phantom]);

    let others = Run::with(1);
    let another = Author { id: others.ledger.population.users[900].id };
    others.sees(LATER, vec![Tweet { author: another, ..others.tweet(0) }]);
    assert_eq!(others.kinds(), [Kind::Phantom]);

    let unknown = Run::with(1);
    unknown.posts(1, unknown.author, End::Unknown);
    unknown.sees(LATER, vec![unknown.tweet(1), unknown.tweet(0)]);
    unknown.sees(LATER, vec![unknown.tweet(0)]);
    assert_eq!(unknown.kinds(), [], "what ended unknown may be there, or not");

    let other_id = Run::with(1);
    other_id.sees(LATER, vec![Tweet { id: TweetId(FIRST + 99), ..other_id.tweet(0) }]);
    assert_eq!(other_id.kinds(), [Kind::Duplicate], "one post, two tweets");
}

#[test]
fn a_deleted_tweet_may_be_shown_until_its_delete_is_answered_204() {
    for (end, asked_us, wanted) in [
        (End::Done, LATER + 1, &[Kind::DeletedShown][..]),
        (End::Done, LATER - 1, &[]),
        (End::Pending, LATER + 1, &[]),
        (End::Unknown, LATER + 1, &[]),
        (End::Refused, LATER + 1, &[]),
    ] {
        let run = Run::with(1);
        assert!(run.ledger.deleting(0).is_some());
        run.ledger.deleted(0, end, LATER);
        run.sees(asked_us, vec![run.tweet(0)]);
        assert_eq!(run.kinds(), wanted, "{end:?} at {asked_us}");
    }
}

#[test]
fn a_hidden_author_may_be_shown_until_that_is_answered_204() {
    for (change, end, asked_us, wanted) in [
        (Change::Unfollow, End::Done, LATER + 1, &[Kind::UnfollowedShown][..]),
        (Change::Unfollow, End::Done, LATER - 1, &[]),
        (Change::Unfollow, End::Pending, LATER + 1, &[]),
        (Change::Unfollow, End::Unknown, LATER + 1, &[]),
        (Change::Unfollow, End::Refused, LATER + 1, &[]),
        (Change::Block, End::Done, LATER + 1, &[Kind::BlockedShown]),
        (Change::Block, End::Pending, LATER + 1, &[]),
    ] {
        let run = Run::with(1);
        run.change(run.reader, run.author, (change, end), LATER);
        run.sees(asked_us, vec![run.tweet(0)]);
        assert_eq!(run.kinds(), wanted, "{change:?} {end:?} at {asked_us}");
    }
}

#[test]
fn the_end_of_a_block_shows_the_list_of_the_author_but_no_home_timeline() {
    let run = Run::with(1);
    let author = List::Author(run.author);
    let page = || Page { tweets: vec![run.tweet(0)], ..Page::default() };
    run.change(run.reader, run.author, (Change::Block, End::Done), LATER);
    run.change(run.reader, run.author, (Change::Unblock, End::Done), LATER + 10);
    run.reads(run.reader, author, None, LATER + 20, page());
    assert_eq!(run.kinds(), []);
    run.sees(LATER + 20, vec![run.tweet(0)]);
    assert_eq!(run.kinds(), [Kind::BlockedShown], "nobody follows after a block");

    let blocked = Run::with(1);
    blocked.change(blocked.author, blocked.reader, (Change::Block, End::Done), LATER);
    let page = Page { tweets: vec![blocked.tweet(0)], ..Page::default() };
    blocked.reads(blocked.reader, List::Author(blocked.author), None, LATER + 20, page);
    assert_eq!(blocked.kinds(), [Kind::BlockedShown]);
}

#[test]
fn what_a_call_did_follows_from_what_was_before_it() {
    let run = Run::with(1);
    // A block that was refused hides nobody, and neither does its end.
    run.change(run.reader, run.author, (Change::Block, End::Refused), LATER);
    run.change(run.reader, run.author, (Change::Unblock, End::Done), LATER + 10);
    run.sees(LATER + 20, vec![run.tweet(0)]);
    assert_eq!(run.kinds(), []);
    assert_eq!(run.ledger.sees(run.reader, run.author).0, super::ledger::Sees::Yes);
    // Nor does a follow that was refused make anybody follow, however its end is refused.
    let stranger = (0..900).rev().find(|&other| !run.ledger.population.follows(run.reader, other));
    let stranger = stranger.unwrap();
    run.change(run.reader, stranger, (Change::Follow, End::Refused), LATER);
    run.change(run.reader, stranger, (Change::Unfollow, End::Refused), LATER + 10);
    assert_eq!(run.ledger.sees(run.reader, stranger).0, super::ledger::Sees::No);
    assert!(!run.ledger.told(run.reader, stranger), "nothing that was answered says so");
    run.change(run.reader, stranger, (Change::Follow, End::Unknown), LATER + 20);
    assert_eq!(run.ledger.sees(run.reader, stranger).0, super::ledger::Sees::Unknown);
}

#[test]
fn an_author_sees_what_they_have_just_written() {
    let missing = |run: &Run| {
        let page = Page { tweets: vec![run.tweet(0)], ..Page::default() };
        run.reads(run.author, List::Home, None, LATER, page);
        run.kinds()
    };
    assert_eq!(missing(&Run::with(2)), [Kind::OwnUnseen]);
    assert_eq!(missing(&Run::with(1)), []);
    let deleted = Run::with(2);
    deleted.ledger.deleting(1);
    assert_eq!(missing(&deleted), [], "it may be gone");
    let degraded = Run::with(2);
    let page = Page { tweets: vec![], next: None, degraded: true };
    degraded.reads(degraded.author, List::Home, None, LATER, page);
    assert_eq!(degraded.kinds(), [], "a page that says that it may not be whole");
}

#[test]
fn what_a_reader_has_seen_stays_once_replicas_have_had_their_time() {
    for (pause_us, wanted) in [(NEAR_US / 2, &[][..]), (NEAR_US + 10, &[Kind::WentBack])] {
        let run = Run::with(2);
        run.sees(LATER, vec![run.tweet(1), run.tweet(0)]);
        run.sees(LATER + pause_us, vec![run.tweet(0)]);
        assert_eq!(run.kinds(), wanted);
    }
    let unfollowed = Run::with(2);
    unfollowed.sees(LATER, vec![unfollowed.tweet(1), unfollowed.tweet(0)]);
    let went = (Change::Unfollow, End::Done);
    unfollowed.change(unfollowed.reader, unfollowed.author, went, LATER + 10);
    unfollowed.sees(LATER + 2 * NEAR_US, vec![]);
    assert_eq!(unfollowed.kinds(), []);
}

#[test]
fn somebody_whom_the_reader_does_not_follow_is_asked_about_and_a_wrong_list_is_a_leak() {
    let run = Run::with(1);
    let stranger = (0..900)
        .rev()
        .find(|&other| other != run.author && !run.ledger.population.follows(other, run.author));
    let stranger = stranger.unwrap();
    let page = || Page { tweets: vec![run.tweet(0)], ..Page::default() };
    run.reads(stranger, List::Home, None, LATER, page());
    assert_eq!((run.kinds(), run.ledger.suspects()), (vec![], vec![(stranger, run.author)]));
    run.reads(run.reader, List::Author(stranger), None, LATER, page());
    assert_eq!(run.kinds(), [Kind::Leaked]);
}
