//! The look at everything, through the public API, after an epoch has healed and drained.
//!
//! First what is unknown is resolved (edges by profiles, posts by each author's own list), then every
//! list must be exactly what the history says.

use std::collections::BTreeMap;

use http::StatusCode;

use super::{
    check::{List, Seen},
    client::{Client, Cursor, handle_of},
    history::{PostState, Settled, Who},
    run::Run,
    violation::{Invariant, Violation},
};
use crate::{
    domain::TweetId,
    wire::api::{Page, Profile},
};

/// A walk of a list has no more pages than this, or it never ends.
const PAGES_MAX: usize = 2_000;

/// Looks at everything.
///
/// # Errors
/// The first promise that is broken.
pub async fn audit(run: &Run) -> Result<(), Violation> {
    let profiles = edges(run).await?;
    for client in &run.clients {
        own_posts(run, client).await?;
    }
    counts(run, &profiles)?;
    for client in &run.clients {
        home(run, client).await?;
        authors(run, client).await?;
    }
    Ok(())
}

/// Where a request of the audit ends.
async fn fetch<T: serde::de::DeserializeOwned>(
    run: &Run,
    client: &Client,
    path: &str,
) -> Result<T, Violation> {
    run.count_request();
    let answer = client.get(path).await;
    let value = answer.is(StatusCode::OK).then(|| answer.json()).flatten();
    match value {
        Some(value) => Ok(value),
        None => Err(failed(run, client.who, path, &answer.describe())),
    }
}

fn failed(run: &Run, who: Who, path: &str, how: &str) -> Violation {
    let detail = format!("GET {path} by user {who} in a healed world was answered with {how}");
    Violation::new(Invariant::Healed, run.shared.now_ms(), detail).user(who)
}

/// Resolves all edges. Gives the profile of every user. Pairs that nobody asked to change are looked
/// at after the last epoch only.
async fn edges(run: &Run) -> Result<Vec<Profile>, Violation> {
    let users = run.clients.len();
    let mut settled = run.history.lock().settled.clone();
    let mut profiles: BTreeMap<Who, Profile> = BTreeMap::new();
    for actor in 0..users {
        for target in (0..users).filter(|&target| target != actor) {
            let asked = {
                let edges = &run.history.lock().edges;
                edges.contains_key(&(actor, target)) || edges.contains_key(&(target, actor))
            };
            if !asked && !run.is_last() && profiles.contains_key(&target) {
                continue;
            }
            let path = format!("/users/{}", handle_of(target));
            let profile: Profile = fetch(run, &run.clients[actor], &path).await?;
            let viewer = profile.viewer.unwrap_or_default();
            let found = Settled { follows: viewer.following, blocks: viewer.blocking };
            if let Some(why) = run.history.lock().contradiction(actor, target, found) {
                let detail = format!("{why}: user {actor} towards user {target} is {found:?}");
                let fault = Violation::new(Invariant::Edges, run.shared.now_ms(), detail);
                return Err(fault.user(actor));
            }
            settled.insert((actor, target), found);
            profiles.insert(target, profile);
        }
    }
    run.history.lock().settle(settled, run.shared.now_ms());
    Ok(profiles.into_values().collect())
}

/// C4.
fn counts(run: &Run, profiles: &[Profile]) -> Result<(), Violation> {
    let history = run.history.lock();
    for (who, profile) in profiles.iter().enumerate() {
        let follows = history.settled.iter().filter(|(_, edge)| edge.follows);
        let followers = follows.clone().filter(|((_, target), _)| *target == who).count() as u64;
        let following = follows.filter(|((actor, _), _)| *actor == who).count() as u64;
        if (profile.followers, profile.following) != (followers, following) {
            let detail = format!(
                "user {who} is said to have {} followers and {} followees, and has {followers} and \
                 {following}",
                profile.followers, profile.following
            );
            let fault = Violation::new(Invariant::Counts, run.shared.now_ms(), detail);
            return Err(fault.user(who));
        }
    }
    Ok(())
}

/// Resolves a user's posts by their own list, which is the truth; D1.
async fn own_posts(run: &Run, client: &Client) -> Result<(), Violation> {
    let who = client.who;
    let found = walk(run, client, List::Author(who), false).await?;
    let history = &mut *run.history.lock();
    for post in history.posts.iter_mut().filter(|post| post.author == who) {
        let there = post.id.is_some_and(|id| found.contains(&id));
        match (post.state, there) {
            // Its text was seen under this id by the walk.
            (PostState::Unknown, _) => post.state = PostState::Absent,
            (PostState::Exists, false) if post.delete_invoked.is_none() => {
                let id = post.id.unwrap_or_default();
                let acked = post.acked.unwrap_or(post.invoked).ms;
                let detail = format!("tweet {id} {:?} is lost", post.text);
                let fault = Violation::new(Invariant::Durable, run.shared.now_ms(), detail);
                return Err(fault.tweet(id).author(who).acked(acked));
            }
            (PostState::Exists, false) => post.deleted = true,
            (PostState::Exists, true) if post.deleted => {
                let id = post.id.unwrap_or_default();
                let detail = format!("tweet {id} was deleted and is in the truth");
                let fault = Violation::new(Invariant::Delete, run.shared.now_ms(), detail);
                return Err(fault.tweet(id).author(who));
            }
            (PostState::Exists, true) => {
                // A delete that did not happen by now never will.
                post.delete_invoked = None;
            }
            (PostState::Absent, _) => {}
        }
    }
    Ok(())
}

