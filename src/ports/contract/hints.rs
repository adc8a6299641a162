//! What every [`Hints`] does while it is healthy; hints may be lost otherwise.

use std::{sync::Arc, time::Duration};

use super::{
    Check, behaviours,
    kit::{SHORT, SOON, same, that},
};
use crate::{
    domain::{TweetId, UserId},
    ports::{Hint, HintStream, Hints},
    rt::Rt,
};

/// Hints that nobody listens to.
#[derive(Clone)]
pub struct Context {
    /// The hints.
    pub hints: Arc<dyn Hints>,
    /// The runtime it was made with.
    pub rt: Rt,
}

behaviours![
    a_subscriber_is_told,
    a_projection_is_told_to_its_author_whole,
    nobody_is_told_of_others,
    a_delete_is_told_to_everybody_once,
    only_what_comes_after_subscribing_is_told,
    all_streams_of_a_user_are_told,
    several_hints_at_once_reach_their_users,
    a_notifier_does_not_wait_for_a_slow_stream,
    hints_are_wanted_while_somebody_listens,
];

const fn home(user: u64) -> Hint {
    Hint::Home(UserId(user))
}

const fn projected(author: u64, part: u16) -> Hint {
    Hint::Projected { author: UserId(author), tweet: TweetId(77), part, parts: 9 }
}

impl Context {
    async fn subscribe(&self, user: u64) -> Box<dyn HintStream> {
        self.hints.subscribe(UserId(user)).await
    }

    /// The next hint that comes within `wait`.
    async fn next(&self, stream: &mut dyn HintStream, wait: Duration) -> Option<Hint> {
        self.rt.timeout(wait, stream.next()).await.ok().flatten()
    }

    async fn hears(&self, stream: &mut dyn HintStream, expected: Hint) -> Check {
        same("hint", &self.next(stream, SOON).await, &Some(expected))
    }

    async fn hears_nothing(&self, stream: &mut dyn HintStream) -> Check {
        same("hint", &self.next(stream, SHORT).await, &None)
    }
}

async fn a_subscriber_is_told(context: Context) -> Check {
    let mut stream = context.subscribe(1).await;
    context.hears_nothing(&mut *stream).await?;
    for _ in 0..3 {
        context.hints.notify(&[home(1)]).await;
        context.hears(&mut *stream, home(1)).await?;
    }
    context.hears_nothing(&mut *stream).await
}

async fn a_projection_is_told_to_its_author_whole(context: Context) -> Check {
    let mut stream = context.subscribe(1).await;
    for part in 0..9 {
        context.hints.notify(&[projected(1, part)]).await;
        context.hears(&mut *stream, projected(1, part)).await?;
    }
    Ok(())
}

async fn nobody_is_told_of_others(context: Context) -> Check {
    let mut stream = context.subscribe(1).await;
    let _other = context.subscribe(2).await;
    context.hints.notify(&[home(2), projected(2, 0), home(3)]).await;
    context.hears_nothing(&mut *stream).await
}

async fn a_delete_is_told_to_everybody_once(context: Context) -> Check {
    let (mut one, mut two) = (context.subscribe(1).await, context.subscribe(2).await);
    let deleted = Hint::Deleted(TweetId(77));
    context.hints.notify(&[deleted]).await;
    for stream in [&mut one, &mut two] {
        context.hears(&mut **stream, deleted).await?;
        context.hears_nothing(&mut **stream).await?;
    }
    Ok(())
}

async fn only_what_comes_after_subscribing_is_told(context: Context) -> Check {
    let _earlier = context.subscribe(1).await;
    context.hints.notify(&[home(1)]).await;
    let mut stream = context.subscribe(1).await;
    context.hears_nothing(&mut *stream).await
}

async fn all_streams_of_a_user_are_told(context: Context) -> Check {
    let (mut one, mut two) = (context.subscribe(1).await, context.subscribe(1).await);
    context.hints.notify(&[home(1)]).await;
    context.hears(&mut *one, home(1)).await?;
    context.hears(&mut *two, home(1)).await?;
    drop(one);
    context.hints.notify(&[home(1)]).await;
    context.hears(&mut *two, home(1)).await
}

async fn several_hints_at_once_reach_their_users(context: Context) -> Check {
    let (mut one, mut two) = (context.subscribe(1).await, context.subscribe(2).await);
    context.hints.notify(&[home(3), home(2), home(1)]).await;
    context.hears(&mut *one, home(1)).await?;
    context.hears(&mut *two, home(2)).await
}

async fn a_notifier_does_not_wait_for_a_slow_stream(context: Context) -> Check {
    let mut slow = context.subscribe(1).await;
    let many = async {
        for _ in 0..1_000 {
            context.hints.notify(&[home(1); 8]).await;
        }
    };
    that(context.rt.timeout(SOON, many).await.is_ok(), "notifying never waits")?;
    // Old ones may be gone, but it is told that something is new.
    context.hears(&mut *slow, home(1)).await
}

async fn hints_are_wanted_while_somebody_listens(context: Context) -> Check {
    that(!context.hints.wanted(), "hints are not wanted at first")?;
    let (one, two) = (context.subscribe(1).await, context.subscribe(1).await);
    that(context.hints.wanted(), "hints are wanted by a stream")?;
    drop(one);
    that(context.hints.wanted(), "hints are wanted while a stream is left")?;
    drop(two);
    context.rt.sleep(SHORT).await;
    that(!context.hints.wanted(), "hints are not wanted any more")
}
