//! Right after a restart: what the clients do not know is found out, as clients would, and what was
//! hidden must still be hidden, though nothing has been drained yet.

use std::collections::BTreeSet;

use chirp::{
    domain::TweetId,
    wire::api::{Page, PostedTweet, Profile, Viewer},
};
use futures_util::{StreamExt, stream};

use super::{
    api::{Api, NoList, PAGE, Verdict, Write},
    audit::AT_ONCE,
    checks::{DOUBLED, FOREIGN, KEYS, RESURRECTED, UNAVAILABLE, excess, shape},
    client::post,
    dice::Dice,
    world::{Between, Doubt, GROUP, Hide, STAR, Shared, State, World, key_of, named},
};

/// Calls after a restart are repeated this often: nothing kills the process now.
const TRIES: usize = 3;

/// What is not promised yet: clients did not know of it, or were answered 202.
#[derive(Debug, Default)]
pub struct Unpromised {
    pub tweets: BTreeSet<(usize, usize)>,
    pub authors: BTreeSet<(usize, usize)>,
    /// The end of a block shows once it is delivered, which may be later than what hides: servers that
    /// carry it were away.
    pub unblocks: bool,
}

impl Unpromised {
    /// The tweets by their ids.
    pub fn ids(&self, world: &World) -> BTreeSet<TweetId> {
        self.tweets.iter().filter_map(|&(user, n)| world.users[user].tweets[n].id).collect()
    }
}

/// Resolves every doubt. `low` lies under every id of the last load.
pub async fn settle(world: &Shared, api: &Api, low: TweetId, dice: &mut Dice) -> Unpromised {
    let doubts = std::mem::take(&mut world.lock().unwrap().doubts);
    let mut unpromised = Unpromised::default();
    for doubt in &doubts {
        match *doubt {
            Doubt::Delete { user, n } => drop(unpromised.tweets.insert((user, n))),
            Doubt::Pair { actor, target, .. } => {
                unpromised.authors.extend([(actor, target), (target, actor)]);
            }
            Doubt::Post { .. } => {}
        }
    }
    let each = doubts.into_iter().map(|doubt| {
        let retry = dice.chance(50);
        async move {
            match doubt {
                Doubt::Post { user, n } if retry => post_again(world, api, user, n).await,
                Doubt::Post { user, n } => look_for_post(world, api, user, n, low).await,
                Doubt::Delete { user, n } => settle_delete(world, api, user, n, retry).await,
                Doubt::Pair { actor, target, before, after } => {
                    settle_pair(world, api, actor, target, before, after).await;
                }
            }
        }
    });
    stream::iter(each).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    unpromised
}

/// A client that sends the same post again, and gets one tweet for both.
async fn post_again(world: &Shared, api: &Api, user: usize, n: usize) {
    let token = world.lock().unwrap().token(user);
    let key = key_of(user, n);
    let mut last = Verdict::Unknown(String::new());
    for _ in 0..TRIES {
        last = api.write(post(&token, &key, user, n)).await;
        if let Verdict::Done { body, replayed, .. } = &last {
            let posted: PostedTweet = serde_json::from_slice(body).unwrap();
            let mut world = world.lock().unwrap();
            world.tally.there += u64::from(*replayed);
            world.tally.not_there += u64::from(!replayed);
            world.posted(user, n, posted.tweet.id);
            return;
        }
    }
    let about = format!("the retry of post {n} was answered {last:?}");
    world.lock().unwrap().violation(UNAVAILABLE, None, user, user, about);
}

/// A client that looks whether its post is there: once, or not at all and never again.
async fn look_for_post(world: &Shared, api: &Api, user: usize, n: usize, low: TweetId) {
    let (path, token) = {
        let world = world.lock().unwrap();
        (format!("/users/{}/tweets", world.handle(user)), world.token(user))
    };
    let list = api.list(&path, &token, low, None).await;
    let mut world = world.lock().unwrap();
    let tweets = match list {
        Ok((tweets, _)) => tweets,
        Err(why) => return world.violation(UNAVAILABLE, None, user, user, format!("{why:?}")),
    };
    let mine = tweets.iter().filter(|tweet| named(tweet.text.as_str()) == Some((user, n)));
    let mine: Vec<TweetId> = mine.map(|tweet| tweet.id).collect();
    match mine[..] {
        [] => {
            world.tally.not_there += 1;
            world.users[user].tweets[n].state = State::Absent;
        }
        [id] => {
            world.tally.there += 1;
            world.posted(user, n, id);
        }
        _ => {
            let about = format!("post {n}, whose end is unknown, is there as {mine:?}");
            world.violation(DOUBLED, mine.first().copied(), user, user, about);
        }
    }
}

