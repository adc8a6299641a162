//! Why a stack does not start, or not stop.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::containers::Trouble;
use crate::wire::routes::Role;

/// Why a stack does not start, or not stop. One sentence each; the command line adds the hint.
#[derive(Debug, thiserror::Error)]
pub enum StackError {
    /// Somebody else listens there.
    #[error("port {} of {} is in use", .0.port(), .0.ip())]
    PortInUse(SocketAddr),
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file of the data folder is not for this user.
    #[error("`{}` may not be read by this user", _0.display())]
    Denied(PathBuf),
    /// The data folder, or a file in it, cannot be made or written.
    #[error("`{}` cannot be written: {reason}", path.display())]
    Unwritable {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// There is no room for it.
    #[error("`{}` cannot be written: {reason}", path.display())]
    Full {
        /// The folder or file.
        path: PathBuf,
        /// What the system or the store says.
        reason: String,
    },
    /// There is no data folder.
    #[error("there is no data folder `{}`", .0.display())]
    Absent(PathBuf),
    /// A file of the data folder cannot be read as what it is.
    #[error("`{}` is damaged: {reason}", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file of the data folder is not the one that the folder had.
    #[error("`{}` is not what this data folder had there: {reason}", path.display())]
    Lost {
        /// The file.
        path: PathBuf,
        /// What was found instead.
        reason: String,
    },
    /// A file of the data folder was written by a newer version.
    #[error("`{}` has data of version {found}, this program knows version {known}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The version that this build reads and writes.
        known: i64,
    },
    /// A server that keeps data cannot be reached, or lets nobody in.
    #[error("{0}")]
    Store(String),
    /// The schema of a store is not the one that this program needs, and cannot be made so.
    #[error("{0}")]
    Schema(String),
    /// The service token that is configured cannot be used.
    #[error("the service token {0}")]
    Token(String),
    /// The data folder was used with other backends.
    #[error("the data folder `{}` has its data in {found} backends, not in {wanted} ones", path.display())]
    OtherKind {
        /// The folder.
        path: PathBuf,
        /// What it was used with.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A seed goes only where nothing is.
    #[error("the data set is not empty, and only an empty one is seeded")]
    NotEmpty,
    /// The data set was filled with something else.
    #[error("the data set was filled by `seed {found}`, and `seed {wanted}` would be another one")]
    OtherSeed {
        /// What it was filled with.
        found: String,
        /// What was asked for.
        wanted: String,
    },
    /// A seed was not finished.
    #[error("the data set holds only a part of `seed {0}`")]
    HalfSeeded(String),
    /// The data set has another fan-out strategy.
    #[error("the data set was made with the strategy `{found}`, not `{wanted}`")]
    OtherStrategy {
        /// What it has.
        found: &'static str,
        /// What is configured.
        wanted: &'static str,
    },
    /// Containers stand in the way.
    #[error(transparent)]
    Containers(#[from] Trouble),
    /// Another process holds the data folder, or this role of it.
    #[error("the data folder `{}` is in use by {holder}", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// Some role did not become ready in time.
    #[error("not ready after {limit_ms} ms: {} cannot answer yet", name(roles))]
    NotReady {
        /// The time that was allowed, in milliseconds.
        limit_ms: u64,
        /// Which roles.
        roles: Vec<Role>,
    },
    /// A process of `chirp up --processes` has ended at its start.
    #[error("{why} (process `{name}`)")]
    Process {
        /// Which one.
        name: String,
        /// Its exit code; `None` if a signal ended it.
        code: Option<i32>,
        /// What it said.
        why: String,
        /// Its hint.
        hint: Option<String>,
    },
    /// It was told to stop while it was starting.
    #[error("told to stop before it was ready")]
    Stopped,
    /// Something that has no remedy of its own.
    #[error("cannot {what}")]
    Other {
        /// What was attempted.
        what: &'static str,
        /// What came back.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StackError {
    /// An error without a remedy of its own.
    pub fn other(
        what: &'static str,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Other { what, source: source.into() }
    }

    /// What the system refused for `path`, a folder or a file.
    pub(crate) fn unwritable(path: &Path, error: &io::Error) -> Self {
        let (path, reason) = (path.to_owned(), plain(error));
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { path, reason }
            }
            _ => Self::Unwritable { path, reason },
        }
    }
}

/// What the system says, without its number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn name(roles: &[Role]) -> String {
    roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(", ")
}
