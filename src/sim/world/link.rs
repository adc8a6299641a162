//! One node's way to one port, with everything that can go wrong on it.
//!
//! The order of a call: latency, is the port down or cut off, refused, lost on the way, applied in
//! one step (or late), the answer lost, latency, cut off meanwhile.

use std::{
    fmt::{self, Debug},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rand::Rng as _;
use rand_pcg::Pcg64;

use super::{NodeId, Part, State, World, outbox::Rows};
use crate::{
    ports::{Kind, Outcome, Read, StoreError},
    rt::Rt,
    sim::seed::Seed,
};

/// What is decided by chance. Each has a stream of its own per port and node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chance {
    There,
    Back,
    Spike,
    Refuse,
    LoseRequest,
    LoseAnswer,
    Late,
    Commit,
    Partial,
    Split,
    ShortPage,
    Entry,
    Duplicate,
    Delay,
    Reorder,
    Lag,
    Evict,
    HintLoss,
}

const CHANCES: [Chance; 18] = [
    Chance::There,
    Chance::Back,
    Chance::Spike,
    Chance::Refuse,
    Chance::LoseRequest,
    Chance::LoseAnswer,
    Chance::Late,
    Chance::Commit,
    Chance::Partial,
    Chance::Split,
    Chance::ShortPage,
    Chance::Entry,
    Chance::Duplicate,
    Chance::Delay,
    Chance::Reorder,
    Chance::Lag,
    Chance::Evict,
    Chance::HintLoss,
];

/// The streams of one port at one node.
pub(super) struct Dice([Pcg64; CHANCES.len()]);

impl Dice {
    pub(super) fn new(seed: Seed, port: &str, node: NodeId) -> Self {
        Self(CHANCES.map(|chance| seed.stream(&format!("{port}/{chance:?}"), u64::from(node.0))))
    }
}

/// One node's way to one port. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) world: World,
    pub(super) rt: Rt,
    node: NodeId,
    part: Part,
    port: &'static str,
    dice: Arc<Mutex<Dice>>,
    /// Whether a write may happen after its caller gave up.
    late: bool,
}

/// What is decided about a call before it begins: always all of it, so that no stream depends on
/// what the others bring.
struct Plan {
    there_ms: u64,
    back_ms: u64,
    refused: bool,
    request_lost: Option<u64>,
    answer_lost: Option<u64>,
    late_ms: Option<u64>,
}

impl Link {
    pub(super) fn new(
        world: &World,
        rt: &Rt,
        node: NodeId,
        part: Part,
        name: &'static str,
    ) -> Self {
        let dice = world.dice(name, node);
        let (world, rt) = (world.clone(), rt.clone());
        Self { world, rt, node, part, port: name, dice, late: true }
    }

    /// The same way, on which an unknown write has happened or never will.
    pub(super) fn never_late(self) -> Self {
        Self { late: false, ..self }
    }

    /// A random number of this chance's stream.
    pub(super) fn draw(&self, chance: Chance) -> u64 {
        self.dice.lock().0[chance as usize].next_u64()
    }

    /// Whether the fault happens, of `p` in 10,000; if so, with a random 32-bit number for its size.
    pub(super) fn hit(&self, chance: Chance, p: u32) -> Option<u64> {
        let drawn = self.draw(chance);
        let hit = drawn % 10_000 < u64::from(p) && self.world.faulty();
        hit.then_some(drawn >> 32)
    }

    fn plan(&self) -> Plan {
        let knobs = self.world.knobs();
        let within = |drawn: u64, most: u64| drawn % (most + 1);
        let spike = self.hit(Chance::Spike, knobs.spike).map(|size| within(size, knobs.spike_ms));
        let there_ms = within(self.draw(Chance::There), knobs.latency_ms);
        let timeout = |size: u64| within(size, knobs.timeout_ms);
        Plan {
            there_ms: there_ms + spike.unwrap_or(0) + self.world.slowness(self.part),
            back_ms: within(self.draw(Chance::Back), knobs.latency_ms),
            refused: self.hit(Chance::Refuse, knobs.refuse).is_some(),
            request_lost: self.hit(Chance::LoseRequest, knobs.lose_request).map(timeout),
            answer_lost: self.hit(Chance::LoseAnswer, knobs.lose_answer).map(timeout),
            late_ms: self.hit(Chance::Late, knobs.late).map(|size| within(size, knobs.late_ms)),
        }
    }

