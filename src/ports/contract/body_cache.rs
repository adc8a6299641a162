//! What every [`BodyCache`] does while it loses nothing.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    Check, Outage, behaviours,
    kit::{Must, concurrently, is_error, not_done, same, that, tweets},
};
use crate::{
    domain::{Token, TweetId},
    ports::{BodyCache, BodyRead, CachedBody, Read},
    rt::{BoxFuture, Rt},
};

/// A cache that holds nothing.
#[derive(Clone)]
pub struct Context {
    /// The cache.
    pub bodies: Arc<dyn BodyCache>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes the cache down.
    pub outage: Option<Outage>,
}

behaviours![
    one_reader_may_fill_what_is_missing,
    a_fill_is_read_whole,
    reads_come_in_the_order_asked_for,
    a_wrong_token_fills_nothing,
    a_fill_counts_once,
    a_deletion_may_be_filled,
    a_tombstone_hides_the_body,
    a_tombstone_voids_the_fill_that_runs,
    a_tombstone_voids_a_fill_also_of_what_was_there,
    many_are_marked_in_one_call,
    of_readers_at_once_one_may_fill,
    a_fill_that_never_ends_is_left_to_another,
    an_outage_is_an_error,
];

/// The longest that a dead fill may keep others from filling.
const DEAD_FILL_MAX: Duration = Duration::from_secs(10);

fn live(n: u64) -> CachedBody {
    CachedBody::Live(Bytes::from(format!("{{\"id\":\"{n}\",\"text\":\"é\"}}")))
}

fn hit(n: u64) -> BodyRead {
    BodyRead::Hit(live(n))
}

impl Context {
    async fn read(&self, ids: &[u64]) -> Result<Vec<BodyRead>, String> {
        let found = self.bodies.read(&tweets(ids)).await.must("read")?;
        same("answers", &found.len(), &ids.len())?;
        Ok(found)
    }

    async fn shows(&self, ids: &[u64], expected: &[BodyRead]) -> Check {
        same(&format!("bodies of {ids:?}"), &self.read(ids).await?, &expected.to_vec())
    }

    /// Reads what is missing and takes its token.
    async fn token(&self, id: u64) -> Result<Token, String> {
        match self.read(&[id]).await?.as_slice() {
            [BodyRead::Miss(Some(token))] => Ok(*token),
            other => Err(format!("a first reader is not asked to fill: {other:?}")),
        }
    }

    async fn fill(&self, bodies: &[(u64, Token, CachedBody)]) -> Check {
        let bodies: Vec<_> =
            bodies.iter().map(|(id, token, body)| (TweetId(*id), *token, body.clone())).collect();
        self.bodies.fill(&bodies).await.must("fill")
    }

    async fn filled(&self, id: u64) -> Check {
        let token = self.token(id).await?;
        self.fill(&[(id, token, live(id))]).await
    }

    async fn tombstone(&self, ids: &[u64]) -> Check {
        self.bodies.tombstone(&tweets(ids)).await.must("tombstone")
    }

    /// No read gives a body. That it was deleted may be forgotten, but not that it is not known.
    async fn shows_none_of(&self, ids: &[u64]) -> Check {
        for read in self.read(ids).await? {
            let shown = matches!(read, BodyRead::Hit(CachedBody::Live(_)));
            that(!shown, "a deleted tweet shows no body")?;
        }
        Ok(())
    }
}

async fn one_reader_may_fill_what_is_missing(context: Context) -> Check {
    let token = context.token(1).await?;
    context.shows(&[1], &[BodyRead::Miss(None)]).await?;
    context.shows(&[1], &[BodyRead::Miss(None)]).await?;
    context.token(2).await?;
    context.fill(&[(1, token, live(1))]).await?;
    context.shows(&[1, 2], &[hit(1), BodyRead::Miss(None)]).await
}

async fn a_fill_is_read_whole(context: Context) -> Check {
    for id in 1..=9 {
        context.filled(id).await?;
    }
    for id in 1..=9 {
        context.shows(&[id], &[hit(id)]).await?;
    }
    Ok(())
}

async fn reads_come_in_the_order_asked_for(context: Context) -> Check {
    for id in [1, 2, 3] {
        context.filled(id).await?;
    }
    let expected = [hit(3), hit(1), hit(3), hit(2)];
    context.shows(&[3, 1, 3, 2], &expected).await?;
    context.shows(&[], &[]).await?;
    match context.read(&[2, 9, 1]).await?.as_slice() {
        [two, BodyRead::Miss(Some(_)), one] if *two == hit(2) && *one == hit(1) => Ok(()),
        other => Err(format!("a miss between two hits is read as {other:?}")),
    }
}

