//! What must, may and must not be seen, computed from the history of the clients alone.

use super::history::{Ask, EdgeOp, History, PostState, Settled, Stamp, Who};
use crate::domain::TweetId;

/// When a request was certain to be over; never, if that is not known.
fn over(op: &EdgeOp) -> Stamp {
    op.done.unwrap_or(Stamp { seq: u64::MAX, ms: u64::MAX })
}

impl History {
    fn ops(&self, actor: Who, target: Who, ask: Ask) -> impl Iterator<Item = EdgeOp> + '_ {
        let ops = self.edges.get(&(actor, target)).map_or(&[][..], Vec::as_slice);
        let was = self.settled.get(&(actor, target)).copied().unwrap_or_default();
        let stands = match ask {
            Ask::Follow => was.follows,
            Ask::Unfollow => !was.follows,
            Ask::Block => was.blocks,
            Ask::Unblock => !was.blocks,
        };
        let at = self.settled_at;
        let base = EdgeOp { ask, invoked: at, done: Some(at), blocked: false, honoured: true };
        let mine = ops.iter().copied().filter(move |op| op.ask == ask);
        stands.then_some(base).into_iter().chain(mine)
    }

    fn offs(&self, actor: Who, target: Who) -> impl Iterator<Item = EdgeOp> + '_ {
        self.ops(actor, target, Ask::Unfollow)
            .chain(self.blocks(actor, target))
            .chain(self.blocks(target, actor))
    }

    fn blocks(&self, actor: Who, target: Who) -> impl Iterator<Item = EdgeOp> + '_ {
        self.ops(actor, target, Ask::Block)
    }

    /// Whether a read between `from` and `to` may show tweets of `target` in `actor`'s home
    /// timeline: some follow may stand against every end of it that had to be honoured by `from`.
    pub fn may_follow(&self, actor: Who, target: Who, from: Stamp, to: Stamp) -> bool {
        self.ops(actor, target, Ask::Follow).filter(|on| on.invoked <= to).any(|on| {
            let ends = |off: EdgeOp| off.honoured && over(&off) <= from && off.invoked > over(&on);
            !self.offs(actor, target).any(ends)
        })
    }

    /// Whether a block of `target` by `actor` stands during all of a read between `from` and `to`.
    pub fn surely_blocks(&self, actor: Who, target: Who, from: Stamp, to: Stamp) -> bool {
        self.blocks(actor, target).filter(|on| on.honoured && over(on) <= from).any(|on| {
            let lifts = |off: EdgeOp| off.invoked <= to && over(&off) >= on.invoked;
            !self.ops(actor, target, Ask::Unblock).any(lifts)
        })
    }

    /// Why an edge that was found when everything had settled cannot be, if it cannot.
    pub fn contradiction(&self, actor: Who, target: Who, found: Settled) -> Option<String> {
        let stands = |ons: Vec<EdgeOp>, offs: Vec<EdgeOp>| {
            let certain = |off: &&EdgeOp| off.done.is_some() && !off.blocked;
            let beaten =
                |on: &EdgeOp| offs.iter().filter(certain).any(|off| off.invoked > over(on));
            ons.iter().any(|on| !beaten(on))
        };
        let follows: Vec<_> = self.ops(actor, target, Ask::Follow).collect();
        let ends: Vec<_> = self.offs(actor, target).collect();
        let blocks: Vec<_> = self.blocks(actor, target).collect();
        let lifts: Vec<_> = self.ops(actor, target, Ask::Unblock).collect();
        let possible = [
            (
                found.follows,
                stands(follows.clone(), ends.clone()),
                "a follow that was ended stands",
            ),
            (!found.follows, stands(ends, follows), "a follow that was acknowledged is gone"),
            (found.blocks, stands(blocks.clone(), lifts.clone()), "a block that was lifted stands"),
            (!found.blocks, stands(lifts, blocks), "a block that was acknowledged is gone"),
        ];
        let wrong = possible.into_iter().find(|(is, may, _)| *is && !may);
        wrong.map(|(_, _, why)| why.to_owned())
    }

    /// Live tweets of `author`, newest first. Exact once everything has settled.
    pub fn live(&self, author: Who) -> Vec<TweetId> {
        let live = |p: &&super::history::Post| {
            p.author == author && p.state == PostState::Exists && !p.deleted
        };
        let mut ids: Vec<TweetId> = self.posts.iter().filter(live).filter_map(|p| p.id).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids
    }

    /// `reader`'s home timeline, newest first. Exact once everything has settled.
    pub fn home(&self, reader: Who, users: usize) -> Vec<TweetId> {
        let sees = |author: &Who| {
            *author == reader
                || self.settled.get(&(reader, *author)).is_some_and(|edge| edge.follows)
        };
        let mut ids: Vec<TweetId> = (0..users).filter(sees).flat_map(|a| self.live(a)).collect();
        ids.sort_unstable_by(|a, b| b.cmp(a));
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now(history: &mut History) -> Stamp {
        history.stamp(0)
    }

    fn did(history: &mut History, actor: Who, target: Who, ask: Ask, honoured: bool) {
        let at = history.edge(actor, target, ask, 0);
        history.edge_done(actor, target, at, honoured, 0);
    }

    #[test]
    fn an_unfollow_counts_once_it_is_acknowledged_and_nothing_may_have_followed_since() {
        let mut history = History::default();
        did(&mut history, 0, 1, Ask::Follow, true);
        let at = history.edge(0, 1, Ask::Unfollow, 0);
        let from = now(&mut history);
        assert!(history.may_follow(0, 1, from, from), "it is not acknowledged");
        history.edge_done(0, 1, at, true, 0);
        let from = now(&mut history);
        assert!(!history.may_follow(0, 1, from, from));
        history.edge(0, 1, Ask::Follow, 0);
        let to = now(&mut history);
        assert!(history.may_follow(0, 1, from, to), "a follow without an answer may stand");
        assert!(!history.may_follow(0, 1, from, from), "but not before it was sent");
    }

    #[test]
    fn an_unfollow_that_was_accepted_only_need_not_be_honoured_yet_but_must_stand_at_last() {
        let mut history = History::default();
        did(&mut history, 0, 1, Ask::Follow, true);
        did(&mut history, 0, 1, Ask::Unfollow, false);
        let from = now(&mut history);
        assert!(history.may_follow(0, 1, from, from));
        let follows = Settled { follows: true, blocks: false };
        assert!(history.contradiction(0, 1, follows).is_some());
        assert!(history.contradiction(0, 1, Settled::default()).is_none());
    }

    #[test]
    fn a_block_by_either_ends_a_follow_and_stands_until_a_lift_may_have_come() {
        let mut history = History::default();
        did(&mut history, 0, 1, Ask::Follow, true);
        did(&mut history, 1, 0, Ask::Block, true);
        let from = now(&mut history);
        assert!(!history.may_follow(0, 1, from, from));
        assert!(
            history.surely_blocks(1, 0, from, from) && !history.surely_blocks(0, 1, from, from)
        );
        history.edge(1, 0, Ask::Unblock, 0);
        let to = now(&mut history);
        assert!(!history.surely_blocks(1, 0, from, to));
        let both = Settled { follows: false, blocks: true };
        assert!(history.contradiction(1, 0, both).is_none());
        assert!(history.contradiction(1, 0, Settled::default()).is_none());
    }

    #[test]
    fn a_follow_that_a_block_refused_may_stand_until_it_is_ended_for_certain() {
        let mut history = History::default();
        let at = history.edge(0, 1, Ask::Follow, 0);
        history.edge_blocked(0, 1, at, 0);
        let from = now(&mut history);
        assert!(history.may_follow(0, 1, from, from), "a copy may have come after the block");
        let follows = Settled { follows: true, blocks: false };
        assert!(history.contradiction(0, 1, follows).is_none());
        assert!(history.contradiction(0, 1, Settled::default()).is_none());
        did(&mut history, 0, 1, Ask::Unfollow, true);
        let from = now(&mut history);
        assert!(!history.may_follow(0, 1, from, from));
        assert!(history.contradiction(0, 1, follows).is_some());
    }

    #[test]
    fn a_follow_that_was_acknowledged_must_be_found() {
        let mut history = History::default();
        did(&mut history, 0, 1, Ask::Follow, true);
        assert!(history.contradiction(0, 1, Settled::default()).is_some());
        let at = history.edge(0, 1, Ask::Unfollow, 0);
        assert!(history.contradiction(0, 1, Settled::default()).is_none());
        history.edge_refused(0, 1, at);
        assert!(history.contradiction(0, 1, Settled::default()).is_some());
    }
}
