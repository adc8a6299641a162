//! What every [`GraphStore`] does, together with the outbox beside it.

use std::sync::Arc;

use super::{
    Check, Outage, behaviours,
    kit::{Must, NOW_MS, concurrently, is_error, new_events, not_done, same, that, trace},
};
use crate::{
    domain::{Change, Pair, PairState, UserId, edge::Blocked},
    ports::{Changed, Counts, EdgeChange, GraphStore, Outbox, Outcome},
    rt::{BoxFuture, Rt},
    wire::events::Event,
};

/// A graph without edges.
#[derive(Clone)]
pub struct Context {
    /// The graph.
    pub graph: Arc<dyn GraphStore>,
    /// Its outbox.
    pub outbox: Arc<dyn Outbox>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes the store down.
    pub outage: Option<Outage>,
}

behaviours![
    strangers_have_no_edges,
    a_follow_is_written_with_its_event,
    a_change_in_force_writes_nothing,
    every_change_of_a_pair_has_the_next_version,
    pairs_have_versions_of_their_own,
    a_block_ends_both_follows,
    a_blocked_follow_changes_nothing,
    lifting_a_block_brings_nothing_back,
    muting_leaves_the_counts,
    counts_follow_the_edges,
    follows_at_once_are_all_counted,
    the_same_change_at_once_happens_once,
    changes_at_once_have_versions_one_after_another,
    an_outage_is_an_error,
];

fn ask(actor: u64, change: Change, target: u64) -> EdgeChange {
    let (actor, target) = (UserId(actor), UserId(target));
    EdgeChange { actor, target, change, at_ms: NOW_MS + 3, trace: Some(trace(4)) }
}

/// The event that has to be written for a change.
fn event(changed: &Changed) -> Event {
    let Changed { now, low_followers, high_followers, .. } = changed;
    Event::graph_changed(now, *low_followers, *high_followers, NOW_MS + 3, Some(trace(4)))
}

impl Context {
    async fn change(&self, asked: &EdgeChange) -> Result<Result<Changed, Blocked>, String> {
        self.graph.change(asked).await.must("change")
    }

    /// Makes a change that is not refused.
    async fn makes(&self, actor: u64, change: Change, target: u64) -> Result<Changed, String> {
        let changed = self.change(&ask(actor, change, target)).await?;
        let changed = changed.map_err(|blocked| format!("{change:?} is refused: {blocked}"))?;
        let pair = Pair::new(UserId(actor), UserId(target));
        same("pair", &Some(changed.now.pair), &pair)?;
        Ok(changed)
    }

    async fn pair(&self, a: u64, b: u64) -> Result<PairState, String> {
        self.graph.pair(UserId(a), UserId(b)).await.must("pair")
    }

    async fn counts(&self, user: u64, followers: u64, following: u64) -> Check {
        let found = self.graph.counts(UserId(user)).await.must("counts")?;
        same(&format!("counts of {user}"), &found, &Counts { followers, following })
    }

    async fn wrote(&self, expected: &[Event]) -> Check {
        same("events written", &new_events(&*self.outbox).await?, &expected.to_vec())
    }

    async fn at_once(
        &self,
        changes: Vec<EdgeChange>,
    ) -> Result<Vec<Result<Changed, Blocked>>, String> {
        let change = |asked: EdgeChange| -> BoxFuture<'static, Outcome<Result<Changed, Blocked>>> {
            let graph = self.graph.clone();
            Box::pin(async move { graph.change(&asked).await })
        };
        let answers = concurrently(&self.rt, changes.into_iter().map(change)).await?;
        answers.into_iter().map(|answer| answer.must("change")).collect()
    }
}

async fn strangers_have_no_edges(context: Context) -> Check {
    same("pair", &context.pair(1, 2).await?, &PairState::default())?;
    context.counts(1, 0, 0).await?;
    context.wrote(&[]).await
}

