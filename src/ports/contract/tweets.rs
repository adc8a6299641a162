//! What every [`TweetStore`] does, together with the outbox beside it.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Check, Outage, behaviours,
    kit::{
        Must, NOW_MS, WINDOWS, body, concurrently, is_error, new_events, not_done, same, that,
        trace, tweets,
    },
};
use crate::{
    domain::{Body, TweetId, UserId, Window},
    ports::{Created, Deleted, IdempotencyKey, NewTweet, Outbox, Outcome, TweetStore},
    rt::{BoxFuture, Rt},
    wire::events::{Event, Fact},
};

/// A store without tweets.
#[derive(Clone)]
pub struct Context {
    /// The store.
    pub tweets: Arc<dyn TweetStore>,
    /// Its outbox.
    pub outbox: Arc<dyn Outbox>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes the store down.
    pub outage: Option<Outage>,
}

behaviours![
    there_is_nothing_at_first,
    a_tweet_is_written_with_its_event,
    an_id_above_the_authors_last_is_kept,
    an_id_below_the_authors_last_is_raised,
    an_id_below_a_deleted_one_is_raised,
    a_taken_id_writes_nothing,
    a_taken_id_does_not_use_up_the_key,
    the_same_key_writes_once,
    a_key_with_another_body_is_refused,
    a_key_belongs_to_one_author,
    a_key_is_kept_for_a_day,
    a_key_outlives_its_tweet,
    posts_with_the_same_key_at_once_write_once,
    posts_at_once_have_ids_in_the_order_of_their_events,
    a_deleted_tweet_is_gone_with_its_event,
    nobody_deletes_anothers_tweet,
    a_window_shows_its_part,
    an_outage_is_an_error,
];

const DAY_MS: u64 = 24 * 3600 * 1000;

fn plain(body: Body) -> NewTweet {
    NewTweet { body, media: Vec::new(), key: None, trace: None }
}

fn keyed(body: Body, key: &str, hash: u8) -> NewTweet {
    let key = Some(IdempotencyKey { key: key.to_owned(), body_hash: [hash; 32] });
    NewTweet { body, media: Vec::new(), key, trace: None }
}

fn deleted_event(id: TweetId, author: u64, at_ms: u64) -> Event {
    let fact = Fact::TweetDeleted { id, author: UserId(author) };
    Event { at_ms, trace: Some(trace(2)), fact }
}

impl Context {
    async fn create(&self, tweet: &NewTweet) -> Result<Created, String> {
        self.tweets.create(tweet).await.must("create")
    }

    /// Creates, and gives the body that was written now.
    async fn fresh(&self, tweet: &NewTweet) -> Result<Body, String> {
        match self.create(tweet).await? {
            Created::Fresh(body) => Ok(body),
            other => Err(format!("a new tweet is not fresh but {other:?}")),
        }
    }

    async fn delete(&self, author: u64, id: TweetId) -> Result<Deleted, String> {
        let now_ms = NOW_MS + 7;
        self.tweets.delete(UserId(author), id, now_ms, Some(trace(2))).await.must("delete")
    }

    async fn list(&self, author: u64, window: Window, limit: usize) -> Result<Vec<Body>, String> {
        self.tweets.by_author(UserId(author), window, limit).await.must("by_author")
    }

    async fn lists(&self, author: u64, expected: &[Body]) -> Check {
        let found = self.list(author, Window::Latest, 100).await?;
        same(&format!("tweets of {author}"), &found, &expected.to_vec())
    }

    async fn wrote(&self, expected: &[Event]) -> Check {
        same("events written", &new_events(&*self.outbox).await?, &expected.to_vec())
    }
}

async fn there_is_nothing_at_first(context: Context) -> Check {
    context.lists(1, &[]).await?;
    same("delete", &context.delete(1, TweetId(10)).await?, &Deleted::Missing)?;
    context.wrote(&[]).await
}

async fn a_tweet_is_written_with_its_event(context: Context) -> Check {
    let asked = NewTweet { trace: Some(trace(1)), ..plain(body(10, 1)) };
    same("answer", &context.create(&asked).await?, &Created::Fresh(body(10, 1)))?;
    context.lists(1, &[body(10, 1)]).await?;
    context.lists(2, &[]).await?;
    context.wrote(&[Event::tweet_created(&body(10, 1), Some(trace(1)))]).await?;
    context.fresh(&plain(body(20, 2))).await?;
    context.fresh(&plain(body(30, 1))).await?;
    context.lists(1, &[body(30, 1), body(10, 1)]).await?;
    let events = [body(20, 2), body(30, 1)].map(|body| Event::tweet_created(&body, None));
    context.wrote(&events).await
}

