//! Puts back who followed whom, so that the next run finds the graph of the seed. Tweets stay.

use futures_util::future::try_join_all;
use http::Method;

use super::{
    api::{Api, shares},
    connection::Target,
    ledger::{Ledger, Sees},
};

/// Puts every pair back that the run has changed; gives how many.
///
/// # Errors
/// The first call that was not answered.
pub async fn restore(ledger: &Ledger, target: &Target) -> Result<usize, String> {
    let pairs = ledger.pairs();
    let count = pairs.len();
    let work = shares(pairs).into_iter().map(|share| async move {
        let mut api = Api::new(ledger, target.clone());
        for ((low, high), pair) in share {
            if pair.blocked != Sees::No || pair.by_block {
                for (user, other) in [(low, high), (high, low)] {
                    let path = format!("/blocks/{}", handle(ledger, other));
                    api.call(user, Method::DELETE, &path, None).await?;
                }
            }
            for (user, other, side) in [(low, high, pair.sides[0]), (high, low, pair.sides[1])] {
                let follows = ledger.population.follows(user, other);
                if follows && side.sees != Sees::Yes {
                    let body = format!("{{\"handle\":\"{}\"}}", handle(ledger, other));
                    api.call(user, Method::POST, "/follow", Some(body)).await?;
                } else if !follows && side.sees != Sees::No {
                    let path = format!("/follow/{}", handle(ledger, other));
                    api.call(user, Method::DELETE, &path, None).await?;
                }
            }
        }
        Ok::<_, String>(())
    });
    try_join_all(work).await?;
    Ok(count)
}

fn handle(ledger: &Ledger, user: u32) -> &str {
    ledger.population.users[user as usize].handle.as_str()
}
