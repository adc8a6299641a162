//! Wrong distributors of hints.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Every, faults};
use crate::{
    domain::UserId,
    ports::{Hint, HintStream, Hints, contract::hints::Context},
    rt::Rt,
};

faults! {
    /// One hint in three is lost.
    DropsOneInThree: [a_subscriber_is_told],
    /// Each hint comes twice.
    Doubles: [a_subscriber_is_told],
    /// Which part of a projection is done is not told.
    TellsNoParts: [a_projection_is_told_to_its_author_whole],
    /// A projection is told as news.
    TellsOnlyNews: [a_projection_is_told_to_its_author_whole],
    /// Everybody is told everything.
    TellsEverybody: [nobody_is_told_of_others],
    /// A delete is told to one user, as news.
    TellsOneOfDeletes: [a_delete_is_told_to_everybody_once],
    /// A stream begins with the hint before it.
    TellsThePast: [only_what_comes_after_subscribing_is_told],
    /// A user's older stream is forgotten.
    TellsOneStream: [all_streams_of_a_user_are_told],
    /// Of several hints only the first is told.
    TellsTheFirst: [several_hints_at_once_reach_their_users],
    /// A notifier waits until it was heard.
    WaitsForStreams: [a_notifier_does_not_wait_for_a_slow_stream],
    /// Hints are never wanted.
    NeverWanted: [hints_are_wanted_while_somebody_listens],
    /// Hints are always wanted.
    AlwaysWanted: [hints_are_wanted_while_somebody_listens],
}

struct Wrong {
    inner: Arc<dyn Hints>,
    rt: Rt,
    fault: Fault,
    every: Every,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    subscribed: Vec<UserId>,
    last: Option<Hint>,
}

/// The hints of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let Context { hints: inner, rt } = context;
    let (every, memory) = (Every::default(), Mutex::default());
    Context { hints: Arc::new(Wrong { inner, rt: rt.clone(), fault, every, memory }), rt }
}

impl Wrong {
    fn bend(&self, hint: Hint) -> Vec<Hint> {
        match (self.fault, hint) {
            (Fault::DropsOneInThree, _) if self.every.nth(3) => Vec::new(),
            (Fault::Doubles, _) => vec![hint, hint],
            (Fault::TellsNoParts, Hint::Projected { author, tweet, parts, .. }) => {
                vec![Hint::Projected { author, tweet, part: 0, parts }]
            }
            (Fault::TellsOnlyNews, Hint::Projected { author, .. }) => vec![Hint::Home(author)],
            (Fault::TellsOneOfDeletes, Hint::Deleted(_)) => self
                .memory
                .lock()
                .subscribed
                .first()
                .map(|user| Hint::Home(*user))
                .into_iter()
                .collect(),
            (Fault::TellsEverybody, _) => {
                self.memory.lock().subscribed.iter().map(|user| Hint::Home(*user)).collect()
            }
            _ => vec![hint],
        }
    }
}

/// A stream that has something to tell first, or nothing at all.
struct Odd {
    first: Option<Hint>,
    then: Option<Box<dyn HintStream>>,
}

#[async_trait]
impl HintStream for Odd {
    async fn next(&mut self) -> Option<Hint> {
        match (self.first.take(), &mut self.then) {
            (Some(first), _) => Some(first),
            (None, Some(stream)) => stream.next().await,
            (None, None) => None,
        }
    }
}

#[async_trait]
impl Hints for Wrong {
    async fn notify(&self, hints: &[Hint]) {
        self.memory.lock().last = hints.last().copied();
        let told = if self.fault == Fault::TellsTheFirst { &hints[..1] } else { hints };
        let bent: Vec<Hint> = told.iter().flat_map(|hint| self.bend(*hint)).collect();
        self.inner.notify(&bent).await;
        if self.fault == Fault::WaitsForStreams {
            self.rt.sleep(Duration::from_millis(20)).await;
        }
    }

    async fn subscribe(&self, user: UserId) -> Box<dyn HintStream> {
        let again = self.memory.lock().subscribed.contains(&user);
        let last = self.memory.lock().last;
        self.memory.lock().subscribed.push(user);
        let stream = self.inner.subscribe(user).await;
        match self.fault {
            Fault::TellsThePast => Box::new(Odd { first: last, then: Some(stream) }),
            Fault::TellsOneStream if again => Box::new(Odd { first: None, then: None }),
            _ => stream,
        }
    }

    fn wanted(&self) -> bool {
        match self.fault {
            Fault::NeverWanted => false,
            Fault::AlwaysWanted => true,
            _ => self.inner.wanted(),
        }
    }
}
