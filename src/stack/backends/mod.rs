//! What fills the ports of a process: files of its data folder ([`embedded`]), or servers
//! ([`external`]).

mod embedded;
mod external;

use super::{DataDir, StackError, roles::Backends, waits::Patience};
use crate::{
    adapters::{embedded::Db, postgres::Pg},
    config::Config,
    rt::Rt,
    wire::routes::Role,
};

/// How long connections to databases get to close; what is in work there has ended before.
const CLOSE_MAX: std::time::Duration = std::time::Duration::from_secs(1);

/// Open stores, as ports.
pub(super) struct Opened {
    pub(super) backends: Backends,
    held: Held,
}

/// What is closed at the end. Connections to the other servers end with their last user.
enum Held {
    Files(Vec<Db>),
    Databases(Vec<Pg>),
}

impl Opened {
    /// Opens what `roles` own, and the bus if any of them uses it. Servers that are not there yet are
    /// waited for with `patience`.
    pub(super) async fn open(
        dir: &DataDir,
        rt: &Rt,
        config: &Config,
        roles: &[Role],
        patience: &Patience,
    ) -> Result<Self, StackError> {
        if config.backends.external() {
            let (backends, databases) = external::open(rt, config, roles, patience).await?;
            return Ok(Self { backends, held: Held::Databases(databases) });
        }
        let (backends, files) = embedded::open(dir, rt, config, roles).await?;
        Ok(Self { backends, held: Held::Files(files) })
    }

    /// Goes on with what `result` holds, or closes everything.
    pub(super) async fn or_close<T>(
        self,
        rt: &Rt,
        result: Result<T, StackError>,
    ) -> Result<(Self, T), StackError> {
        match result {
            Ok(value) => Ok((self, value)),
            Err(error) => {
                self.close(rt).await;
                Err(error)
            }
        }
    }

    /// Ends what waits and closes everything.
    pub(super) async fn close(self, rt: &Rt) {
        let Self { backends, held } = self;
        drop(backends);
        match held {
            Held::Files(files) => {
                rt.blocking(move || files.iter().for_each(Db::close)).await;
            }
            Held::Databases(databases) => {
                let closing = futures_util::future::join_all(databases.iter().map(Pg::close));
                drop(rt.timeout(CLOSE_MAX, closing).await);
            }
        }
    }
}