async fn settle_delete(world: &Shared, api: &Api, user: usize, n: usize, retry: bool) {
    let (path, token, id) = {
        let world = world.lock().unwrap();
        let id = world.users[user].tweets[n].id.unwrap();
        let path = format!("/users/{}/tweets?limit=1&after={}", world.handle(user), id.0 - 1);
        (path, world.token(user), id)
    };
    let state = match api.page(&path, &token).await {
        Ok(page) if page.tweets.first().is_none_or(|tweet| tweet.id != id) => State::Deleted,
        Ok(_) if !retry => State::Shown,
        Ok(_) => {
            let path = format!("/tweets/{id}");
            let write = Write { method: "DELETE", path, token: &token, key: None, body: None };
            match api.write(write).await {
                Verdict::Done { .. } => State::Deleted,
                other => {
                    let about = format!("the retry of the delete was answered {other:?}");
                    let mut world = world.lock().unwrap();
                    return world.violation(UNAVAILABLE, Some(id), user, user, about);
                }
            }
        }
        Err(why) => {
            let mut world = world.lock().unwrap();
            return world.violation(UNAVAILABLE, Some(id), user, user, format!("{why:?}"));
        }
    };
    world.lock().unwrap().users[user].tweets[n].state = state;
}

/// The truth must be what was before the call or what would be after it, whole.
async fn settle_pair(
    world: &Shared,
    api: &Api,
    actor: usize,
    target: usize,
    before: Between,
    after: Between,
) {
    let (path, token) = {
        let world = world.lock().unwrap();
        (format!("/users/{}", world.handle(target)), world.token(actor))
    };
    let profile = api.get(&path, &token).await.map(|body| serde_json::from_slice::<Profile>(&body));
    let mut world = world.lock().unwrap();
    let Ok(Ok(Profile { viewer: Some(viewer), .. })) = profile else {
        let about = format!("the profile was answered {profile:?}");
        return world.violation(UNAVAILABLE, None, target, actor, about);
    };
    let Viewer { following, followed_by, blocking, blocked_by } = viewer;
    let now = Between {
        follows: following,
        followed: followed_by,
        blocks: blocking,
        blocked: blocked_by,
    };
    let alone = target == STAR || actor / GROUP != target / GROUP;
    let one_of =
        |side: fn(&Between) -> bool| side(&now) == side(&before) || side(&now) == side(&after);
    let legal = if alone { one_of(|b| b.follows) } else { now == before || now == after };
    if !legal {
        let about = format!("it was {before:?}, would be {after:?}, and is {now:?}");
        world.violation("a change is whole or not at all", None, target, actor, about);
    }
    let mut known = world.between(actor, target);
    if alone {
        known.follows = now.follows;
    } else {
        known = now;
    }
    world.set_between(actor, target, known);
}

/// Reads home timelines at once, so that they are warm when what the dead process had in flight is
/// delivered again.
pub async fn warm(world: &Shared, api: &Api, readers: &[usize]) {
    let tokens: Vec<String> = {
        let world = world.lock().unwrap();
        readers.iter().map(|&reader| world.token(reader)).collect()
    };
    let reads = tokens.iter().map(|token| api.get("/timeline", token));
    // What cannot be read yet is read, and judged, by those who come after.
    drop(stream::iter(reads).buffer_unordered(AT_ONCE).collect::<Vec<_>>().await);
}

