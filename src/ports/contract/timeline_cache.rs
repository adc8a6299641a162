//! What every [`TimelineCache`] does while it loses nothing, together with the relations beside it.

mod steps;

use std::{collections::BTreeSet, sync::Arc};

use self::steps::{ZERO, author, home, of_five, report};

use super::{
    Check, Outage, behaviours,
    kit::{Must, WINDOWS, concurrently, entry, is_error, not_done, same, that, users},
};
use crate::{
    domain::{TweetId, UserId, Window, ring::Slice},
    ports::{HomeRead, HomeSlice, Outcome, Push, RelationCache, TimelineCache},
    rt::{BoxFuture, Rt},
};

/// Caches that hold nothing.
#[derive(Clone)]
pub struct Context {
    /// The cache.
    pub timelines: Arc<dyn TimelineCache>,
    /// The relations that it filters by.
    pub relations: Arc<dyn RelationCache>,
    /// The runtime they were made with.
    pub rt: Rt,
    /// Takes both down.
    pub outage: Option<Outage>,
}

behaviours![
    absent_is_a_miss_and_never_empty,
    a_fill_is_read_newest_first,
    an_empty_fill_is_a_hit,
    a_page_is_filtered_by_the_relations,
    a_page_needs_the_relations,
    a_window_shows_its_part,
    a_page_tells_whether_there_is_more,
    an_unfinished_fill_shows_nothing,
    a_push_while_the_fill_runs_is_united_with_it,
    a_push_goes_only_where_a_list_is,
    a_push_comes_once_and_in_order,
    nothing_comes_below_the_floor,
    a_full_list_raises_its_floor,
    a_backfill_goes_into_one_list,
    a_backfill_that_would_leave_a_gap_is_refused,
    a_report_counts_every_list,
    the_authors_list_is_pushed_to_if_asked_for,
    several_pushes_share_one_call,
    homes_and_author_lists_are_apart,
    lists_of_several_authors_come_in_order,
    what_is_ready_is_not_filled_again,
    a_later_fill_overrules_an_earlier,
    a_fill_ends_once,
    what_was_invalidated_is_gone,
    a_fill_that_was_invalidated_is_void,
    a_fill_that_was_invalidated_stays_void_when_another_begins,
    invalidating_what_is_not_there_is_done,
    pushes_at_once_all_arrive,
    an_outage_is_an_error,
];

async fn absent_is_a_miss_and_never_empty(context: Context) -> Check {
    context.reads(&HomeRead::NoRelations).await?;
    context.relate(1).await?;
    context.reads(&HomeRead::NoTimeline).await?;
    context.lists(5, None).await
}

async fn a_fill_is_read_newest_first(context: Context) -> Check {
    context.reader(&[20, 40, 10, 30], 0).await?;
    let expected = HomeSlice {
        slice: Slice { entries: of_five(&[40, 30, 20, 10]), floor: ZERO, exhausted: true },
        pulled: users(&[7]),
    };
    same("page", &context.page(Window::Latest, 10).await?, &expected)
}

async fn an_empty_fill_is_a_hit(context: Context) -> Check {
    context.reader(&[], 0).await?;
    context.shows(&[]).await?;
    context.fill(author(5), &[], ZERO).await?;
    context.lists(5, Some(&[])).await
}

async fn a_page_is_filtered_by_the_relations(context: Context) -> Check {
    context.relate(1).await?;
    let entries = [entry(10, 5), entry(20, 6), entry(30, 1), entry(40, 6), entry(50, 7)];
    context.fill(home(1), &entries, ZERO).await?;
    context.push(entry(60, 6), &[1]).await?;
    context.shows(&[50, 30, 10]).await?;
    // Those that are not seen do not take places on a page.
    let page = context.page(Window::Latest, 2).await?.slice;
    same("page of two", &page.entries, &vec![entry(50, 7), entry(30, 1)])?;
    let page = context.page(Window::Before(TweetId(50)), 2).await?.slice;
    same("next page of two", &page.entries, &vec![entry(30, 1), entry(10, 5)])
}

async fn a_page_needs_the_relations(context: Context) -> Check {
    context.reader(&[10], 0).await?;
    context.relations.invalidate(&users(&[1])).await.must("invalidate")?;
    context.reads(&HomeRead::NoRelations).await?;
    context.push(entry(20, 5), &[1]).await?;
    context.relate(1).await?;
    context.shows(&[20, 10]).await
}

async fn a_window_shows_its_part(context: Context) -> Check {
    context.reader(&[10, 20, 30, 40, 50], 0).await?;
    context.fill(author(5), &of_five(&[10, 20, 30, 40, 50]), ZERO).await?;
    for &(window, limit, expected) in WINDOWS {
        let what = format!("{window:?}, {limit}");
        let found = context.page(window, limit).await?.slice.entries;
        same(&what, &found, &of_five(expected))?;
        let found = context.timelines.author_lists(&users(&[5]), window, limit).await;
        let found = found.must("author_lists")?.pop().flatten();
        same(&what, &found.map(|slice| slice.entries), &Some(of_five(expected)))?;
    }
    Ok(())
}

