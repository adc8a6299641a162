use std::time::Duration;

use super::{body, fixture, ids};
use crate::{
    domain::{MediaId, MediaKind, MediaRef, MediaShape, TweetId, UserId, Window},
    ports::{Created, Deleted, IdempotencyKey, NewTweet, Outcome, TweetStore},
    wire::events::{Event, Fact},
};

const DAY_MS: u64 = 24 * 3600 * 1000;

fn tweet(id: u64, author: u64) -> NewTweet {
    NewTweet { body: body(id, author), media: Vec::new(), key: None, trace: None }
}

fn keyed(id: u64, author: u64, hash: u8, at_ms: u64) -> NewTweet {
    let mut tweet = tweet(id, author);
    tweet.body.created_at_ms = at_ms;
    tweet.key = Some(IdempotencyKey { key: "k".into(), body_hash: [hash; 32] });
    tweet
}

async fn create(tweets: &dyn TweetStore, tweet: &NewTweet) -> Created {
    tweets.create(tweet).await.done().expect("done")
}

#[tokio::test]
async fn an_authors_ids_increase_and_a_taken_one_is_refused() {
    let f = fixture();
    let tweets = &*f.stores.tweet.tweets;
    assert_eq!(create(tweets, &tweet(100, 1)).await, Created::Fresh(body(100, 1)));
    let Created::Fresh(second) = create(tweets, &tweet(50, 1)).await else { panic!("not fresh") };
    assert_eq!(second.id, TweetId(101), "a clock that stepped back");
    assert_eq!(create(tweets, &tweet(101, 2)).await, Created::IdTaken);
    assert_eq!(f.stores.tweet.outbox.stats().await.unwrap().unsent, 2, "nothing for the refused");
    let rows = f.stores.tweet.outbox.claim(1, 0, Duration::ZERO).await.done().unwrap();
    assert_eq!(Event::decode(&rows[0].event).unwrap(), Event::tweet_created(&body(100, 1), None));
}

