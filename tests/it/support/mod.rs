//! What scenarios are written with.
//!
//! ```ignore
//! let app = TestApp::start_with(Shape::OneProcess, super::SETTINGS).await;
//! let ada = app.signs_up("ada").await;
//! let bob = app.signs_up("bob").await;
//! bob.follows("ada").await;
//! let tweet = ada.tweets("hello").await;
//! bob.eventually_sees(tweet.id).await;
//! ```

#[path = "../../backends/support/mod.rs"]
mod backends;

mod actor;
mod app;
mod beneath;
pub mod browser;
mod http;
pub mod obstacles;
mod sse;
pub mod tokens;

pub use actor::{Actor, PASSWORD};
pub use app::{Shape, TestApp, chirp, run_in};
pub use http::{Answer, Client};
pub use sse::Stream;

use std::{future::Future, time::Duration};

use serde_json::Value;

/// A picture of one pixel, as browsers show it.
pub const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// The longest that anything eventual may take in a test. Over servers a message whose receiver was
/// killed comes again after half a minute.
pub fn patience() -> Duration {
    let over_servers = backends::servers::Ports::shared().is_some();
    Duration::from_secs(if over_servers { 90 } else { 20 })
}

/// Repeats `look` until it gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    look: impl FnMut() -> F,
) -> T {
    within(patience(), what, look).await
}

/// The same with another limit.
pub async fn within<T, F: Future<Output = Option<T>>>(
    limit: Duration,
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every outbox is sent, and every lane is empty.
pub async fn nothing_waits(app: &TestApp) {
    let zero = |row: &Value, keys: &[&str]| keys.iter().all(|key| row[key] == 0);
    let idle = |process: &Value| {
        let rows = |what: &str| process["queues"][what].as_array().cloned().unwrap_or_default();
        process["ready"] == true
            && rows("lanes").iter().all(|lane| zero(lane, &["depth", "in_flight", "parked"]))
            && rows("outboxes").iter().all(|outbox| zero(outbox, &["unsent"]))
    };
    eventually("nothing waits", || async {
        let status = app.runs(&["status", "--json"]);
        let status: Value = serde_json::from_slice(&status.stdout).ok()?;
        status["processes"].as_array()?.iter().all(idle).then_some(())
    })
    .await;
}

/// Every scenario of the block as two tests: over one process, and over one process per role. A
/// block may begin with variables of the environment for all of its scenarios. Both run over servers
/// instead of files if there are any: `cargo test --test backends -- around cargo test --test it
/// one_process`.
macro_rules! in_both_shapes {
    ($(with [$($env:expr),* $(,)?])? $(async fn $name:ident($app:ident: TestApp) $body:block)*) => {
        const SETTINGS: &[(&str, &str)] = &[$($($env),*)?];
        $(async fn $name($app: TestApp) $body)*

        mod one_process {
            use crate::support::{Shape, TestApp};
            $(
                #[tokio::test]
                async fn $name() {
                    let app = TestApp::start_with(Shape::OneProcess, super::SETTINGS).await;
                    super::$name(app).await;
                }
            )*
        }

        mod one_process_per_role {
            use crate::support::{Shape, TestApp};
            $(
                #[tokio::test]
                async fn $name() {
                    let app = TestApp::start_with(Shape::PerRole, super::SETTINGS).await;
                    super::$name(app).await;
                }
            )*
        }
    };
}
pub(crate) use in_both_shapes;
