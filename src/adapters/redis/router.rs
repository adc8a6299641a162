//! Brings commands to the servers that hold their keys, and follows keys that move.
//!
//! One server, or a cluster whose slots are learnt from any node of it. Commands are grouped by
//! server and go out in pipelines, to all servers at once. What was not run is sent again a few times:
//! the slot is elsewhere, the script is not known, the server is loading, the connection broke.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures_util::{StreamExt, future::join_all, stream::FuturesUnordered};
use parking_lot::{Mutex, RwLock};
use redis::Value;

use super::{
    fault::{Answer, Fault},
    node::{Call, Door, Node, Purpose},
    slots::{self, SLOTS, slot_of},
};
use crate::{
    ports::Kind,
    rt::{Instant, Rt},
};

/// How often a command is sent at most.
const ROUNDS_MAX: u32 = 6;
/// The pause before the third round if a server could not, doubled each time: 0.3 s in all.
const PAUSE: Duration = Duration::from_millis(20);
/// The slots are not asked for more often than this.
const LEARN_EVERY: Duration = Duration::from_millis(50);
/// Nodes that are asked for the slots at once.
const TEACHERS_MAX: usize = 8;

/// A command on its way.
struct Item {
    at: usize,
    /// Where it was sent on to, and whether only this once.
    hop: Option<(String, bool)>,
    /// An earlier round may have run it.
    maybe: bool,
}

/// Where commands go.
pub(super) struct Router {
    rt: Rt,
    door: Arc<Door>,
    nodes: Mutex<BTreeMap<String, Arc<Node>>>,
    /// The server of each slot; empty until it is known.
    slots: RwLock<Vec<Option<Arc<Node>>>>,
    learnt: tokio::sync::Mutex<Option<Instant>>,
}

impl Router {
    pub(super) fn new(rt: Rt, door: Arc<Door>) -> Self {
        let (nodes, slots, learnt) = Default::default();
        Self { rt, door, nodes, slots, learnt }
    }

    /// The servers that are known, to listen at one of them.
    pub(super) fn addresses(&self) -> Vec<String> {
        let known: Vec<String> = self.nodes.lock().keys().cloned().collect();
        if known.is_empty() {
            self.door.config().nodes().map(str::to_owned).collect()
        } else {
            known
        }
    }

    /// The servers that hold keys.
    pub(super) async fn servers(&self) -> Vec<Arc<Node>> {
        self.learn().await;
        let all: BTreeMap<String, Arc<Node>> = (self.slots.read().iter().flatten())
            .map(|node| (node.address.clone(), Arc::clone(node)))
            .collect();
        all.into_values().collect()
    }

    /// Runs commands and gives what each answered, in their order.
    pub(super) async fn run(&self, purpose: Purpose, calls: &[Call]) -> Vec<Result<Value, Fault>> {
        let unsent = || Err(Fault::refused(Kind::Unavailable, "no server holds the key"));
        let mut answers: Vec<Result<Value, Fault>> = calls.iter().map(|_| unsent()).collect();
        let mut open: Vec<Item> =
            (0..calls.len()).map(|at| Item { at, hop: None, maybe: false }).collect();
        let mut stale = false;
        for round in 0..ROUNDS_MAX {
            if open.is_empty() {
                break;
            }
            if std::mem::take(&mut stale) {
                if round > 1 {
                    self.rt.sleep(PAUSE * 2_u32.pow(round - 2)).await;
                }
                self.learn().await;
            }
            let groups = self.grouped(&mut open, calls, &mut answers).await;
            let sent = groups.into_iter().map(|(node, asking, items)| async move {
                let of: Vec<&Call> = items.iter().map(|item| &calls[item.at]).collect();
                let found = node.send(purpose, &of, asking).await;
                items.into_iter().zip(found)
            });
            for (item, answer) in join_all(sent).await.into_iter().flatten() {
                let call = &calls[item.at];
                if let Some(item) = settle(&item, answer, call, &mut answers, &mut stale) {
                    open.push(item);
                }
            }
        }
        answers
    }

