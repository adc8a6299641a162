//! What every [`MediaStore`] does, together with the tweets beside it.

use std::sync::Arc;

use super::{
    Check, Outage, behaviours,
    kit::{Must, NOW_MS, body, concurrently, is_error, not_done, same, that},
};
use crate::{
    domain::{Body, MediaId, MediaKind, MediaList, MediaRef, MediaShape, TweetId, UserId, Window},
    ports::{
        Begun, Created, Due, IdempotencyKey, MediaStore, NewTweet, NewUpload, Outcome, TweetStore,
        Unfit, UploadRow,
    },
    rt::{BoxFuture, Rt},
};

/// A store without uploads and tweets.
#[derive(Clone)]
pub struct Context {
    /// The uploads.
    pub media: Arc<dyn MediaStore>,
    /// The tweets beside them.
    pub tweets: Arc<dyn TweetStore>,
    /// The runtime they were made with.
    pub rt: Rt,
    /// Takes both down.
    pub outage: Option<Outage>,
}

behaviours![
    an_upload_is_found_as_it_was_promised,
    a_repeated_promise_changes_nothing,
    unused_uploads_are_counted_for_each_owner,
    promises_at_once_are_all_counted,
    what_was_checked_first_stands,
    a_tweet_shows_its_uploads_in_its_order,
    a_tweet_with_an_unfit_upload_writes_nothing,
    an_upload_goes_to_one_of_two_tweets_at_once,
    a_repeated_post_is_answered_before_its_uploads,
    an_unused_upload_is_due_when_it_expires_and_given_up,
    an_upload_that_is_shown_is_due_once,
    the_uploads_of_a_deleted_tweet_are_due,
    a_deletion_during_a_settlement_is_not_forgotten,
    an_outage_is_an_error,
];

/// How long an upload may be used.
const TTL_MS: u64 = 1_000;
const END_MS: u64 = NOW_MS + TTL_MS;
const MANY: u64 = 100;

fn shape(n: u64) -> MediaShape {
    let kind = MediaKind::ALL[n as usize % MediaKind::ALL.len()];
    MediaShape { kind, width: 10 + n as u32, height: 20 + n as u32 }
}

fn upload(n: u64, owner: u64) -> NewUpload {
    let (id, owner) = (MediaId(u128::from(n) << 64), UserId(owner));
    NewUpload { id, owner, now_ms: NOW_MS, expires_at_ms: END_MS }
}

fn ids(numbers: &[u64]) -> Vec<MediaId> {
    numbers.iter().map(|&n| upload(n, 0).id).collect()
}

fn showing(id: u64, author: u64, uploads: &[u64]) -> NewTweet {
    NewTweet { body: body(id, author), media: ids(uploads), key: None, trace: None }
}

/// The tweet with what its uploads were found to be.
fn shown(tweet: &NewTweet, uploads: &[u64]) -> Body {
    let picture = |&n: &u64| MediaRef { id: upload(n, 0).id, shape: shape(n) };
    let media = MediaList::new(uploads.iter().map(picture).collect()).unwrap_or_default();
    Body { media, ..tweet.body.clone() }
}

impl Context {
    async fn begin(&self, n: u64, owner: u64, most: u64) -> Result<Begun, String> {
        self.media.begin(&upload(n, owner), most).await.must("begin")
    }

    /// Uploads that a tweet of `owner` can show.
    async fn ready(&self, numbers: &[u64], owner: u64) -> Check {
        for &n in numbers {
            same("answer", &self.begin(n, owner, MANY).await?, &Begun::Begun)?;
            let checked = self.media.checked(upload(n, owner).id, shape(n)).await;
            that(checked.must("checked")?, "an upload can be checked")?;
        }
        Ok(())
    }

    async fn find(&self, n: u64) -> Result<Option<UploadRow>, String> {
        let rows = self.media.find(&ids(&[n])).await.must("find")?;
        same("rows", &rows.len(), &1)?;
        Ok(rows[0])
    }

    async fn create(&self, tweet: &NewTweet) -> Result<Created, String> {
        self.tweets.create(tweet).await.must("create")
    }

    async fn lists(&self, author: u64, expected: &[Body]) -> Check {
        let found = self.tweets.by_author(UserId(author), Window::Latest, 100).await;
        same("tweets", &found.must("by_author")?, &expected.to_vec())
    }

    /// What is due, in the order of numbers.
    async fn due(&self, before_ms: u64) -> Result<Vec<Due>, String> {
        let mut due = self.media.due(before_ms, 100).await.must("due")?;
        due.sort_by_key(|due| due.id);
        Ok(due)
    }

    async fn settle(&self, done: &[Due], before_ms: u64) -> Check {
        self.media.settle(done, before_ms).await.must("settle")
    }

