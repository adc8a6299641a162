//! Everything that can be read, held against what was acknowledged.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use chirp::{domain::TweetId, stack::admin::Queues, wire::api::Profile};
use futures_util::{StreamExt, stream};

use super::{
    api::{Api, NoList},
    checks::{COUNTS, Fault, LOST, RESURRECTED, UNAVAILABLE, compare},
    dice::Dice,
    settle::key_again,
    world::{ORDINARY, STAR, Shared, World},
};

/// Calls of an audit that are open at once.
pub const AT_ONCE: usize = 16;
/// The lanes and outboxes must be empty after this time. A row of the matrix publishes everything of its
/// last minutes twenty times: some 50,000 jobs, of which the emulator carries a few hundred a second.
const DRAIN_MAX: Duration = Duration::from_mins(3);
/// How often they are looked at.
const DRAIN_LOOK: Duration = Duration::from_millis(5);
/// Additions may lag between replicas by the near-cache time, which is 250 ms.
const LAG: Duration = Duration::from_millis(300);

/// What is audited.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Lists are read from the top down to here.
    pub low: TweetId,
    /// Home timelines of these.
    pub homes: Vec<usize>,
    /// Author timelines of these, each read by the author and by somebody else.
    pub authors: Vec<usize>,
    /// Counts of these.
    pub profiles: Vec<usize>,
    /// Posts that are sent again with their key.
    pub keys: Vec<(usize, usize)>,
    /// Deletes that no client was promised: replicas may show these for the near-cache time.
    pub lagging: BTreeSet<TweetId>,
}

/// What an audit has read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Read {
    pub pages: usize,
    pub tweets: usize,
    pub reread: usize,
}

impl std::ops::AddAssign for Read {
    fn add_assign(&mut self, other: Self) {
        self.pages += other.pages;
        self.tweets += other.tweets;
        self.reread += other.reread;
    }
}