    /// Takes the items whose server is known, by server.
    async fn grouped(
        &self,
        open: &mut Vec<Item>,
        calls: &[Call],
        answers: &mut [Result<Value, Fault>],
    ) -> Vec<(Arc<Node>, bool, Vec<Item>)> {
        if self.slots.read().is_empty() {
            self.learn().await;
        }
        let mut groups: BTreeMap<(String, bool), (Arc<Node>, Vec<Item>)> = BTreeMap::new();
        let slots = self.slots.read();
        let mut left = Vec::new();
        for item in open.drain(..) {
            let (node, once) = match &item.hop {
                Some((address, once)) => (Some(self.node(address)), *once),
                None => (slots.get(slot_of(&calls[item.at].key)).cloned().flatten(), false),
            };
            match node {
                Some(node) => {
                    let key = (node.address.clone(), once);
                    groups.entry(key).or_insert_with(|| (node, Vec::new())).1.push(item);
                }
                None => left.push(item),
            }
        }
        for item in left {
            if let Err(fault) = &mut answers[item.at] {
                fault.maybe |= item.maybe;
            }
        }
        groups.into_iter().map(|((_, once), (node, items))| (node, once, items)).collect()
    }

    fn node(&self, address: &str) -> Arc<Node> {
        let mut nodes = self.nodes.lock();
        let node = nodes
            .entry(address.to_owned())
            .or_insert_with(|| Arc::new(Node::new(&self.rt, &self.door, address)));
        Arc::clone(node)
    }

    /// Learns which server holds which slot. One caller does it, the others wait for that.
    async fn learn(&self) {
        let asked = self.rt.now();
        let mut learnt = self.learnt.lock().await;
        if learnt.is_some_and(|at| at >= asked || asked.since(at) < LEARN_EVERY) {
            return;
        }
        let slots = if self.door.config().cluster { self.ask().await } else { self.single() };
        if let Some(slots) = slots {
            let keep = |_: &String, node: &mut Arc<Node>| {
                slots.iter().flatten().any(|kept| kept.address == node.address)
            };
            self.nodes.lock().retain(keep);
            *self.slots.write() = slots;
        }
        *learnt = Some(self.rt.now());
    }

    fn single(&self) -> Option<Vec<Option<Arc<Node>>>> {
        let node = self.node(self.door.config().nodes().next()?);
        Some(vec![Some(node); SLOTS])
    }

    /// The first answer of some nodes that are asked at once: a dead one must not hold this up.
    async fn ask(&self) -> Option<Vec<Option<Arc<Node>>>> {
        let known: Vec<String> = self.nodes.lock().keys().cloned().collect();
        let seeds = self.door.config().nodes().map(str::to_owned);
        let mut addresses: Vec<String> = known.into_iter().chain(seeds).collect();
        addresses.dedup();
        addresses.truncate(TEACHERS_MAX);
        let mut cmd = redis::cmd("CLUSTER");
        cmd.arg("SLOTS");
        let call = Call::new(String::new(), cmd);
        let call = &call;
        let mut asked: FuturesUnordered<_> = addresses
            .iter()
            .map(|address| self.node(address))
            .map(|node| async move {
                match node.send(Purpose::Read, &[call], false).await.pop() {
                    Some(Answer::Done(value)) => slots::ranges(&value, &node.address),
                    _ => None,
                }
            })
            .collect();
        while let Some(ranges) = asked.next().await {
            if let Some(ranges) = ranges.filter(|ranges| !ranges.is_empty()) {
                return Some(self.table(&ranges));
            }
        }
        None
    }

    fn table(&self, ranges: &[slots::Range]) -> Vec<Option<Arc<Node>>> {
        let mut table = vec![None; SLOTS];
        for range in ranges {
            let node = self.node(&range.address);
            // The ends were checked when the answer was read.
            table[range.first..=range.last.max(range.first)].fill(Some(node));
        }
        table
    }
}

/// Takes an answer down. Gives the item back if it is to be sent again, and notes in `stale` that the
/// slot may be elsewhere by now, or that the server needs a moment.
fn settle(
    item: &Item,
    answer: Answer,
    call: &Call,
    answers: &mut [Result<Value, Fault>],
    stale: &mut bool,
) -> Option<Item> {
    let &Item { at, maybe, .. } = item;
    let unavailable = |text: String| Fault::refused(Kind::Unavailable, text);
    let (fault, hop) = match answer {
        Answer::Done(value) => {
            answers[at] = Ok(value);
            return None;
        }
        Answer::Fault(fault) => {
            answers[at] = Err(Fault { maybe: fault.maybe || maybe, ..fault });
            return None;
        }
        Answer::Elsewhere { address, once } => {
            *stale |= !once;
            (unavailable(format!("the key moves, last to {address}")), Some((address, once)))
        }
        Answer::NoScript => (unavailable("the server forgets its scripts".to_owned()), None),
        Answer::Later(fault) | Answer::Broken(fault) => {
            *stale = true;
            (fault, None)
        }
    };
    let again = call.again || !fault.maybe;
    let maybe = fault.maybe || maybe;
    answers[at] = Err(Fault { maybe, ..fault });
    again.then_some(Item { at, hop, maybe })
}