async fn a_follow_is_written_with_its_event(context: Context) -> Check {
    let changed = context.makes(7, Change::Follow, 3).await?;
    that(changed.fresh, "a first follow is fresh")?;
    that(changed.now.state.high.follows, "the larger id follows")?;
    that(!changed.now.state.low.follows, "the smaller id does not follow")?;
    let followers = (changed.low_followers, changed.high_followers);
    same("followers of smaller and larger id", &followers, &(1, 0))?;
    for (a, b) in [(3, 7), (7, 3)] {
        same("pair", &context.pair(a, b).await?, &changed.now.state)?;
    }
    context.wrote(&[event(&changed)]).await?;
    let back = context.makes(3, Change::Follow, 7).await?;
    same("followers", &(back.low_followers, back.high_followers), &(1, 1))?;
    context.wrote(&[event(&back)]).await
}

async fn a_change_in_force_writes_nothing(context: Context) -> Check {
    let first = context.makes(1, Change::Follow, 2).await?;
    new_events(&*context.outbox).await?;
    // The same answer may have been lost, so the call may come again.
    let again = context.makes(1, Change::Follow, 2).await?;
    same("answer", &again, &Changed { fresh: false, ..first })?;
    for change in [Change::Unblock, Change::Unmute] {
        that(!context.makes(1, change, 2).await?.fresh, "lifting what is not there is not fresh")?;
    }
    that(!context.makes(2, Change::Unfollow, 1).await?.fresh, "nothing to end is not fresh")?;
    context.counts(2, 1, 0).await?;
    context.wrote(&[]).await
}

async fn every_change_of_a_pair_has_the_next_version(context: Context) -> Check {
    let mut version = context.makes(1, Change::Follow, 2).await?.now.version;
    that(version > 0, "a version is above that of the pair of strangers")?;
    for (actor, change, target) in [
        (2, Change::Follow, 1),
        (1, Change::Mute, 2),
        (1, Change::Unfollow, 2),
        (2, Change::Block, 1),
        (2, Change::Unblock, 1),
    ] {
        let changed = context.makes(actor, change, target).await?;
        same("version", &changed.now.version, &(version + 1))?;
        version += 1;
        let again = context.makes(actor, change, target).await?;
        same("version of a repeat", &again.now.version, &version)?;
    }
    Ok(())
}

async fn pairs_have_versions_of_their_own(context: Context) -> Check {
    let first = context.makes(1, Change::Follow, 2).await?;
    context.makes(1, Change::Mute, 2).await?;
    let other = context.makes(1, Change::Follow, 3).await?;
    same("first versions", &other.now.version, &first.now.version)
}

async fn a_block_ends_both_follows(context: Context) -> Check {
    context.makes(1, Change::Follow, 2).await?;
    context.makes(2, Change::Follow, 1).await?;
    new_events(&*context.outbox).await?;
    let blocked = context.makes(1, Change::Block, 2).await?;
    let state = blocked.now.state;
    that(state.low.blocks && !state.high.blocks, "one blocks, the other does not")?;
    that(!state.low.follows && !state.high.follows, "nobody follows any more")?;
    same("followers", &(blocked.low_followers, blocked.high_followers), &(0, 0))?;
    same("pair", &context.pair(1, 2).await?, &state)?;
    context.counts(1, 0, 0).await?;
    context.counts(2, 0, 0).await?;
    context.wrote(&[event(&blocked)]).await
}

async fn a_blocked_follow_changes_nothing(context: Context) -> Check {
    let blocked = context.makes(1, Change::Block, 2).await?;
    new_events(&*context.outbox).await?;
    for (actor, target) in [(1, 2), (2, 1)] {
        let answer = context.change(&ask(actor, Change::Follow, target)).await?;
        same("answer", &answer, &Err(Blocked))?;
    }
    same("pair", &context.pair(1, 2).await?, &blocked.now.state)?;
    context.counts(1, 0, 0).await?;
    context.counts(2, 0, 0).await?;
    context.wrote(&[]).await
}