async fn a_page_tells_whether_there_is_more(context: Context) -> Check {
    context.reader(&[20, 30, 40], 15).await?;
    for (window, limit, exhausted) in [
        (Window::Latest, 2, false),
        (Window::Latest, 3, true),
        (Window::Latest, 4, true),
        (Window::Before(TweetId(40)), 1, false),
        (Window::Before(TweetId(40)), 2, true),
        (Window::After(TweetId(20)), 1, false),
        (Window::After(TweetId(20)), 2, true),
    ] {
        let slice = context.page(window, limit).await?.slice;
        same(&format!("{window:?}, {limit}: exhausted"), &slice.exhausted, &exhausted)?;
        same("floor", &slice.floor, &TweetId(15))?;
    }
    Ok(())
}

async fn an_unfinished_fill_shows_nothing(context: Context) -> Check {
    context.relate(1).await?;
    context.begin(home(1)).await?;
    context.begin(author(5)).await?;
    same("report", &context.push(entry(10, 5), &[1]).await?, &report(1, 0, 0))?;
    context.reads(&HomeRead::NoTimeline).await?;
    context.lists(5, None).await
}

async fn a_push_while_the_fill_runs_is_united_with_it(context: Context) -> Check {
    context.relate(1).await?;
    let token = context.begin(home(1)).await?;
    same("report", &context.push(entry(50, 5), &[1]).await?, &report(1, 0, 0))?;
    context.push(entry(25, 5), &[1]).await?;
    context.backfill(&[35], 0).await?;
    // The store was read before 50 came, and after 25.
    that(context.finish(home(1), token, &of_five(&[10, 25, 30]), ZERO).await?, "the fill counts")?;
    context.shows(&[50, 35, 30, 25, 10]).await
}

async fn a_push_goes_only_where_a_list_is(context: Context) -> Check {
    context.relate(1).await?;
    same("report", &context.push(entry(10, 5), &[1]).await?, &report(0, 0, 1))?;
    for above in [0, 5] {
        let many = context.backfill(&[10, 20], above).await?;
        same("delivered", &many.map(|many| many.delivered), &Some(0))?;
        let told = many.is_some_and(|many| many.absent > 0);
        that(told, "a list that is not there is told of")?;
    }
    context.reads(&HomeRead::NoTimeline).await
}

async fn a_push_comes_once_and_in_order(context: Context) -> Check {
    context.reader(&[20], 0).await?;
    for id in [30, 10, 50, 40] {
        same("report", &context.push(entry(id, 5), &[1]).await?, &report(1, 0, 0))?;
    }
    for id in [10, 20, 50] {
        same("report of a repeat", &context.push(entry(id, 5), &[1]).await?, &report(0, 1, 0))?;
    }
    context.shows(&[50, 40, 30, 20, 10]).await
}

async fn nothing_comes_below_the_floor(context: Context) -> Check {
    context.reader(&[60, 70], 50).await?;
    for id in [40, 50] {
        same("report", &context.push(entry(id, 5), &[1]).await?, &report(0, 1, 0))?;
    }
    context.push(entry(51, 5), &[1]).await?;
    context.shows(&[70, 60, 51]).await?;
    same("floor", &context.page(Window::Latest, 9).await?.slice.floor, &TweetId(50))
}

async fn a_full_list_raises_its_floor(context: Context) -> Check {
    context.reader(&[], 0).await?;
    // Mostly in order, some late.
    let ids: Vec<u64> = (1..=1_100).map(|n| if n % 10 == 0 { n - 9 } else { n + 1 }).collect();
    for id in &ids {
        context.push(entry(*id, 5), &[1]).await?;
    }
    let Slice { entries, floor, .. } = context.page(Window::Latest, 2_000).await?.slice;
    that(entries.len() <= 800, "a list holds at most 800")?;
    that(entries.len() >= 32, "a list holds more than a page")?;
    // The list is complete above its floor, and nothing below is used.
    let held: BTreeSet<u64> = entries.iter().map(|entry| entry.tweet.0).collect();
    let complete: BTreeSet<u64> = ids.into_iter().filter(|id| *id > floor.0).collect();
    same("tweets above the floor", &held, &complete)
}

async fn a_backfill_goes_into_one_list(context: Context) -> Check {
    context.reader(&[20, 40], 15).await?;
    same("report", &context.backfill(&[50, 10, 30, 20], 9).await?, &Some(report(2, 2, 0)))?;
    context.shows(&[50, 40, 30, 20]).await
}