async fn an_id_above_the_authors_last_is_kept(context: Context) -> Check {
    for id in [10, 20, 1_000_000_007, TweetId::MAX.0 - 1] {
        same("id", &context.fresh(&plain(body(id, 1))).await?.id, &TweetId(id))?;
    }
    Ok(())
}

async fn an_id_below_the_authors_last_is_raised(context: Context) -> Check {
    context.fresh(&plain(body(100, 1))).await?;
    let equal = context.fresh(&plain(body(100, 1))).await?;
    that(equal.id > TweetId(100), "a candidate equal to the last is raised")?;
    let lower = context.fresh(&plain(body(5, 1))).await?;
    that(lower.id > equal.id, "a candidate below the last is raised")?;
    context.lists(1, &[lower.clone(), equal.clone(), body(100, 1)]).await?;
    let events = [body(100, 1), equal, lower].map(|body| Event::tweet_created(&body, None));
    context.wrote(&events).await
}

async fn an_id_below_a_deleted_one_is_raised(context: Context) -> Check {
    context.fresh(&plain(body(100, 1))).await?;
    context.delete(1, TweetId(100)).await?;
    let later = context.fresh(&plain(body(100, 1))).await?;
    that(later.id > TweetId(100), "the id of a deleted tweet is not given again")?;
    context.lists(1, &[later]).await
}

async fn a_taken_id_writes_nothing(context: Context) -> Check {
    context.fresh(&plain(body(100, 1))).await?;
    context.fresh(&plain(body(99, 2))).await?;
    new_events(&*context.outbox).await?;
    same("answer", &context.create(&plain(body(100, 2))).await?, &Created::IdTaken)?;
    context.lists(1, &[body(100, 1)]).await?;
    context.lists(2, &[body(99, 2)]).await?;
    context.wrote(&[]).await?;
    same("id", &context.fresh(&plain(body(101, 2))).await?.id, &TweetId(101))
}

async fn a_taken_id_does_not_use_up_the_key(context: Context) -> Check {
    context.fresh(&plain(body(100, 1))).await?;
    same("answer", &context.create(&keyed(body(100, 2), "k", 1)).await?, &Created::IdTaken)?;
    let later = context.fresh(&keyed(body(101, 2), "k", 1)).await?;
    context.lists(2, &[later]).await
}

async fn the_same_key_writes_once(context: Context) -> Check {
    let first = context.fresh(&keyed(body(10, 1), "k", 1)).await?;
    // A client that tries again comes with another candidate, later.
    let mut again = body(20, 1);
    again.created_at_ms += 5_000;
    let answer = context.create(&keyed(again, "k", 1)).await?;
    same("answer", &answer, &Created::Replay(first.clone()))?;
    context.lists(1, std::slice::from_ref(&first)).await?;
    context.wrote(&[Event::tweet_created(&first, None)]).await?;
    context.fresh(&keyed(body(30, 1), "K", 1)).await?;
    context.fresh(&plain(body(40, 1))).await?;
    context.fresh(&plain(body(50, 1))).await.map(drop)
}

async fn a_key_with_another_body_is_refused(context: Context) -> Check {
    let first = context.fresh(&keyed(body(10, 1), "k", 1)).await?;
    let answer = context.create(&keyed(body(20, 1), "k", 2)).await?;
    same("answer", &answer, &Created::KeyReused)?;
    context.lists(1, std::slice::from_ref(&first)).await?;
    context.wrote(&[Event::tweet_created(&first, None)]).await?;
    let answer = context.create(&keyed(body(30, 1), "k", 1)).await?;
    same("answer", &answer, &Created::Replay(first))
}

async fn a_key_belongs_to_one_author(context: Context) -> Check {
    context.fresh(&keyed(body(10, 1), "k", 1)).await?;
    context.fresh(&keyed(body(20, 2), "k", 1)).await?;
    context.fresh(&keyed(body(30, 3), "k", 2)).await.map(drop)
}

async fn a_key_is_kept_for_a_day(context: Context) -> Check {
    let first = context.fresh(&keyed(body(10, 1), "k", 1)).await?;
    let mut later = body(20, 1);
    later.created_at_ms = NOW_MS + DAY_MS - 1;
    let answer = context.create(&keyed(later.clone(), "k", 1)).await?;
    same("answer within the day", &answer, &Created::Replay(first))?;
    later.created_at_ms = NOW_MS + DAY_MS + 1;
    let second = context.fresh(&keyed(later.clone(), "k", 1)).await?;
    same("id after the day", &second.id, &TweetId(20))?;
    later.id = TweetId(30);
    let answer = context.create(&keyed(later, "k", 1)).await?;
    same("answer on the next day", &answer, &Created::Replay(second))
}