#[tokio::test]
async fn a_key_replays_for_a_day_and_belongs_to_one_body_and_one_author() {
    let f = fixture();
    let tweets = &*f.stores.tweet.tweets;
    let start = 10 * DAY_MS;
    let Created::Fresh(first) = create(tweets, &keyed(1, 1, 7, start)).await else { panic!() };
    let later = start + DAY_MS - 1;
    assert_eq!(create(tweets, &keyed(2, 1, 7, later)).await, Created::Replay(first.clone()));
    assert_eq!(create(tweets, &keyed(3, 1, 8, later)).await, Created::KeyReused);
    assert!(matches!(create(tweets, &keyed(4, 2, 8, later)).await, Created::Fresh(_)));
    let gone = tweets.delete(UserId(1), first.id, later, None).await;
    assert_eq!(gone, Outcome::Done(Deleted::Gone { fresh: true }));
    assert_eq!(create(tweets, &keyed(5, 1, 7, later)).await, Created::Replay(first));
    let expired = create(tweets, &keyed(6, 1, 8, start + DAY_MS)).await;
    assert!(matches!(expired, Created::Fresh(_)), "{expired:?}");
    assert_eq!(f.stores.tweet.outbox.stats().await.unwrap().unsent, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_attempts_with_one_key_one_writes() {
    let f = fixture();
    let tasks: Vec<_> = (1..50)
        .map(|id| {
            let tweets = f.stores.tweet.tweets.clone();
            tokio::spawn(async move { create(&*tweets, &keyed(id, 1, 7, 5)).await })
        })
        .collect();
    let mut fresh = Vec::new();
    let mut replayed = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            Created::Fresh(body) => fresh.push(body),
            Created::Replay(body) => replayed.push(body),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((fresh.len(), replayed.len()), (1, 48));
    assert!(replayed.iter().all(|body| *body == fresh[0]));
}

#[tokio::test]
async fn only_the_author_deletes_and_only_the_first_time_tells() {
    let f = fixture();
    let tweets = &*f.stores.tweet.tweets;
    create(tweets, &tweet(5, 1)).await;
    let delete = |author, id| tweets.delete(UserId(author), TweetId(id), 9, None);
    assert_eq!(delete(1, 6).await, Outcome::Done(Deleted::Missing));
    assert_eq!(delete(1, u64::MAX).await, Outcome::Done(Deleted::Missing));
    assert_eq!(delete(2, 5).await, Outcome::Done(Deleted::NotOwner));
    assert_eq!(delete(1, 5).await, Outcome::Done(Deleted::Gone { fresh: true }));
    assert_eq!(delete(1, 5).await, Outcome::Done(Deleted::Gone { fresh: false }));
    let rows = f.stores.tweet.outbox.claim(9, 0, Duration::ZERO).await.done().unwrap();
    let told = Fact::TweetDeleted { id: TweetId(5), author: UserId(1) };
    assert_eq!(rows.len(), 2);
    assert_eq!(Event::decode(&rows[1].event).unwrap().fact, told);
    let Created::Fresh(next) = create(tweets, &tweet(5, 1)).await else { panic!() };
    assert_eq!(next.id, TweetId(6), "an id of a deleted tweet is not given again");
}

#[tokio::test]
async fn pages_are_newest_first_in_both_directions_and_skip_the_deleted() {
    let f = fixture();
    let tweets = &*f.stores.tweet.tweets;
    for id in 1..=6 {
        create(tweets, &tweet(id * 10, 1)).await;
    }
    assert!(tweets.delete(UserId(1), TweetId(40), 9, None).await.is_done());
    let page =
        async |window, limit| ids(&tweets.by_author(UserId(1), window, limit).await.unwrap());
    assert_eq!(page(Window::Latest, 2).await, [60, 50]);
    assert_eq!(page(Window::Before(TweetId(50)), 2).await, [30, 20]);
    assert_eq!(page(Window::After(TweetId(20)), 2).await, [50, 30]);
    assert_eq!(page(Window::Before(TweetId(u64::MAX)), 9).await, [60, 50, 30, 20, 10]);
    assert!(page(Window::After(TweetId(60)), 9).await.is_empty());
}

#[tokio::test]
async fn rows_older_than_pictures_are_read_and_can_be_followed_by_some() {
    use super::super::{
        media::SqlMedia,
        sqlite::{Db, Options, Schema},
        timeline_store::{self, SqlTimelines},
        tweets::{self, SqlTweets},
    };
    use crate::ports::{MediaStore, NewUpload, StoredBody, TimelineStore};

    let dir = tempfile::tempdir().unwrap();
    let row = "insert into tweets (id, author_id, handle, name, text, created_at_ms) \
               values (5, 1, 'user_1', 'User 1', 'old', 1000005)";
    let old = async |name: &str, schema: Schema| {
        let path = dir.path().join(name);
        let first = Schema { steps: &schema.steps[..1], ..schema };
        let db = Db::open(&path, &first, Options::default()).unwrap();
        let write = db.write("test", move |conn| Ok(conn.execute(row, []).map(drop)?)).await;
        assert!(write.is_done(), "{write:?}");
        db.close();
        Db::open(&path, &schema, Options::default()).unwrap()
    };
    let db = old("tweet.db", tweets::schema()).await;
    let (store, media) = (SqlTweets::new(db.clone()), SqlMedia::new(db));
    let found = store.by_author(UserId(1), Window::Latest, 9).await.unwrap();
    assert_eq!((found[0].text.as_str(), found[0].media.len()), ("old", 0));
    let upload = NewUpload { id: MediaId(9), owner: UserId(1), now_ms: 0, expires_at_ms: u64::MAX };
    assert!(media.begin(&upload, 1).await.is_done());
    let shape = MediaShape { kind: MediaKind::Png, width: 3, height: 4 };
    assert_eq!(media.checked(upload.id, shape).await, Outcome::Done(true));
    let shown = NewTweet { media: vec![upload.id], ..tweet(10, 1) };
    let Created::Fresh(shown) = create(&store, &shown).await else { panic!("not fresh") };
    assert_eq!(shown.media[..], [MediaRef { id: upload.id, shape }]);
    let copy = SqlTimelines::new(old("timeline.db", timeline_store::schema()).await);
    assert!(copy.put_tweets(std::slice::from_ref(&shown)).await.is_done());
    let found = copy.bodies(&[TweetId(5), shown.id]).await.unwrap();
    let Some(StoredBody::Live(older)) = &found[0] else { panic!("{found:?}") };
    assert!(older.media.is_empty());
    assert_eq!(found[1], Some(StoredBody::Live(shown)));
}
