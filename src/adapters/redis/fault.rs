//! What went wrong, and whether the command may have run all the same.

use redis::{RedisError, ServerError, Value};

use crate::{
    config,
    ports::{Kind, Outcome, Read, StoreError},
};

/// Characters of a server's text that an error keeps.
const TEXT_MAX: usize = 120;

/// A command that gave no answer that could be used.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// It may have run, or may still.
    pub(super) maybe: bool,
    /// A part of what it needs is moving to another node: its keys can be read one by one.
    pub(super) split: bool,
}

impl Fault {
    /// It did not run and will not.
    pub(super) fn refused(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), maybe: false, split: false }
    }

    /// It may have run.
    pub(super) fn unknown(kind: Kind, text: impl Into<String>) -> Self {
        Self { maybe: true, ..Self::refused(kind, text) }
    }

    pub(super) fn into_error(self, store: &'static str) -> StoreError {
        StoreError::new(self.kind, store, self.text)
    }
}

/// What a node made of a command.
#[derive(Debug)]
pub(super) enum Answer {
    Done(Value),
    Fault(Fault),
    /// Not run: this node serves the slot (`once`: for this command only).
    Elsewhere {
        address: String,
        once: bool,
    },
    /// Not run, because the server cannot just now.
    Later(Fault),
    /// Not run, because the server does not know the script.
    NoScript,
    /// The connection cannot be used any more; `maybe` tells whether the command may have run.
    Broken(Fault),
}

impl Answer {
    pub(super) const fn is_done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

/// What the server said.
pub(super) fn answer(value: Value) -> Answer {
    let Value::ServerError(error) = value else { return Answer::Done(value) };
    let text = told(&error);
    let unavailable = || Fault::refused(Kind::Unavailable, text.clone());
    match error.code() {
        "MOVED" | "ASK" => redirected(&error),
        "NOSCRIPT" => Answer::NoScript,
        "TRYAGAIN" => Answer::Later(Fault { split: true, ..unavailable() }),
        "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "BUSY" => Answer::Later(unavailable()),
        // It was a primary; a new connection finds the one that took over.
        "READONLY" => Answer::Broken(unavailable()),
        "NOAUTH" | "NOPERM" | "NOREPLICAS" | "MISCONF" => Answer::Fault(unavailable()),
        "OOM" => Answer::Fault(Fault::refused(Kind::Full, text)),
        "WRONGTYPE" => Answer::Fault(Fault::refused(Kind::Corrupt, text)),
        // A script may have failed after its first write.
        _ => Answer::Fault(Fault::unknown(Kind::Corrupt, text)),
    }
}

/// The node is in `MOVED 3999 127.0.0.1:6381`, which has no host where the node does not know it.
fn redirected(error: &ServerError) -> Answer {
    let to = error.details().and_then(|details| details.split_ascii_whitespace().nth(1));
    match to {
        Some(address) if config::host_port(address).is_some() => {
            let once = error.code() == "ASK";
            Answer::Elsewhere { address: address.to_owned(), once }
        }
        _ => Answer::Later(Fault::refused(Kind::Unavailable, told(error))),
    }
}

fn told(error: &ServerError) -> String {
    let details = error.details().unwrap_or_default();
    format!("{} {details}", error.code()).chars().take(TEXT_MAX).collect()
}

/// What the client library says of a connection. Its details are left out: they may repeat what was
/// sent, as when a server does not know how to log in.
pub(super) fn connection(error: &RedisError) -> String {
    let io = std::error::Error::source(error).and_then(|why| why.downcast_ref::<std::io::Error>());
    match (error.code(), io) {
        (Some(code), _) => format!("the connection failed: {} ({code})", error.category()),
        (None, Some(io)) => format!("the connection failed: {}", io.kind()),
        (None, None) => format!("the connection failed: {}", error.category()),
    }
}

/// All answers of a read.
pub(super) fn all_read(store: &'static str, found: Vec<Result<Value, Fault>>) -> Read<Vec<Value>> {
    let all: Result<Vec<Value>, Fault> = found.into_iter().collect();
    all.map_err(|fault| fault.into_error(store))
}

/// All answers of a write: what happened in part is unknown.
pub(super) fn all_written(
    store: &'static str,
    found: Vec<Result<Value, Fault>>,
) -> Outcome<Vec<Value>> {
    let (mut values, mut fault) = (Vec::with_capacity(found.len()), None::<Fault>);
    for found in found {
        match found {
            Ok(value) => values.push(value),
            Err(found) if found.maybe || fault.is_none() => fault = Some(found),
            Err(_) => {}
        }
    }
    match fault {
        None => Outcome::Done(values),
        Some(fault) if fault.maybe || !values.is_empty() => {
            Outcome::Unknown(fault.into_error(store))
        }
        Some(fault) => Outcome::Failed(fault.into_error(store)),
    }
}

/// An answer that none of the scripts gives.
pub(super) fn odd(store: &'static str, value: &Value) -> StoreError {
    let text: String = format!("an odd answer: {value:?}").chars().take(TEXT_MAX).collect();
    StoreError::new(Kind::Corrupt, store, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_happened_in_part_is_unknown() {
        let done = || Ok(Value::Okay);
        let refused = || Err(Fault::refused(Kind::Unavailable, "down"));
        let unknown = || Err(Fault::unknown(Kind::Timeout, "late"));
        assert!(all_written("s", vec![done(), done()]).is_done());
        assert!(matches!(all_written("s", vec![refused(), refused()]), Outcome::Failed(_)));
        assert!(matches!(all_written("s", vec![refused(), done()]), Outcome::Unknown(_)));
        let Outcome::Unknown(error) = all_written("s", vec![refused(), unknown(), refused()])
        else {
            panic!("one of them may have happened")
        };
        assert_eq!(error.kind, Kind::Timeout);
    }
}
