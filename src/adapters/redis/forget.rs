//! Forgetting every list at once, when a data set gets another fan-out strategy.

use redis::Value;

use super::{
    Redis,
    fault::{Answer, Fault},
    node::{Call, Node, Purpose},
};
use crate::ports::{Kind, Outcome, StoreError};

const STORE: &str = "redis";
/// Keys that a server looks at for one answer: far below what would hold it up.
const SCAN_COUNT: usize = 1_000;
/// The lists of home timelines, of pulled authors, and of relations.
const KINDS: [&str; 3] = ["tl", "at", "rel"];
/// How often all servers are looked through, as keys may move between them.
const PASSES_MAX: u32 = 5;

impl Redis {
    /// Removes all lists of this namespace. Whoever fills one meanwhile may leave it behind: nothing is
    /// to run. Gives how many there were.
    pub async fn forget_lists(&self) -> Outcome<u64> {
        let mut forgotten = 0;
        for _ in 0..PASSES_MAX {
            let servers = self.router.servers().await;
            if servers.is_empty() {
                let why = "no server answers";
                return Outcome::Failed(StoreError::new(Kind::Unavailable, STORE, why));
            }
            let mut found = 0;
            for server in servers {
                for kind in KINDS {
                    match self.forget(&server, kind).await {
                        Ok(keys) => found += keys,
                        Err(fault) => return Outcome::Unknown(fault.into_error(STORE)),
                    }
                }
            }
            forgotten += found;
            if found == 0 {
                return Outcome::Done(forgotten);
            }
        }
        let why = "lists are made again and again: something runs";
        Outcome::Unknown(StoreError::new(Kind::Unavailable, STORE, why))
    }

    async fn forget(&self, server: &Node, kind: &str) -> Result<u64, Fault> {
        let pattern = format!("{}:{kind}:*", self.config.namespace);
        let (mut cursor, mut forgotten) = (b"0".to_vec(), 0);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_COUNT);
            let (next, keys) = page(ask(server, Purpose::Read, scan).await?)?;
            if !keys.is_empty() {
                forgotten += keys.len() as u64;
                // One by one, as a cluster takes no command with keys of several slots.
                let calls: Vec<Call> = keys
                    .into_iter()
                    .map(|key| {
                        let mut unlink = redis::cmd("UNLINK");
                        unlink.arg(key);
                        Call::new(String::new(), unlink)
                    })
                    .collect();
                let calls: Vec<&Call> = calls.iter().collect();
                for answer in server.send(Purpose::Write, &calls, false).await {
                    done(answer)?;
                }
            }
            if next == b"0" {
                return Ok(forgotten);
            }
            cursor = next;
        }
    }
}

async fn ask(server: &Node, purpose: Purpose, cmd: redis::Cmd) -> Result<Value, Fault> {
    let call = Call::new(String::new(), cmd);
    let answer = server.send(purpose, &[&call], false).await.pop();
    answer.map_or_else(|| Err(Fault::refused(Kind::Unavailable, "no answer")), done)
}

/// A key that has moved is found where it is by the next look.
fn done(answer: Answer) -> Result<Value, Fault> {
    match answer {
        Answer::Done(value) => Ok(value),
        Answer::Elsewhere { .. } | Answer::NoScript => Ok(Value::Nil),
        Answer::Fault(fault) | Answer::Later(fault) | Answer::Broken(fault) => Err(fault),
    }
}

fn page(value: Value) -> Result<(Vec<u8>, Vec<Vec<u8>>), Fault> {
    redis::from_redis_value(value)
        .map_err(|_| Fault::refused(Kind::Corrupt, "an answer to SCAN that is none"))
}
