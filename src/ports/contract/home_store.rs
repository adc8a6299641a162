//! What every [`HomeStore`] does.

use std::sync::Arc;

use super::{
    Check, Outage, behaviours,
    kit::{Must, WINDOWS, concurrently, entry, is_error, not_done, same, that, tweets},
};
use crate::{
    domain::{Entry, TweetId, UserId, Window, fanout::Strategy, ring::Slice, snowflake::first_at},
    ports::{Chosen, HomeStore, Outcome, home_store::HOMES_MAX},
    rt::{BoxFuture, Rt},
};

/// A store that holds nothing.
#[derive(Clone)]
pub struct Context {
    /// The store.
    pub homes: Arc<dyn HomeStore>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes the store down.
    pub outage: Option<Outage>,
}

behaviours![
    there_is_nothing_at_first,
    a_delivery_is_its_users_only,
    a_delivery_that_comes_again_is_there_once,
    deliveries_in_any_order_are_newest_first,
    a_window_shows_its_part,
    it_is_known_whether_there_is_more,
    years_are_one_timeline,
    nothing_is_shown_at_or_below_the_floor,
    a_floor_is_never_lowered,
    a_floor_is_its_users_only,
    more_rows_than_a_call_may_have_are_refused,
    the_highest_version_is_chosen,
    an_outage_is_an_error,
];

impl Context {
    async fn put(&self, rows: &[(u64, u64)]) -> Check {
        let rows: Vec<(UserId, Entry)> =
            rows.iter().map(|&(user, tweet)| (UserId(user), entry(tweet, tweet + 1))).collect();
        self.homes.put_homes(&rows).await.must("put_homes")
    }

    async fn raise(&self, user: u64, floor: u64) -> Check {
        self.homes.raise_floor(UserId(user), TweetId(floor)).await.must("raise_floor")
    }

    async fn home(&self, user: u64, window: Window, limit: usize) -> Result<Slice, String> {
        self.homes.home(UserId(user), window, limit).await.must("home")
    }

    /// The whole timeline of `user`.
    async fn shows(&self, user: u64, ids: &[u64], floor: u64) -> Check {
        let entries = ids.iter().map(|&tweet| entry(tweet, tweet + 1)).collect();
        let expected = Slice { entries, floor: TweetId(floor), exhausted: true };
        let found = self.home(user, Window::Latest, 100).await?;
        same(&format!("home timeline of {user}"), &found, &expected)
    }

    async fn choose(&self, version: u64, strategy: Strategy) -> Check {
        let chosen = Chosen { version, strategy, since: TweetId(version * 10) };
        self.homes.choose(chosen).await.must("choose")
    }
}

async fn there_is_nothing_at_first(context: Context) -> Check {
    context.shows(1, &[], 0).await?;
    let chosen = context.homes.chosen().await.must("chosen")?;
    same("the choice", &chosen, &Chosen::default())
}

async fn a_delivery_is_its_users_only(context: Context) -> Check {
    context.put(&[(1, 30), (2, 30), (2, 40)]).await?;
    context.shows(1, &[30], 0).await?;
    context.shows(2, &[40, 30], 0).await?;
    context.shows(3, &[], 0).await
}

async fn a_delivery_that_comes_again_is_there_once(context: Context) -> Check {
    context.put(&[(1, 30), (1, 30)]).await?;
    context.put(&[(1, 30), (1, 20)]).await?;
    context.shows(1, &[30, 20], 0).await
}

async fn deliveries_in_any_order_are_newest_first(context: Context) -> Check {
    let put = |tweet| -> BoxFuture<'static, Outcome<()>> {
        let homes = Arc::clone(&context.homes);
        Box::pin(async move { homes.put_homes(&[(UserId(1), entry(tweet, tweet + 1))]).await })
    };
    let order = [40, 10, 70, 20, 60, 30, 50];
    for outcome in concurrently(&context.rt, order.into_iter().map(put)).await? {
        outcome.must("put_homes")?;
    }
    context.shows(1, &[70, 60, 50, 40, 30, 20, 10], 0).await
}

async fn a_window_shows_its_part(context: Context) -> Check {
    context.put(&[(1, 30), (1, 10), (1, 50), (1, 20), (1, 40)]).await?;
    for &(window, limit, expected) in WINDOWS {
        let found = context.home(1, window, limit).await?;
        let ids: Vec<TweetId> = found.entries.iter().map(|entry| entry.tweet).collect();
        same(&format!("{window:?}, {limit}"), &ids, &tweets(expected))?;
    }
    Ok(())
}