async fn a_backfill_that_would_leave_a_gap_is_refused(context: Context) -> Check {
    context.reader(&[20, 40], 15).await?;
    same("report", &context.backfill(&[50, 30], 16).await?, &None)?;
    context.shows(&[40, 20]).await?;
    // Down to the floor there is no gap.
    same("report", &context.backfill(&[50, 30], 15).await?, &Some(report(2, 0, 0)))?;
    context.shows(&[50, 40, 30, 20]).await?;
    // How far a list that is being filled will reach is not known.
    let token = context.begin(home(2)).await?;
    let many = context.timelines.push_many(home(2), &of_five(&[30]), TweetId(29)).await;
    same("report", &many.must("push_many")?, &None)?;
    that(context.finish(home(2), token, &[], ZERO).await?, "the fill counts")
}

async fn a_report_counts_every_list(context: Context) -> Check {
    context.reader(&[10], 0).await?;
    context.fill(home(2), &[], ZERO).await?;
    context.fill(home(3), &of_five(&[20]), ZERO).await?;
    let done = context.push(entry(20, 5), &[1, 2, 3, 4]).await?;
    same("report", &done, &report(2, 1, 1))
}

async fn the_authors_list_is_pushed_to_if_asked_for(context: Context) -> Check {
    context.fill(author(5), &of_five(&[10]), ZERO).await?;
    let push = |id, author_list| Push { entry: entry(id, 5), homes: &[], author_list };
    let done = context.timelines.push(&[push(20, true)]).await.must("push")?;
    same("report", &done, &report(1, 0, 0))?;
    let done = context.timelines.push(&[push(30, false)]).await.must("push")?;
    same("report", &done, &report(0, 0, 0))?;
    context.lists(5, Some(&[20, 10])).await?;
    // It is a list like any other: if it is not there, it stays so.
    let other = [Push { entry: entry(20, 6), homes: &[], author_list: true }];
    same("report", &context.timelines.push(&other).await.must("push")?, &report(0, 0, 1))?;
    context.lists(6, None).await
}

async fn several_pushes_share_one_call(context: Context) -> Check {
    context.reader(&[], 0).await?;
    context.fill(home(2), &[], ZERO).await?;
    let (both, one) = (users(&[1, 2]), users(&[1]));
    let pushes = [
        Push { entry: entry(30, 5), homes: &both, author_list: false },
        Push { entry: entry(10, 7), homes: &one, author_list: false },
        Push { entry: entry(20, 5), homes: &both, author_list: false },
        Push { entry: entry(30, 5), homes: &one, author_list: false },
    ];
    let done = context.timelines.push(&pushes).await.must("push")?;
    same("report", &done, &report(5, 1, 0))?;
    let done = context.timelines.push(&[]).await.must("push")?;
    same("report of nothing", &done, &report(0, 0, 0))?;
    context.shows(&[30, 20, 10]).await
}

async fn homes_and_author_lists_are_apart(context: Context) -> Check {
    context.reader(&[10], 0).await?;
    context.lists(1, None).await?;
    context.fill(author(1), &of_five(&[20]), ZERO).await?;
    context.push(entry(30, 5), &[1]).await?;
    context.shows(&[30, 10]).await?;
    context.invalidate(&[home(1)]).await?;
    context.lists(1, Some(&[20])).await?;
    context.reads(&HomeRead::NoTimeline).await
}

async fn lists_of_several_authors_come_in_order(context: Context) -> Check {
    context.fill(author(5), &[entry(10, 5)], ZERO).await?;
    context.fill(author(7), &[entry(20, 7)], TweetId(15)).await?;
    context.begin(author(8)).await?;
    let found = context.timelines.author_lists(&users(&[7, 8, 6, 5]), Window::Latest, 9).await;
    let slice = |entry, floor| Slice { entries: vec![entry], floor, exhausted: true };
    let seven = Some(slice(entry(20, 7), TweetId(15)));
    let expected = vec![seven, None, None, Some(slice(entry(10, 5), ZERO))];
    same("lists", &found.must("author_lists")?, &expected)
}

async fn what_is_ready_is_not_filled_again(context: Context) -> Check {
    context.reader(&[10], 0).await?;
    context.fill(author(5), &[], ZERO).await?;
    for key in [home(1), author(5)] {
        same("token", &context.timelines.begin_fill(key).await.must("begin_fill")?, &None)?;
    }
    context.shows(&[10]).await
}

async fn a_later_fill_overrules_an_earlier(context: Context) -> Check {
    context.relate(1).await?;
    for key in [home(1), author(5)] {
        let earlier = context.begin(key).await?;
        let later = context.begin(key).await?;
        that(earlier != later, "each fill has a token of its own")?;
        let kept = context.finish(key, earlier, &of_five(&[10]), ZERO).await?;
        that(!kept, "an overruled token does not stand")?;
        that(context.finish(key, later, &of_five(&[20]), ZERO).await?, "the later fill counts")?;
    }
    context.lists(5, Some(&[20])).await?;
    context.shows(&[20]).await
}

