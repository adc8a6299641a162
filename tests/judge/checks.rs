//! One list held against the model: what is missing, doubled, hidden, refused or out of order.

use std::collections::BTreeSet;

use chirp::{domain::TweetId, wire::api::Tweet};

use super::world::{State, World, named};

/// A fault of a list. What it is called is what the report and the tampered copies go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub rule: &'static str,
    pub tweet: Option<TweetId>,
    pub author: usize,
    pub about: String,
}

pub const LOST: &str = "an acknowledged tweet is lost";
pub const DOUBLED: &str = "a tweet is there twice";
pub const RESURRECTED: &str = "a deleted tweet is shown";
pub const FOREIGN: &str = "a tweet of somebody who was unfollowed or blocked is shown";
pub const REFUSED: &str = "a tweet is shown that was never accepted";
pub const ORDER: &str = "a list is newest first";
pub const COUNTS: &str = "counts equal edges";
pub const KEYS: &str = "a key gives the same tweet again";
pub const UNAVAILABLE: &str = "what was asked could not be answered";

/// Order and repetition: what holds for every list at any time.
pub fn shape(world: &World, actual: &[Tweet]) -> Vec<Fault> {
    let mut faults = Vec::new();
    let (mut ids, mut names) = (BTreeSet::new(), BTreeSet::new());
    for (at, tweet) in actual.iter().enumerate() {
        let author = world.number_of(tweet.author.id).unwrap_or_default();
        let fault = |rule, about| Fault { rule, tweet: Some(tweet.id), author, about };
        if at > 0 && actual[at - 1].id < tweet.id {
            faults.push(fault(ORDER, format!("it comes after {}", actual[at - 1].id)));
        }
        let again = named(tweet.text.as_str()).is_some_and(|name| !names.insert(name));
        if !ids.insert(tweet.id) || again {
            faults.push(fault(DOUBLED, format!("`{}` came before", tweet.text.as_str())));
        }
    }
    faults
}

/// What must not be in a list of `authors`, though other things may be missing from it.
pub fn excess(world: &World, authors: &[usize], actual: &[Tweet]) -> Vec<Fault> {
    let mut faults = Vec::new();
    for tweet in actual {
        let author = world.number_of(tweet.author.id).unwrap_or_default();
        let fault = |rule, about: String| Fault { rule, tweet: Some(tweet.id), author, about };
        let text = tweet.text.as_str();
        let Some((user, n)) = named(text).filter(|(user, _)| *user == author) else {
            faults.push(fault(REFUSED, format!("nobody wrote `{text}`")));
            continue;
        };
        let Some(known) = world.users[user].tweets.get(n) else {
            faults.push(fault(REFUSED, format!("nobody wrote `{text}` yet")));
            continue;
        };
        let when = format!("answered in kill {} at {} ms", known.kill, known.answered_ms);
        match (known.state, known.id) {
            (_, Some(id)) if id != tweet.id => {
                faults.push(fault(DOUBLED, format!("`{text}` is tweet {id}, {when}")));
            }
            (State::Deleted, _) => faults.push(fault(RESURRECTED, format!("`{text}`, {when}"))),
            (State::Absent | State::Doubtful, _) => {
                faults.push(fault(REFUSED, format!("`{text}`, {when}")));
            }
            (State::Shown | State::Fading, _) if !authors.contains(&user) => {
                faults.push(fault(FOREIGN, format!("`{text}`, {when}")));
            }
            (State::Shown | State::Fading, _) => {}
        }
    }
    faults
}

/// The whole comparison of a list of `authors` in `low..high`.
pub fn compare(
    world: &World,
    authors: &[usize],
    low: TweetId,
    high: Option<TweetId>,
    actual: &[Tweet],
) -> (Vec<Fault>, usize) {
    let expected = world.expected(authors, low, high);
    let mut faults = shape(world, actual);
    faults.extend(excess(world, authors, actual));
    let found: BTreeSet<TweetId> = actual.iter().map(|tweet| tweet.id).collect();
    for (id, author, n) in expected.iter().filter(|(id, ..)| !found.contains(id)) {
        let known = &world.users[*author].tweets[*n];
        let about = format!("answered in kill {} at {} ms", known.kill, known.answered_ms);
        faults.push(Fault { rule: LOST, tweet: Some(*id), author: *author, about });
    }
    (faults, expected.len())
}