async fn a_key_outlives_its_tweet(context: Context) -> Check {
    let first = context.fresh(&keyed(body(10, 1), "k", 1)).await?;
    context.delete(1, first.id).await?;
    new_events(&*context.outbox).await?;
    let answer = context.create(&keyed(body(20, 1), "k", 1)).await?;
    same("answer", &answer, &Created::Replay(first))?;
    context.lists(1, &[]).await?;
    context.wrote(&[]).await
}

/// Posts all at once.
async fn at_once(context: &Context, tweets: Vec<NewTweet>) -> Result<Vec<Created>, String> {
    let post = |tweet: NewTweet| -> BoxFuture<'static, Outcome<Created>> {
        let store = context.tweets.clone();
        Box::pin(async move { store.create(&tweet).await })
    };
    let answers = concurrently(&context.rt, tweets.into_iter().map(post)).await?;
    answers.into_iter().map(|answer| answer.must("create")).collect()
}

async fn posts_with_the_same_key_at_once_write_once(context: Context) -> Check {
    let posts = (1..=8).map(|n| keyed(body(n * 10, 1), "k", 1)).collect();
    let answers = at_once(&context, posts).await?;
    let written = context.list(1, Window::Latest, 100).await?;
    same("tweets written", &written.len(), &1)?;
    let fresh = answers.iter().filter(|a| matches!(a, Created::Fresh(_))).count();
    same("fresh answers", &fresh, &1)?;
    for answer in answers {
        match answer {
            Created::Fresh(body) | Created::Replay(body) => {
                same("body", &body, &written[0])?;
            }
            other => return Err(format!("a repeated post is answered with {other:?}")),
        }
    }
    same("events", &new_events(&*context.outbox).await?.len(), &1)
}

async fn posts_at_once_have_ids_in_the_order_of_their_events(context: Context) -> Check {
    let posts = (1..=12).map(|n| plain(body(500 - n * 10, 1))).collect();
    let mut answered = BTreeSet::new();
    for answer in at_once(&context, posts).await? {
        let Created::Fresh(body) = answer else {
            return Err(format!("a new tweet is not fresh but {answer:?}"));
        };
        answered.insert(body.id);
    }
    same("different ids", &answered.len(), &12)?;
    let listed = context.list(1, Window::Latest, 100).await?;
    same("listed", &listed.iter().map(|b| b.id).collect(), &answered)?;
    let events = new_events(&*context.outbox).await?;
    let told: Vec<TweetId> =
        events.iter().filter_map(|e| e.fact.entry()).map(|e| e.tweet).collect();
    same("ids in the order of events", &told, &answered.into_iter().collect())
}

async fn a_deleted_tweet_is_gone_with_its_event(context: Context) -> Check {
    for id in [10, 20, 30] {
        context.fresh(&plain(body(id, 1))).await?;
    }
    new_events(&*context.outbox).await?;
    same("answer", &context.delete(1, TweetId(20)).await?, &Deleted::Gone { fresh: true })?;
    context.lists(1, &[body(30, 1), body(10, 1)]).await?;
    context.wrote(&[deleted_event(TweetId(20), 1, NOW_MS + 7)]).await?;
    // The same answer may have been lost, so the call may come again.
    same("answer", &context.delete(1, TweetId(20)).await?, &Deleted::Gone { fresh: false })?;
    context.wrote(&[]).await?;
    let page = context.list(1, Window::Latest, 2).await?;
    same("a full page after a deletion", &page, &vec![body(30, 1), body(10, 1)])
}

async fn nobody_deletes_anothers_tweet(context: Context) -> Check {
    context.fresh(&plain(body(10, 1))).await?;
    new_events(&*context.outbox).await?;
    same("answer", &context.delete(2, TweetId(10)).await?, &Deleted::NotOwner)?;
    context.lists(1, &[body(10, 1)]).await?;
    context.wrote(&[]).await
}

async fn a_window_shows_its_part(context: Context) -> Check {
    for id in [10, 20, 30, 40, 50] {
        context.fresh(&plain(body(id, 1))).await?;
        context.fresh(&plain(body(id + 5, 2))).await?;
    }
    for &(window, limit, expected) in WINDOWS {
        let found: Vec<TweetId> =
            context.list(1, window, limit).await?.iter().map(|body| body.id).collect();
        same(&format!("{window:?}, {limit}"), &found, &tweets(expected))?;
    }
    Ok(())
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.fresh(&plain(body(10, 1))).await?;
    outage.begin();
    let store = &context.tweets;
    not_done("create", &store.create(&plain(body(20, 1))).await)?;
    not_done("delete", &store.delete(UserId(1), TweetId(10), NOW_MS, None).await)?;
    is_error("by_author", &store.by_author(UserId(1), Window::Latest, 9).await)
}