    async fn delete(&self, id: u64, now_ms: u64) -> Check {
        let deleted = self.tweets.delete(UserId(1), TweetId(id), now_ms, None).await;
        deleted.must("delete").map(drop)
    }
}

fn all(numbers: &[u64], unused: bool) -> Vec<Due> {
    ids(numbers).into_iter().map(|id| Due { id, unused }).collect()
}

async fn an_upload_is_found_as_it_was_promised(context: Context) -> Check {
    same("found", &context.find(1).await?, &None)?;
    same("answer", &context.begin(1, 7, 1).await?, &Begun::Begun)?;
    let row = UploadRow { owner: UserId(7), expires_at_ms: END_MS, shape: None, tweet: None };
    let found = context.media.find(&ids(&[2, 1, 3])).await.must("find")?;
    same("found", &found, &vec![None, Some(row), None])
}

async fn a_repeated_promise_changes_nothing(context: Context) -> Check {
    context.ready(&[1], 7).await?;
    let before = context.find(1).await?;
    same("answer", &context.begin(1, 7, 1).await?, &Begun::Begun)?;
    same("found", &context.find(1).await?, &before)
}

async fn unused_uploads_are_counted_for_each_owner(context: Context) -> Check {
    context.ready(&[1, 2], 1).await?;
    same("one too many", &context.begin(3, 1, 2).await?, &Begun::TooMany)?;
    same("found", &context.find(3).await?, &None)?;
    same("another's", &context.begin(4, 2, 2).await?, &Begun::Begun)?;
    context.create(&showing(10, 1, &[1])).await?;
    same("after a tweet", &context.begin(3, 1, 2).await?, &Begun::Begun)?;
    let later = NewUpload { now_ms: END_MS, expires_at_ms: END_MS + TTL_MS, ..upload(5, 1) };
    let begun = context.media.begin(&later, 1).await.must("begin")?;
    same("after the others expired", &begun, &Begun::Begun)
}

async fn promises_at_once_are_all_counted(context: Context) -> Check {
    let begin = |n: u64| -> BoxFuture<'static, Outcome<Begun>> {
        let media = context.media.clone();
        Box::pin(async move { media.begin(&upload(n, 1), 3).await })
    };
    let mut promised = 0;
    for answer in concurrently(&context.rt, (1..=12).map(begin)).await? {
        promised += usize::from(answer.must("begin")? == Begun::Begun);
    }
    same("promised of those at once", &promised, &3)
}

async fn what_was_checked_first_stands(context: Context) -> Check {
    let missing = context.media.checked(upload(1, 1).id, shape(1)).await;
    same("of none", &missing.must("checked")?, &false)?;
    context.ready(&[1], 1).await?;
    that(context.media.checked(upload(1, 1).id, shape(2)).await.is_done(), "it may be repeated")?;
    let found = context.find(1).await?.and_then(|row| row.shape);
    same("shape", &found, &Some(shape(1)))
}

async fn a_tweet_shows_its_uploads_in_its_order(context: Context) -> Check {
    context.ready(&[1, 2, 3, 4], 1).await?;
    let tweet = showing(10, 1, &[3, 1, 4, 2]);
    let body = shown(&tweet, &[3, 1, 4, 2]);
    same("answer", &context.create(&tweet).await?, &Created::Fresh(body.clone()))?;
    context.lists(1, &[body]).await?;
    let tweet = context.find(2).await?.and_then(|row| row.tweet);
    same("the tweet of an upload", &tweet, &Some(TweetId(10)))
}

async fn a_tweet_with_an_unfit_upload_writes_nothing(context: Context) -> Check {
    context.ready(&[1, 2], 1).await?;
    context.ready(&[3], 2).await?;
    context.begin(4, 1, MANY).await?;
    context.create(&showing(10, 1, &[2])).await?;
    let before = context.tweets.by_author(UserId(1), Window::Latest, 9).await.must("by_author")?;
    for (n, why) in
        [(9, Unfit::Unknown), (3, Unfit::Unknown), (4, Unfit::Unchecked), (2, Unfit::Used)]
    {
        let created = context.create(&showing(20, 1, &[1, n])).await?;
        same("answer", &created, &Created::Unfit(upload(n, 1).id, why))?;
    }
    let mut late = showing(20, 1, &[1]);
    late.body.created_at_ms = END_MS;
    let expired = Created::Unfit(upload(1, 1).id, Unfit::Expired);
    same("too late", &context.create(&late).await?, &expired)?;
    context.lists(1, &before).await?;
    let tweet = context.find(1).await?.and_then(|row| row.tweet);
    same("the tweet of the fit one", &tweet, &None)
}

