//! Whether a server answers its protocol: an open port alone is only the engine's.

use std::time::Duration;

use super::Ready;
use crate::{
    adapters::{cassandra, endpoint::Endpoint, postgres, redis as shared},
    config::Config,
    rt::tokio_rt::TokioRuntime,
    stack::client,
};

/// How long one question may take, also to a server that is still starting.
const ASK_MAX: Duration = Duration::from_secs(5);

/// What is asked of `server`, in words for people.
#[must_use]
pub(super) fn question(server: &str) -> &'static str {
    match server {
        "postgres" => "SELECT 1",
        "redis" => "PING",
        "cassandra" => "a query",
        _ => "its health",
    }
}

/// Whether `server` answers on `port`, as this program's containers are set up.
pub async fn answers(server: &'static str, port: u16) -> bool {
    let (rt, config) = (TokioRuntime::handle(), Ready { server, port }.leads(Config::default()));
    let asked = async {
        match server {
            "postgres" => postgres::server::answers(&Endpoint::configured(&rt, &config.postgres))
                .await
                .is_ok(),
            "redis" => {
                let endpoint = Endpoint::configured(&rt, &config.redis);
                shared::Redis::new(rt, endpoint).ping().await.is_ok()
            }
            "cassandra" => {
                cassandra::answers(&rt, &Endpoint::configured(&rt, &config.cassandra)).await.is_ok()
            }
            _ => ministack(port).await,
        }
    };
    tokio::time::timeout(ASK_MAX, asked).await.unwrap_or(false)
}

async fn ministack(port: u16) -> bool {
    let at = ([127, 0, 0, 1], port).into();
    client::get(at, "/_ministack/health").await.is_ok_and(|answer| answer.status == 200)
}
