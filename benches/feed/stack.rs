//! What a part drives: the real `chirp up` over a world that is stored.

use std::sync::Arc;

use tempfile::TempDir;

use crate::{
    containers::Servers,
    load,
    read::warm,
    server::Server,
    world::{Plan, World},
};

/// Users over files.
const USERS_EMBEDDED: usize = 12_000;
/// Users over servers: loading takes a minute, which Cassandra needs for 300,000 rows on a core.
const USERS_CONTAINERS: usize = 3_000;

/// What fills the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backends {
    Embedded,
    Containers,
}

impl Backends {
    /// As it is written.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Containers => "containers",
        }
    }

    pub(crate) fn parse(word: &str) -> Option<Self> {
        [Self::Embedded, Self::Containers].into_iter().find(|known| known.as_str() == word)
    }
}

/// A stack whose caches are warm.
pub(crate) struct Stack {
    // First, so that it ends before its folder goes.
    pub(crate) chirp: Server,
    pub(crate) world: Arc<World>,
    /// A page of the usual length.
    pub(crate) page: Vec<u8>,
    pub(crate) side: Side,
    pub(crate) folder: TempDir,
}

/// What there is beside it to compare with.
pub(crate) enum Side {
    /// The same stores once more. A store opens only in a folder that has all of them.
    Twin(TempDir),
    /// The servers behind it.
    Servers(Box<Servers>),
}

impl Stack {
    /// Starts it.
    pub(crate) async fn start(backends: Backends) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (chirp, world, side) = match backends {
            Backends::Embedded => {
                let plan = Plan::new(USERS_EMBEDDED);
                let key = load::into_folder(&plan, folder.path()).await;
                let twin = copy(&folder);
                (Server::chirp(folder.path(), backends).await, plan.stored(&key), Side::Twin(twin))
            }
            Backends::Containers => {
                let mut chirp = Server::chirp(folder.path(), backends).await;
                let servers = Servers::of(folder.path());
                chirp.beside = servers.all().to_vec();
                let plan = Plan::new(USERS_CONTAINERS);
                let key = load::into_servers(&plan, &servers).await;
                (chirp, plan.stored(&key), Side::Servers(Box::new(servers)))
            }
        };
        let page = warm(&chirp, &world).await;
        Self { chirp, world, page, side, folder }
    }
}

/// The files of a folder that nobody uses, in another.
fn copy(folder: &TempDir) -> TempDir {
    let twin = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            std::fs::copy(file.path(), twin.path().join(file.file_name())).unwrap();
        }
    }
    twin
}