async fn an_upload_goes_to_one_of_two_tweets_at_once(context: Context) -> Check {
    context.ready(&[1], 1).await?;
    let create = |n: u64| -> BoxFuture<'static, Outcome<Created>> {
        let tweets = context.tweets.clone();
        Box::pin(async move { tweets.create(&showing(n * 10, 1, &[1])).await })
    };
    let mut fresh = 0;
    for answer in concurrently(&context.rt, (1..=6).map(create)).await? {
        match answer.must("create")? {
            Created::Fresh(_) => fresh += 1,
            Created::Unfit(_, Unfit::Used) => {}
            other => return Err(format!("an upload that is used is answered with {other:?}")),
        }
    }
    same("tweets that show it", &fresh, &1)
}

async fn a_repeated_post_is_answered_before_its_uploads(context: Context) -> Check {
    context.ready(&[1], 1).await?;
    let key = Some(IdempotencyKey { key: "k".to_owned(), body_hash: [1; 32] });
    let tweet = NewTweet { key, ..showing(10, 1, &[1]) };
    let body = shown(&tweet, &[1]);
    same("first", &context.create(&tweet).await?, &Created::Fresh(body.clone()))?;
    same("again", &context.create(&tweet).await?, &Created::Replay(body))
}

async fn an_unused_upload_is_due_when_it_expires_and_given_up(context: Context) -> Check {
    context.ready(&[1], 1).await?;
    context.begin(2, 1, MANY).await?;
    same("due before", &context.due(END_MS - 1).await?, &Vec::new())?;
    for _ in 0..2 {
        same("due", &context.due(END_MS).await?, &all(&[1, 2], true))?;
    }
    // By a clock that is behind it has not expired; but its bytes may be gone.
    let created = context.create(&showing(10, 1, &[1])).await?;
    same("too late", &created, &Created::Unfit(upload(1, 1).id, Unfit::Unknown))?;
    same("found", &context.find(1).await?, &None)?;
    context.settle(&all(&[1, 2], true), END_MS).await?;
    same("due afterwards", &context.due(END_MS + 1).await?, &Vec::new())
}

async fn an_upload_that_is_shown_is_due_once(context: Context) -> Check {
    context.ready(&[1], 1).await?;
    let tweet = showing(10, 1, &[1]);
    context.create(&tweet).await?;
    same("due", &context.due(END_MS).await?, &all(&[1], false))?;
    context.settle(&all(&[1], false), END_MS).await?;
    same("due afterwards", &context.due(END_MS * 2).await?, &Vec::new())?;
    that(context.find(1).await?.is_some(), "what is shown is still known")?;
    context.lists(1, &[shown(&tweet, &[1])]).await
}

async fn the_uploads_of_a_deleted_tweet_are_due(context: Context) -> Check {
    context.ready(&[1, 2, 3], 1).await?;
    context.create(&showing(10, 1, &[1, 2])).await?;
    context.create(&showing(20, 1, &[3])).await?;
    let deleted_ms = NOW_MS + 100;
    context.delete(10, deleted_ms).await?;
    same("due before", &context.due(deleted_ms - 1).await?, &Vec::new())?;
    same("due", &context.due(deleted_ms).await?, &all(&[1, 2], true))?;
    context.settle(&all(&[1, 2], true), deleted_ms).await?;
    same("due meanwhile", &context.due(END_MS - 1).await?, &Vec::new())?;
    // Until now it could have been sent again.
    let due = context.due(END_MS).await?;
    same("due at last", &due, &[all(&[1, 2], true), all(&[3], false)].concat())?;
    context.settle(&due, END_MS).await?;
    same("due afterwards", &context.due(END_MS * 2).await?, &Vec::new())?;
    same("found", &context.find(1).await?, &None)
}

async fn a_deletion_during_a_settlement_is_not_forgotten(context: Context) -> Check {
    context.ready(&[1], 1).await?;
    context.create(&showing(10, 1, &[1])).await?;
    let due = context.due(END_MS).await?;
    same("due", &due, &all(&[1], false))?;
    context.delete(10, END_MS).await?;
    context.settle(&due, END_MS).await?;
    same("due", &context.due(END_MS).await?, &all(&[1], true))
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.ready(&[1], 1).await?;
    outage.begin();
    let store = &context.media;
    not_done("begin", &store.begin(&upload(2, 1), MANY).await)?;
    not_done("checked", &store.checked(upload(1, 1).id, shape(1)).await)?;
    not_done("due", &store.due(NOW_MS, 9).await)?;
    not_done("settle", &store.settle(&all(&[1], true), NOW_MS).await)?;
    is_error("find", &store.find(&ids(&[1])).await)
}