/// Reads before anything is drained: nothing that was acknowledged as hidden is shown, and no list
/// is out of order or has anything twice. Gives the number of reads.
pub async fn early(
    world: &Shared,
    api: &Api,
    unpromised: &Unpromised,
    sample: &[usize],
    most: usize,
    dice: &mut Dice,
) -> usize {
    let hides = std::mem::take(&mut world.lock().unwrap().hides);
    let hides = dice.sample(&hides, most);
    let hidden = stream::iter(hides)
        .map(|hide| hidden(world, api, unpromised, hide))
        .buffer_unordered(AT_ONCE);
    let count = hidden.collect::<Vec<()>>().await.len();
    let homes = sample.iter().map(|&reader| home(world, api, unpromised, reader));
    stream::iter(homes).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await.len() + count
}

async fn home(world: &Shared, api: &Api, unpromised: &Unpromised, reader: usize) {
    let token = world.lock().unwrap().token(reader);
    let page = api.page(&format!("/timeline?limit={PAGE}"), &token).await;
    let mut world = world.lock().unwrap();
    let faults = match page {
        Ok(Page { tweets, .. }) => {
            let mut faults = shape(&world, &tweets);
            faults.extend(excess(&world, &world.visible(reader), &tweets));
            faults.retain(|fault| {
                let author = (reader, fault.author);
                let tweet =
                    world.users[fault.author].tweets.iter().position(|t| t.id == fault.tweet);
                let tweet = tweet.map(|n| (fault.author, n));
                !(fault.rule == FOREIGN && unpromised.authors.contains(&author)
                    || fault.rule == RESURRECTED
                        && tweet.is_some_and(|tweet| unpromised.tweets.contains(&tweet)))
            });
            faults
        }
        Err(why) => {
            return world.violation(UNAVAILABLE, None, reader, reader, format!("{why:?}"));
        }
    };
    for fault in faults {
        let about = format!("home before the drain: {}", fault.about);
        world.violation(fault.rule, fault.tweet, fault.author, reader, about);
    }
}

/// What was answered as hidden, read by somebody who would see it.
async fn hidden(world: &Shared, api: &Api, unpromised: &Unpromised, hide: Hide) {
    let (reader, author, path, id) = {
        let world = world.lock().unwrap();
        match hide {
            Hide::Tweet { user, n } => {
                let id = world.users[user].tweets[n].id.unwrap();
                let reader = world.follower(user).unwrap_or(user);
                let path =
                    format!("/users/{}/tweets?limit=1&after={}", world.handle(user), id.0 - 1);
                (reader, user, path, Some(id))
            }
            // Followed again since, or never apart for long: nothing is promised.
            Hide::Author { reader, author } if world.visible(reader).contains(&author) => return,
            Hide::Author { reader, author } => {
                (reader, author, format!("/timeline?limit={PAGE}"), None)
            }
        }
    };
    let token = world.lock().unwrap().token(reader);
    let page = api.page(&path, &token).await;
    let mut world = world.lock().unwrap();
    match page {
        Ok(Page { tweets, .. }) => {
            let shown = |tweet: &&chirp::wire::api::Tweet| match id {
                Some(id) => tweet.id == id,
                None => world.number_of(tweet.author.id) == Some(author),
            };
            if let Some(tweet) = tweets.iter().find(shown).map(|tweet| tweet.id) {
                let rule = if id.is_some() { RESURRECTED } else { FOREIGN };
                let about = format!("at once after the restart, in {path}");
                world.violation(rule, Some(tweet), author, reader, about);
            }
        }
        Err(NoList::Blocked) if unpromised.unblocks || world.apart(reader, author) => {}
        Err(why) => world.violation(UNAVAILABLE, id, author, reader, format!("{path}: {why:?}")),
    }
}

/// The same key again: the same tweet, also if it has been deleted since.
pub async fn key_again(world: &Shared, api: &Api, user: usize, n: usize) {
    let (token, known) = {
        let world = world.lock().unwrap();
        (world.token(user), world.users[user].tweets[n].id.unwrap())
    };
    let key = key_of(user, n);
    let verdict = api.write(post(&token, &key, user, n)).await;
    let about = match verdict {
        Verdict::Done { body, replayed, .. } => {
            let id = serde_json::from_slice::<PostedTweet>(&body).unwrap().tweet.id;
            if id == known && replayed {
                return;
            }
            format!("post {n} gives {id} now, replayed: {replayed}")
        }
        other => format!("post {n} was answered {other:?}"),
    };
    world.lock().unwrap().violation(KEYS, Some(known), user, user, about);
}
