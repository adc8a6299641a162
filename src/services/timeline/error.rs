//! How a call of the timeline role fails, and what its caller is told.

use crate::{
    ports::StoreError,
    services::kit::{Code, Fault},
};

/// A call that could not be answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// A store that is needed did not do its part.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another role that is needed did not answer.
    #[error("the {0} role did not answer")]
    Peer(&'static str),
    /// Every place for a rebuild is taken.
    #[error("too many timelines are being rebuilt")]
    RebuildsFull,
    /// The reader has as many streams open as one may have.
    #[error("too many streams of one user")]
    StreamsFull,
    /// There is no such user.
    #[error("there is no such user")]
    NoUser,
    /// One of the two users blocks the other.
    #[error("one of the two users blocks the other")]
    Blocked,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Store(error) => error.into(),
            Error::Peer(_) => Code::Unavailable.into(),
            Error::RebuildsFull => Code::Overloaded.into(),
            Error::StreamsFull => {
                Self::from(Code::RateLimited).detail("too many streams are open: close one first")
            }
            Error::NoUser => Self::from(Code::NotFound).detail("there is no such user"),
            Error::Blocked => Code::Blocked.into(),
        }
    }
}