async fn a_wrong_token_fills_nothing(context: Context) -> Check {
    let (one, two) = (context.token(1).await?, context.token(2).await?);
    let wrong = Token(one.0 ^ 1);
    context.fill(&[(1, wrong, live(9)), (2, two, live(2)), (3, one, live(9))]).await?;
    context.shows(&[1, 2], &[BodyRead::Miss(None), hit(2)]).await?;
    context.shows_none_of(&[3]).await?;
    context.fill(&[(1, one, live(1))]).await?;
    context.shows(&[1], &[hit(1)]).await
}

async fn a_fill_counts_once(context: Context) -> Check {
    let token = context.token(1).await?;
    context.fill(&[(1, token, live(1))]).await?;
    context.fill(&[(1, token, live(9))]).await?;
    context.shows(&[1], &[hit(1)]).await
}

async fn a_deletion_may_be_filled(context: Context) -> Check {
    let token = context.token(1).await?;
    context.fill(&[(1, token, CachedBody::Deleted)]).await?;
    context.shows(&[1], &[BodyRead::Hit(CachedBody::Deleted)]).await
}

async fn a_tombstone_hides_the_body(context: Context) -> Check {
    context.filled(1).await?;
    context.filled(2).await?;
    for _ in 0..2 {
        context.tombstone(&[1]).await?;
        context.shows_none_of(&[1]).await?;
    }
    context.shows(&[2], &[hit(2)]).await
}

async fn a_tombstone_voids_the_fill_that_runs(context: Context) -> Check {
    let token = context.token(1).await?;
    context.tombstone(&[1]).await?;
    context.fill(&[(1, token, live(1))]).await?;
    context.shows_none_of(&[1]).await?;
    context.fill(&[(1, token, live(1))]).await?;
    context.shows_none_of(&[1]).await
}

async fn a_tombstone_voids_a_fill_also_of_what_was_there(context: Context) -> Check {
    let token = context.token(1).await?;
    context.fill(&[(1, token, live(1))]).await?;
    context.tombstone(&[1]).await?;
    // A late repeat of the fill.
    context.fill(&[(1, token, live(1))]).await?;
    context.shows_none_of(&[1]).await
}

async fn many_are_marked_in_one_call(context: Context) -> Check {
    let all: Vec<u64> = (1..=40).collect();
    for &id in &all {
        context.filled(id).await?;
    }
    context.tombstone(&all[..39]).await?;
    context.shows_none_of(&all[..39]).await?;
    context.shows(&[40], &[hit(40)]).await
}

async fn of_readers_at_once_one_may_fill(context: Context) -> Check {
    let read = |_| -> BoxFuture<'static, Read<Vec<BodyRead>>> {
        let bodies = context.bodies.clone();
        Box::pin(async move { bodies.read(&[TweetId(1)]).await })
    };
    let mut tokens = 0;
    for found in concurrently(&context.rt, (0..16).map(read)).await? {
        tokens += usize::from(matches!(found.must("read")?[..], [BodyRead::Miss(Some(_))]));
    }
    same("readers who may fill", &tokens, &1)
}

async fn a_fill_that_never_ends_is_left_to_another(context: Context) -> Check {
    let dead = context.token(1).await?;
    let start = context.rt.now();
    while context.rt.now().since(start) < DEAD_FILL_MAX {
        context.rt.sleep(Duration::from_millis(100)).await;
        if let [BodyRead::Miss(Some(token))] = context.read(&[1]).await?[..] {
            that(token != dead, "another fill has another token")?;
            context.fill(&[(1, dead, live(9))]).await?;
            context.fill(&[(1, token, live(1))]).await?;
            return context.shows(&[1], &[hit(1)]).await;
        }
    }
    Err("nobody may fill after a filler has died".to_owned())
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.filled(1).await?;
    let token = context.token(2).await?;
    outage.begin();
    is_error("read", &context.bodies.read(&tweets(&[1])).await)?;
    not_done("fill", &context.bodies.fill(&[(TweetId(2), token, live(2))]).await)?;
    not_done("tombstone", &context.bodies.tombstone(&tweets(&[1])).await)?;
    not_done("tombstone of what is not there", &context.bodies.tombstone(&tweets(&[3])).await)
}