/// C1, both ways.
async fn home(run: &Run, client: &Client) -> Result<(), Violation> {
    let expected = run.history.lock().home(client.who, run.clients.len());
    for upward in [false, true] {
        let found = walk(run, client, List::Home, upward).await?;
        compare(run, client.who, List::Home, upward, &expected, &found)?;
    }
    Ok(())
}

/// C5: every other author's list, unless a block is in between.
async fn authors(run: &Run, client: &Client) -> Result<(), Violation> {
    let who = client.who;
    for author in 0..run.clients.len() {
        let (expected, blocked) = {
            let history = run.history.lock();
            let blocks = |a: Who, b: Who| history.settled.get(&(a, b)).is_some_and(|e| e.blocks);
            (history.live(author), blocks(who, author) || blocks(author, who))
        };
        // One list in three, as every reader is shown the same.
        if blocked {
            let path = format!("/users/{}/tweets", handle_of(author));
            run.count_request();
            let answer = client.get(&path).await;
            if !answer.is(StatusCode::FORBIDDEN) {
                let detail = format!("{path} behind a block was {}", answer.describe());
                let fault = Violation::new(Invariant::Block, run.shared.now_ms(), detail);
                return Err(fault.user(who).author(author));
            }
        } else if author == who || (author + who).is_multiple_of(3) {
            let upward = (author + who).is_multiple_of(2);
            let found = walk(run, client, List::Author(author), upward).await?;
            compare(run, who, List::Author(author), upward, &expected, &found)?;
        }
    }
    Ok(())
}

/// All ids of a list, newest first, page by page by its cursors.
async fn walk(
    run: &Run,
    client: &Client,
    list: List,
    upward: bool,
) -> Result<Vec<TweetId>, Violation> {
    let name = match list {
        List::Home => "/timeline".to_owned(),
        List::Author(author) => format!("/users/{}/tweets", handle_of(author)),
    };
    let limit = run.knobs.page.max(5);
    let mut found: Vec<TweetId> = Vec::new();
    let mut cursor = if upward { Cursor::After(TweetId(1)) } else { Cursor::Latest };
    for _ in 0..PAGES_MAX {
        let from = run.stamp();
        let page: Page = fetch(run, client, &cursor.path(&name, limit)).await?;
        let to = run.stamp();
        if page.degraded {
            return Err(failed(run, client.who, &name, "a degraded page"));
        }
        let seen = Seen { reader: client.who, list, cursor, limit, from, to, page: &page };
        seen.check(&mut run.history.lock())?;
        let ids = page.tweets.iter().map(|tweet| tweet.id);
        let next = if upward {
            found.splice(0..0, ids);
            page.prev.map(Cursor::After)
        } else {
            found.extend(ids);
            page.next.map(Cursor::Before)
        };
        match next {
            Some(next) => cursor = next,
            None => return Ok(found),
        }
    }
    Err(failed(run, client.who, &name, "pages without end"))
}

fn compare(
    run: &Run,
    reader: Who,
    list: List,
    upward: bool,
    expected: &[TweetId],
    found: &[TweetId],
) -> Result<(), Violation> {
    if expected == found {
        return Ok(());
    }
    let (invariant, name) = match list {
        List::Home => (Invariant::HomeSet, "the home timeline".to_owned()),
        List::Author(author) => (Invariant::AuthorSet, format!("the tweets of user {author}")),
    };
    let history = run.history.lock();
    let missing: Vec<TweetId> = expected.iter().filter(|id| !found.contains(id)).copied().collect();
    let extra: Vec<TweetId> = found.iter().filter(|id| !expected.contains(id)).copied().collect();
    let first = missing.first().or(extra.first()).copied().unwrap_or_default();
    let way = if upward { "upwards" } else { "downwards" };
    let detail = format!(
        "{name} of user {reader}, read {way}: {} of {} missing, {} too many; first {first}",
        missing.len(),
        expected.len(),
        extra.len()
    );
    let fault = Violation::new(invariant, run.shared.now_ms(), detail).user(reader).tweet(first);
    Err(match history.by_id(first).map(|at| &history.posts[at]) {
        Some(post) => {
            let fault = fault.author(post.author);
            post.acked.map_or(fault.clone(), |acked| fault.acked(acked.ms))
        }
        None => fault,
    })
}