    /// Lets `ms` pass.
    pub(super) async fn pause(&self, ms: u64) {
        if ms > 0 {
            self.rt.sleep(Duration::from_millis(ms)).await;
        }
    }

    pub(super) fn error(&self, kind: Kind, message: &str) -> StoreError {
        StoreError::new(kind, self.port, message)
    }

    pub(super) fn note(&self, op: &str, detail: impl fmt::Display) {
        let what = format_args!("{}.{op}", self.port).to_string();
        self.world.trace().event(self.world.now_ms(), self.node, &what, detail);
    }

    pub(super) fn reachable(&self) -> bool {
        self.world.reachable(self.node, self.part)
    }

    async fn arrive(&self, plan: &Plan, op: &str) -> Result<(), StoreError> {
        self.pause(plan.there_ms).await;
        let why = if !self.reachable() {
            "cannot be reached"
        } else if plan.refused {
            "refused"
        } else {
            return Ok(());
        };
        self.note(op, why);
        Err(self.error(Kind::Unavailable, why))
    }

    /// A call that changes nothing.
    pub(super) async fn read<T: Debug>(
        &self,
        op: &'static str,
        args: impl Debug + Send,
        look: impl FnOnce(&mut State, u64) -> Read<T> + Send,
    ) -> Read<T> {
        let plan = self.plan();
        self.arrive(&plan, op).await?;
        if let Some(wait) = plan.request_lost {
            self.note(op, format_args!("{args:?} lost on the way"));
            self.pause(wait).await;
            return Err(self.error(Kind::Timeout, "no answer"));
        }
        // Also if the answer is lost: some reads leave marks.
        let found = self.world.with(look);
        self.note(op, format_args!("{args:?} = {found:?}"));
        if let Some(wait) = plan.answer_lost {
            self.note(op, "answer lost");
            self.pause(wait).await;
            return Err(self.error(Kind::Timeout, "no answer"));
        }
        self.pause(plan.back_ms).await;
        if self.reachable() { found } else { Err(self.error(Kind::Timeout, "cut off")) }
    }

    /// A call that changes something, in one step. `Err` of `apply` is a refusal.
    pub(super) async fn write<T: Debug + Send + 'static>(
        &self,
        op: &'static str,
        args: impl Debug + Send,
        apply: impl FnOnce(&mut State, u64) -> Read<T> + Send + 'static,
    ) -> Outcome<T> {
        let plan = self.plan();
        if let Err(error) = self.arrive(&plan, op).await {
            return Outcome::Failed(error);
        }
        let no_answer = |how: &str| Outcome::Unknown(self.error(Kind::Timeout, how));
        if let Some(wait) = plan.request_lost {
            self.note(op, format_args!("{args:?} lost on the way"));
            self.pause(wait).await;
            return no_answer("no answer");
        }
        if let Some(late_ms) = plan.late_ms.filter(|_| self.late) {
            self.note(op, format_args!("{args:?} will be {late_ms} ms late"));
            let (port, node) = (self.port, self.node);
            self.world.later(late_ms, node, port, op, move |state, now| drop(apply(state, now)));
            self.pause(plan.back_ms).await;
            return no_answer("no answer in time");
        }
        let done = self.world.with(apply);
        self.note(op, format_args!("{args:?} = {done:?}"));
        if let Some(wait) = plan.answer_lost {
            self.note(op, "answer lost");
            self.pause(wait).await;
            return no_answer("no answer");
        }
        self.pause(plan.back_ms).await;
        match done {
            _ if !self.reachable() => no_answer("cut off"),
            Ok(value) => Outcome::Done(value),
            Err(error) => Outcome::Failed(error),
        }
    }

    /// Begins a transaction that writes to an outbox: it may take its number some time before it
    /// commits. Without a number, it takes one at its commit.
    pub(super) async fn begin(&self, rows: fn(&mut State) -> &mut Rows) -> Option<u64> {
        let knobs = self.world.knobs();
        let size = self.hit(Chance::Commit, knobs.commit)?;
        let seq = self.world.with(|state, _| rows(state).reserve());
        self.pause(size % (knobs.commit_ms + 1)).await;
        Some(seq)
    }
}