async fn a_fill_ends_once(context: Context) -> Check {
    context.relate(1).await?;
    let token = context.begin(home(1)).await?;
    that(context.finish(home(1), token, &of_five(&[20]), ZERO).await?, "the fill counts")?;
    // Its answer was lost; what it brings may be old by now.
    let again = context.finish(home(1), token, &of_five(&[10]), TweetId(5)).await?;
    that(!again, "a fill that has ended does not end again")?;
    context.shows(&[20]).await?;
    same("floor", &context.page(Window::Latest, 9).await?.slice.floor, &ZERO)
}

async fn what_was_invalidated_is_gone(context: Context) -> Check {
    context.reader(&[10], 0).await?;
    context.fill(author(5), &of_five(&[10]), ZERO).await?;
    context.invalidate(&[home(1), author(5)]).await?;
    context.reads(&HomeRead::NoTimeline).await?;
    context.lists(5, None).await?;
    same("report", &context.push(entry(20, 5), &[1]).await?, &report(0, 0, 1))?;
    context.fill(home(1), &of_five(&[30]), ZERO).await?;
    context.shows(&[30]).await
}

async fn a_fill_that_was_invalidated_is_void(context: Context) -> Check {
    context.relate(1).await?;
    for key in [home(1), author(5)] {
        let token = context.begin(key).await?;
        context.invalidate(&[key]).await?;
        let kept = context.finish(key, token, &of_five(&[10]), ZERO).await?;
        that(!kept, "a void token does not stand")?;
    }
    context.lists(5, None).await?;
    context.reads(&HomeRead::NoTimeline).await
}

async fn a_fill_that_was_invalidated_stays_void_when_another_begins(context: Context) -> Check {
    context.relate(1).await?;
    let before = context.begin(home(1)).await?;
    context.push(entry(5, 5), &[1]).await?;
    context.invalidate(&[home(1)]).await?;
    let after = context.begin(home(1)).await?;
    that(before != after, "a token does not come again")?;
    let kept = context.finish(home(1), before, &of_five(&[10]), ZERO).await?;
    that(!kept, "a void token does not stand")?;
    that(context.finish(home(1), after, &of_five(&[20]), ZERO).await?, "the new fill counts")?;
    context.shows(&[20]).await
}

async fn invalidating_what_is_not_there_is_done(context: Context) -> Check {
    context.invalidate(&[]).await?;
    context.invalidate(&[home(1), home(1), author(5)]).await?;
    context.reader(&[10], 0).await?;
    context.invalidate(&[home(2), author(1)]).await?;
    context.shows(&[10]).await
}

async fn pushes_at_once_all_arrive(context: Context) -> Check {
    context.reader(&[], 0).await?;
    let push = |first: u64| -> BoxFuture<'static, Result<u64, String>> {
        let context = context.clone();
        Box::pin(async move {
            let mut delivered = 0;
            for id in (first..=200).step_by(5) {
                delivered += context.push(entry(id, 5), &[1]).await?.delivered;
                // Everybody pushes this one too.
                delivered += context.push(entry(1_000, 5), &[1]).await?.delivered;
            }
            Ok(delivered)
        })
    };
    let mut delivered = 0;
    for pushed in concurrently(&context.rt, (1..=5).map(push)).await? {
        delivered += pushed?;
    }
    same("delivered", &delivered, &201)?;
    let expected: Vec<u64> = std::iter::once(1_000).chain((1..=200).rev()).collect();
    context.shows(&expected).await
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.reader(&[10], 0).await?;
    let token = context.begin(home(2)).await?;
    outage.begin();
    let cache = &context.timelines;
    is_error("page", &cache.page(UserId(1), Window::Latest, 9).await)?;
    is_error("author_lists", &cache.author_lists(&users(&[5]), Window::Latest, 9).await)?;
    let homes = users(&[1]);
    let pushes = [Push { entry: entry(20, 5), homes: &homes, author_list: false }];
    not_done("push", &cache.push(&pushes).await)?;
    not_done("push_many", &cache.push_many(home(1), &of_five(&[20]), ZERO).await)?;
    not_done("begin_fill", &cache.begin_fill(home(3)).await)?;
    let ended: Outcome<bool> = cache.finish_fill(home(2), token, &[], ZERO).await;
    not_done("finish_fill", &ended)?;
    not_done("invalidate", &cache.invalidate(&[home(1)]).await)?;
    not_done("invalidate of what is not there", &cache.invalidate(&[home(9)]).await)
}