/// Waits until nothing is on its way: lanes and outboxes are empty twice in a row, as a row may
/// change its place between the two looks of one answer.
pub async fn drain(admins: &[SocketAddr]) -> Result<(), String> {
    let apis: Vec<Api> = admins.iter().map(|admin| Api::new(*admin)).collect();
    let mut empty = 0;
    let began = std::time::Instant::now();
    let mut last = String::new();
    while began.elapsed() < DRAIN_MAX {
        let mut idle = true;
        for api in &apis {
            match idle_at(api).await? {
                Ok(()) => {}
                Err(why) => (idle, last) = (false, why),
            }
        }
        empty = if idle { empty + 1 } else { 0 };
        if empty == 2 {
            return Ok(());
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
    Err(format!("not drained after {DRAIN_MAX:?}: {last}"))
}

/// Whether lanes and outboxes of a process are empty, or why not. An error: it cannot end well.
async fn idle_at(api: &Api) -> Result<Result<(), String>, String> {
    let queues: Queues = match api.get("/queues", "").await {
        Ok(body) => serde_json::from_slice(&body).unwrap(),
        Err(why) => return Ok(Err(format!("{why:?}"))),
    };
    if let Some(lane) = queues.lanes.iter().find(|lane| lane.parked > 0) {
        return Err(format!("{} messages of {} are parked", lane.parked, lane.lane));
    }
    let idle = queues.lanes.iter().all(|lane| lane.depth + lane.in_flight == 0)
        && queues.outboxes.iter().all(|outbox| outbox.unsent == 0);
    Ok(if idle { Ok(()) } else { Err(format!("{queues:?}")) })
}

/// What is looked at after an ordinary kill: everything of the last load by its authors, a sample
/// of homes in whole, and some keys.
pub fn sample(world: &World, low: TweetId, homes: Vec<usize>, dice: &mut Dice) -> Scope {
    let fresh = |user: usize| world.users[user].tweets.iter().enumerate().rev();
    let keys: Vec<(usize, usize)> = (0..=STAR)
        .flat_map(|user| fresh(user).take(12).map(move |(n, tweet)| (user, n, tweet.id)))
        .filter_map(|(user, n, id)| id.is_some().then_some((user, n)))
        .collect();
    let all: Vec<usize> = (0..=STAR).collect();
    let mut profiles = dice.sample(&all, 20);
    profiles.push(STAR);
    let keys = dice.sample(&keys, 20);
    Scope { low, homes, authors: all, profiles, keys, lagging: BTreeSet::new() }
}

/// A random sample of readers: ordinary ones, and followers of the star.
pub fn readers(world: &World, ordinary: usize, passive: usize, dice: &mut Dice) -> Vec<usize> {
    let all: Vec<usize> = (0..ORDINARY).collect();
    let mut readers = dice.sample(&all, ordinary);
    let range = world.passive_numbers();
    readers.extend((0..passive).map(|_| range.start + dice.below(range.len())));
    readers
}

/// Audits `scope`; what is wrong goes to the world's violations.
pub async fn audit(world: &Shared, api: &Api, scope: &Scope, dice: &mut Dice) -> Read {
    let keys = scope.keys.iter().map(|&(user, n)| key_again(world, api, user, n));
    stream::iter(keys).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    let mut lists = Vec::new();
    {
        let world = world.lock().unwrap();
        lists.extend(scope.homes.iter().map(|&reader| (reader, None)));
        for &author in &scope.authors {
            lists.push((author, Some(author)));
            let other = (0..ORDINARY)
                .map(|_| dice.below(ORDINARY))
                .find(|&reader| reader != author && !world.apart(reader, author));
            lists.extend(other.map(|reader| (reader, Some(author))));
        }
    }
    let lists = lists.into_iter().map(|(reader, author)| list(world, api, reader, author, scope));
    let mut lists = stream::iter(lists).buffer_unordered(AT_ONCE);
    let mut read = Read::default();
    while let Some(one) = lists.next().await {
        read += one;
    }
    let profiles = scope.profiles.iter().map(|&user| counts(world, api, user));
    stream::iter(profiles).buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    read
}

/// One list: a home timeline, or that of an author.
async fn list(
    world: &Shared,
    api: &Api,
    reader: usize,
    author: Option<usize>,
    scope: &Scope,
) -> Read {
    let low = scope.low;
    let (path, token, authors) = {
        let world = world.lock().unwrap();
        match author {
            None => ("/timeline".to_owned(), world.token(reader), world.visible(reader)),
            Some(author) => {
                let path = format!("/users/{}/tweets", world.handle(author));
                (path, world.token(reader), vec![author])
            }
        }
    };
    let mut read = Read::default();
    let faults = loop {
        let (tweets, pages) = match api.list(&path, &token, low, None).await {
            Ok(found) => found,
            Err(NoList::Blocked) => {
                let about = format!("{path}: the reader is refused");
                break vec![Fault { rule: UNAVAILABLE, tweet: None, author: reader, about }];
            }
            Err(NoList::Unavailable(why)) => {
                let about = format!("{path}: {why}");
                break vec![Fault { rule: UNAVAILABLE, tweet: None, author: reader, about }];
            }
        };
        read.pages += pages;
        let (faults, expected) = compare(&world.lock().unwrap(), &authors, low, None, &tweets);
        let lags = |fault: &Fault| match fault.rule {
            LOST => true,
            RESURRECTED => fault.tweet.is_some_and(|id| scope.lagging.contains(&id)),
            _ => false,
        };
        if faults.is_empty() || read.reread > 0 || !faults.iter().all(lags) {
            read.tweets += expected;
            break faults;
        }
        read.reread += 1;
        tokio::time::sleep(LAG).await;
    };
    let mut world = world.lock().unwrap();
    for fault in faults {
        let about = format!("{path}: {}", fault.about);
        world.violation(fault.rule, fault.tweet, fault.author, reader, about);
    }
    read
}

async fn counts(world: &Shared, api: &Api, user: usize) {
    let (path, token, (followers, following)) = {
        let world = world.lock().unwrap();
        (format!("/users/{}", world.handle(user)), world.token(user), world.counts(user))
    };
    let profile = api.get(&path, &token).await.map(|body| serde_json::from_slice::<Profile>(&body));
    let mut world = world.lock().unwrap();
    match profile {
        Ok(Ok(profile)) if (profile.followers, profile.following) == (followers, following) => {}
        Ok(Ok(Profile { followers: shown, following: shown_following, .. })) => {
            let about = format!(
                "{shown} followers and {shown_following} followed are shown, \
                 {followers} and {following} edges were acknowledged"
            );
            world.violation(COUNTS, None, user, user, about);
        }
        other => world.violation(UNAVAILABLE, None, user, user, format!("{path}: {other:?}")),
    }
}