async fn it_is_known_whether_there_is_more(context: Context) -> Check {
    context.put(&[(1, 10), (1, 20), (1, 30)]).await?;
    let (bottom, top) = (TweetId(5), TweetId(35));
    for (window, limit, exhausted) in [
        (Window::Latest, 2, false),
        (Window::Latest, 3, true),
        (Window::Before(top), 2, false),
        (Window::Before(top), 3, true),
        (Window::After(bottom), 2, false),
        (Window::After(bottom), 3, true),
        (Window::After(top), 1, true),
    ] {
        let found = context.home(1, window, limit).await?.exhausted;
        same(&format!("the end of {window:?}, {limit}"), &found, &exhausted)?;
    }
    Ok(())
}

async fn years_are_one_timeline(context: Context) -> Check {
    const DAY_MS: u64 = 86_400_000;
    // The last day of 2025 and the first of 2026, in UTC.
    let new_year = 1_767_225_600_000;
    let (old, new) = (first_at(new_year - DAY_MS), first_at(new_year));
    context.put(&[(1, new + 9), (1, old), (1, new), (1, old + 9)]).await?;
    context.shows(1, &[new + 9, new, old + 9, old], 0).await?;
    for (window, limit, expected) in [
        (Window::Latest, 3, &[new + 9, new, old + 9][..]),
        (Window::Before(TweetId(new)), 9, &[old + 9, old]),
        (Window::After(TweetId(old)), 2, &[new, old + 9]),
        (Window::After(TweetId(old)), 9, &[new + 9, new, old + 9]),
    ] {
        let found = context.home(1, window, limit).await?;
        let ids: Vec<TweetId> = found.entries.iter().map(|entry| entry.tweet).collect();
        same(&format!("{window:?}, {limit}"), &ids, &tweets(expected))?;
    }
    Ok(())
}

async fn nothing_is_shown_at_or_below_the_floor(context: Context) -> Check {
    context.put(&[(1, 10), (1, 20), (1, 30)]).await?;
    context.raise(1, 20).await?;
    context.put(&[(1, 15)]).await?;
    context.shows(1, &[30], 20).await?;
    let found = context.home(1, Window::After(TweetId(5)), 9).await?;
    let expected = Slice { entries: vec![entry(30, 31)], floor: TweetId(20), exhausted: true };
    same("what is above 5", &found, &expected)
}

async fn a_floor_is_never_lowered(context: Context) -> Check {
    context.put(&[(1, 10), (1, 20), (1, 30)]).await?;
    for floor in [10, 20, 5] {
        context.raise(1, floor).await?;
    }
    context.shows(1, &[30], 20).await
}

async fn a_floor_is_its_users_only(context: Context) -> Check {
    context.put(&[(1, 10), (2, 10)]).await?;
    context.raise(1, 50).await?;
    context.shows(1, &[], 50).await?;
    context.shows(2, &[10], 0).await
}

async fn more_rows_than_a_call_may_have_are_refused(context: Context) -> Check {
    let rows: Vec<_> = (0..=HOMES_MAX as u64).map(|user| (UserId(user), entry(10, 11))).collect();
    not_done("a call with too many rows", &context.homes.put_homes(&rows).await)?;
    context.homes.put_homes(&rows[..HOMES_MAX]).await.must("put_homes")?;
    context.shows(HOMES_MAX as u64 - 1, &[10], 0).await
}

async fn the_highest_version_is_chosen(context: Context) -> Check {
    for (version, strategy) in [(1, Strategy::Pull), (2, Strategy::Push), (1, Strategy::Pull)] {
        context.choose(version, strategy).await?;
    }
    let expected = Chosen { version: 2, strategy: Strategy::Push, since: TweetId(20) };
    same("the choice", &context.homes.chosen().await.must("chosen")?, &expected)?;
    context.choose(3, Strategy::Pull).await?;
    let chosen = context.homes.chosen().await.must("chosen")?;
    that(chosen.strategy == Strategy::Pull && chosen.version == 3, "a later choice counts")
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.put(&[(1, 10)]).await?;
    outage.begin();
    let homes = &context.homes;
    not_done("put_homes", &homes.put_homes(&[(UserId(1), entry(20, 21))]).await)?;
    not_done("raise_floor", &homes.raise_floor(UserId(1), TweetId(5)).await)?;
    not_done("choose", &homes.choose(Chosen { version: 1, ..Chosen::default() }).await)?;
    is_error("home", &homes.home(UserId(1), Window::Latest, 9).await)?;
    is_error("chosen", &homes.chosen().await)
}
