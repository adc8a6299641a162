//! What scenarios are written with.
//!
//! ```ignore
//! let app = TestApp::start(Shape::OneProcess).await;
//! let ada = app.signs_up("ada").await;
//! let bob = app.signs_up("bob").await;
//! bob.follows("ada").await;
//! let tweet = ada.tweets("hello").await;
//! bob.eventually_sees(tweet.id).await;
//! ```

mod actor;
mod app;
mod http;
mod sse;

pub use actor::Actor;
pub use app::{Shape, TestApp, chirp, run_in};
pub use http::{Answer, Client};

use std::{future::Future, time::Duration};

/// The longest that anything eventual may take in a test.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Repeats `look` until it gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(tokio::time::Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every scenario of the block as two tests: over one process, and over one process per role.
macro_rules! in_both_shapes {
    ($(async fn $name:ident($app:ident: TestApp) $body:block)*) => {
        $(async fn $name($app: TestApp) $body)*

        mod one_process {
            use crate::support::{Shape, TestApp};
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(TestApp::start(Shape::OneProcess).await).await;
                }
            )*
        }

        mod one_process_per_role {
            use crate::support::{Shape, TestApp};
            $(
                #[tokio::test]
                async fn $name() {
                    super::$name(TestApp::start(Shape::PerRole).await).await;
                }
            )*
        }
    };
}
pub(crate) use in_both_shapes;
