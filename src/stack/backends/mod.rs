//! What fills the ports of a process: files of its data folder ([`embedded`]), or servers
//! ([`external`]).

mod embedded;
pub(super) mod external;

use std::sync::Arc;

use super::{DataDir, StackError, roles::Backends, waits::Patience};
use crate::{
    adapters::{circuit::Intake, embedded::Db, postgres::Pg},
    config::Config,
    rt::Rt,
    telemetry::Metrics,
    wire::routes::Role,
};

/// How long connections to servers get to close; what is in work there has ended before, but for a
/// poll of the bus, which may just have begun.
const CLOSE_MAX: std::time::Duration = std::time::Duration::from_secs(5);

/// Open stores, as ports.
pub(super) struct Opened {
    pub(super) backends: Backends,
    held: Held,
}

/// What is closed at the end. Connections to the other servers end with their last user.
enum Held {
    Files(Vec<Db>),
    Servers(Servers),
}

/// What servers hold of this process.
struct Servers {
    databases: Vec<Pg>,
    intake: Option<Arc<Intake>>,
}

impl Opened {
    /// Opens what `roles` own, and the bus if any of them uses it. Servers that are not there yet are
    /// waited for with `patience`.
    pub(super) async fn open(
        dir: &DataDir,
        rt: &Rt,
        config: &Config,
        metrics: &Metrics,
        roles: &[Role],
        patience: &Patience,
    ) -> Result<Self, StackError> {
        if config.backends.external() {
            // Boxed, as the futures of five drivers would lie in that of every start.
            let opening = Box::pin(external::open(rt, config, metrics, roles, patience));
            let (backends, servers) = opening.await?;
            return Ok(Self { backends, held: Held::Servers(servers) });
        }
        let (backends, files) = embedded::open(dir, rt, config, roles, patience).await?;
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

    /// From now on nothing is received from the bus, so that whoever works on can have it. Over files
    /// nobody else is there.
    pub(super) fn stop_receiving(&self) {
        if let Held::Servers(Servers { intake: Some(intake), .. }) = &self.held {
            intake.stop();
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
            Held::Servers(Servers { databases, intake }) => {
                let closing = async {
                    if let Some(intake) = intake {
                        intake.stop();
                        intake.idle().await;
                    }
                    futures_util::future::join_all(databases.iter().map(Pg::close)).await;
                };
                // What does not end by then ends with the process.
                let _ = rt.timeout(CLOSE_MAX, closing).await;
            }
        }
    }
}