async fn lifting_a_block_brings_nothing_back(context: Context) -> Check {
    context.makes(2, Change::Follow, 1).await?;
    context.makes(1, Change::Block, 2).await?;
    context.makes(1, Change::Unblock, 2).await?;
    same("pair", &context.pair(1, 2).await?, &PairState::default())?;
    context.counts(1, 0, 0).await?;
    that(context.makes(2, Change::Follow, 1).await?.fresh, "one may follow again")?;
    context.counts(1, 1, 0).await
}

async fn muting_leaves_the_counts(context: Context) -> Check {
    context.makes(1, Change::Follow, 2).await?;
    let muted = context.makes(1, Change::Mute, 2).await?;
    that(muted.now.state.low.mutes && muted.now.state.low.follows, "a muted user is followed")?;
    context.counts(2, 1, 0).await?;
    context.counts(1, 0, 1).await
}

async fn counts_follow_the_edges(context: Context) -> Check {
    for follower in [2, 3, 4] {
        let changed = context.makes(follower, Change::Follow, 1).await?;
        same("followers told", &changed.low_followers, &(follower - 1))?;
    }
    context.makes(1, Change::Follow, 2).await?;
    context.counts(1, 3, 1).await?;
    context.counts(2, 1, 1).await?;
    let changed = context.makes(3, Change::Unfollow, 1).await?;
    same("followers told", &changed.low_followers, &2)?;
    context.counts(1, 2, 1).await?;
    context.counts(3, 0, 0).await
}

async fn follows_at_once_are_all_counted(context: Context) -> Check {
    let follows = (2..=13).map(|follower| ask(follower, Change::Follow, 1)).collect();
    let mut told = Vec::new();
    for answer in context.at_once(follows).await? {
        told.push(answer.map_err(|blocked| blocked.to_string())?.low_followers);
    }
    told.sort_unstable();
    same("followers told", &told, &(1..=12).collect())?;
    context.counts(1, 12, 0).await?;
    same("events", &new_events(&*context.outbox).await?.len(), &12)
}

async fn the_same_change_at_once_happens_once(context: Context) -> Check {
    let answers = context.at_once(vec![ask(1, Change::Follow, 2); 8]).await?;
    let fresh = answers.iter().filter(|a| a.as_ref().is_ok_and(|c| c.fresh)).count();
    same("fresh answers", &fresh, &1)?;
    context.counts(2, 1, 0).await?;
    same("events", &new_events(&*context.outbox).await?.len(), &1)
}

async fn changes_at_once_have_versions_one_after_another(context: Context) -> Check {
    let all = [Change::Follow, Change::Mute, Change::Block, Change::Unfollow, Change::Unmute];
    let ask_both = |change| [ask(1, change, 2), ask(2, change, 1)];
    let answers = context.at_once(all.into_iter().flat_map(ask_both).collect()).await?;
    let mut fresh: Vec<Changed> =
        answers.into_iter().filter_map(Result::ok).filter(|changed| changed.fresh).collect();
    fresh.sort_by_key(|changed| changed.now.version);
    let versions: Vec<u64> = fresh.iter().map(|changed| changed.now.version).collect();
    let first = versions.first().copied().unwrap_or_default();
    same("versions", &versions, &(first..first + versions.len() as u64).collect())?;
    let last = fresh.last().map(|changed| changed.now.state).unwrap_or_default();
    same("pair", &context.pair(1, 2).await?, &last)?;
    context.wrote(&fresh.iter().map(event).collect::<Vec<_>>()).await
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.makes(1, Change::Follow, 2).await?;
    outage.begin();
    not_done("change", &context.graph.change(&ask(1, Change::Unfollow, 2)).await)?;
    is_error("pair", &context.graph.pair(UserId(1), UserId(2)).await)?;
    is_error("counts", &context.graph.counts(UserId(1)).await)
}
