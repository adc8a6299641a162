//! The fan-out strategy of a data set: chosen by its first start, and the same ever after, unless
//! `chirp migrate strategy` switches it.

use super::StackError;
use crate::{
    config::Fanout,
    domain::{TweetId, fanout::Strategy, snowflake::first_at},
    ports::{Chosen, HomeStore, StoreError},
    rt::Rt,
};

/// Why the strategy is not settled.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsettled {
    /// The store did not tell.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration asks for another one.
    #[error("the data set was made with the strategy `{found}`, not `{wanted}`")]
    Other {
        /// What the data set has.
        found: &'static str,
        /// What is configured.
        wanted: &'static str,
    },
}

impl From<Unsettled> for StackError {
    fn from(unsettled: Unsettled) -> Self {
        match unsettled {
            Unsettled::Store(error) => Self::other("read the strategy of the data set", error),
            Unsettled::Other { found, wanted } => Self::OtherStrategy { found, wanted },
        }
    }
}

/// The strategy of the data set under `homes`, which is chosen now if it never was.
pub(super) async fn settle(
    rt: &Rt,
    homes: &dyn HomeStore,
    config: &Fanout,
) -> Result<Chosen, Unsettled> {
    let mut found = homes.chosen().await?;
    if found.version == 0 {
        let strategy = config.wanted().unwrap_or_default();
        // What was written by a release without strategies is in no durable home timeline.
        let since = match strategy {
            Strategy::Push => TweetId(first_at(rt.wall_ms())),
            Strategy::Hybrid | Strategy::Pull => TweetId(0),
        };
        homes.choose(Chosen { version: 1, strategy, since }).await.certain()?;
        // Another process may have been faster.
        found = homes.chosen().await?;
    }
    match config.wanted() {
        Some(wanted) if wanted != found.strategy => {
            Err(Unsettled::Other { found: found.strategy.as_str(), wanted: wanted.as_str() })
        }
        _ => Ok(found),
    }
}
