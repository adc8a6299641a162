//! What went wrong, and whether what was asked for may have happened all the same.

use std::error::Error;

use aws_sdk_sqs::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::{
    adapters::aws::causes,
    ports::{Kind, StoreError},
};

/// What errors call the store.
pub(super) const STORE: &str = "bus";
/// Characters of a server's or a library's text that an error keeps.
const TEXT_MAX: usize = 160;

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing: the same would come of it, or the server is too slow for another attempt.
    GiveUp,
    /// The same again after a pause.
    Again,
    /// The queue or topic is not there: to be made or looked for, then the same again.
    Renew,
}

/// A call, or an entry of it, that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: Kind,
    pub(super) text: String,
    /// It may have happened, or may still.
    pub(super) maybe: bool,
    pub(super) next: Next,
}

impl Fault {
    /// It did not happen and will not.
    pub(super) fn refused(kind: Kind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into(), maybe: false, next: Next::GiveUp }
    }

    fn unknown(kind: Kind, text: impl Into<String>) -> Self {
        Self { maybe: true, ..Self::refused(kind, text) }
    }

    fn next(self, next: Next) -> Self {
        Self { next, ..self }
    }

    /// An entry that the answer does not name.
    pub(super) fn unanswered() -> Self {
        Self::unknown(Kind::Unavailable, "the answer does not tell of it").next(Next::Again)
    }

    /// What the server says of one entry.
    pub(super) fn of_entry(senders: bool, code: &str, message: Option<&str>) -> Self {
        of_code(code, message, !senders)
    }

    /// Why `call` failed.
    pub(super) fn of<E>(call: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let fault = match error {
            SdkError::ConstructionFailure(_) => Self::refused(Kind::Unavailable, causes(error)),
            // A server that is too slow does not become faster by being asked twice.
            SdkError::TimeoutError(_) => Self::unknown(Kind::Timeout, "no answer in time"),
            SdkError::DispatchFailure(failure) => {
                let kind = if failure.is_timeout() { Kind::Timeout } else { Kind::Unavailable };
                let next = if failure.is_timeout() { Next::GiveUp } else { Next::Again };
                let sent = !never_connected(error);
                Self { kind, text: causes(error), maybe: sent, next }
            }
            SdkError::ServiceError(refusal) => {
                let status = refusal.raw().status().as_u16();
                let (code, message) = (refusal.err().code(), refusal.err().message());
                of_code(code.unwrap_or("an error without a code"), message, status >= 500)
            }
            _ => Self::unknown(Kind::Unavailable, causes(error)).next(Next::Again),
        };
        Self { text: format!("{call}: {}", fault.text), ..fault }
    }

    pub(super) fn into_error(self) -> StoreError {
        StoreError::new(self.kind, STORE, self.text)
    }
}

/// `servers`: the fault is the server's, which may have come after the deed.
fn of_code(code: &str, message: Option<&str>, servers: bool) -> Fault {
    let text = match message {
        Some(message) => format!("{code}: {}", line(message)),
        None => code.to_owned(),
    };
    let refused = |kind| Fault::refused(kind, text.clone());
    // An emulator may say `AWS.SimpleQueueService.` before the code.
    match code.rsplit('.').next().unwrap_or(code) {
        "QueueDoesNotExist"
        | "NonExistentQueue"
        | "NotFound"
        | "NotFoundException"
        | "QueueDeletedRecently" => refused(Kind::Unavailable).next(Next::Renew),
        "OverLimit" => refused(Kind::Full),
        code if throttled(code) => refused(Kind::Unavailable).next(Next::Again),
        _ if servers => Fault::unknown(Kind::Unavailable, text).next(Next::Again),
        _ => refused(Kind::Unavailable),
    }
}

fn throttled(code: &str) -> bool {
    ["Throttl", "TooManyRequests", "RequestLimitExceeded", "SlowDown"]
        .iter()
        .any(|word| code.contains(word))
}

/// The first line: with a wrong signature the lines that follow repeat the request, with its tokens.
fn line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(TEXT_MAX).collect()
}

/// Whether the call ended before there was a connection that it could have been sent on.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(client) = error.downcast_ref::<hyper_util::client::legacy::Error>() {
            return client.is_connect();
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_sender_did_wrong_has_failed_and_what_the_server_did_is_unknown() {
        let of = |senders, code| Fault::of_entry(senders, code, Some("why\nthe request: token"));
        let wrong = of(true, "InvalidMessageContents");
        assert_eq!((wrong.maybe, wrong.next), (false, Next::GiveUp));
        assert_eq!(wrong.text, "InvalidMessageContents: why");
        let broken = of(false, "InternalError");
        assert_eq!((broken.maybe, broken.next), (true, Next::Again));
        for code in ["ThrottlingException", "KmsThrottled", "RequestThrottled"] {
            assert_eq!((of(false, code).maybe, of(false, code).next), (false, Next::Again));
        }
        let gone = of(true, "AWS.SimpleQueueService.NonExistentQueue");
        assert_eq!((gone.maybe, gone.next), (false, Next::Renew));
    }
}
