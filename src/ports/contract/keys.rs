//! What every [`KeyStore`] does.

use std::sync::Arc;

use super::{
    Check, Outage, behaviours,
    kit::{Must, NOW_MS, concurrently, is_error, not_done, that},
};
use crate::{
    ports::{KeyStore, Outcome, StoredKey},
    rt::{BoxFuture, Rt},
};

/// A store without keys.
#[derive(Clone)]
pub struct Context {
    /// The store.
    pub keys: Arc<dyn KeyStore>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes the store down.
    pub outage: Option<Outage>,
}

behaviours![
    there_are_no_keys_at_first,
    keys_are_kept_in_order,
    a_replacement_of_what_is_in_force_counts,
    a_replacement_of_what_was_changes_nothing,
    a_replacement_that_is_repeated_changes_nothing,
    of_many_first_keys_one_is_kept,
    an_outage_is_an_error,
];

fn key(n: u8) -> StoredKey {
    StoredKey { kid: format!("key-{n}"), seed: [n; 32], created_at_ms: NOW_MS + u64::from(n) }
}

/// As [`super::kit::same`], but no seed can reach the sentence: keys print their name only.
fn same(what: &str, found: &[StoredKey], expected: &[StoredKey]) -> Check {
    super::kit::same(what, &found, &expected)
}

impl Context {
    async fn load(&self) -> Result<Vec<StoredKey>, String> {
        self.keys.load().await.must("load")
    }

    async fn replace(
        &self,
        before: &[StoredKey],
        after: &[StoredKey],
    ) -> Result<Vec<StoredKey>, String> {
        self.keys.replace(before, after).await.must("replace")
    }
}

async fn there_are_no_keys_at_first(context: Context) -> Check {
    same("keys", &context.load().await?, &[])
}

async fn keys_are_kept_in_order(context: Context) -> Check {
    let both = [key(2), key(1)];
    same("in force", &context.replace(&[], &both).await?, &both)?;
    same("loaded", &context.load().await?, &both)
}

async fn a_replacement_of_what_is_in_force_counts(context: Context) -> Check {
    let steps = [vec![], vec![key(1)], vec![key(2), key(1)], vec![key(3), key(2)]];
    for step in steps.windows(2) {
        same("in force", &context.replace(&step[0], &step[1]).await?, &step[1])?;
        same("loaded", &context.load().await?, &step[1])?;
    }
    Ok(())
}

async fn a_replacement_of_what_was_changes_nothing(context: Context) -> Check {
    context.replace(&[], &[key(1)]).await?;
    context.replace(&[key(1)], &[key(2), key(1)]).await?;
    let in_force = [key(2), key(1)];
    for before in [vec![], vec![key(1)], vec![key(1), key(2)], vec![key(9), key(1)]] {
        same("in force", &context.replace(&before, &[key(7)]).await?, &in_force)?;
        same("loaded", &context.load().await?, &in_force)?;
    }
    Ok(())
}

async fn a_replacement_that_is_repeated_changes_nothing(context: Context) -> Check {
    for _ in 0..2 {
        same("in force", &context.replace(&[], &[key(1)]).await?, &[key(1)])?;
        same("loaded", &context.load().await?, &[key(1)])?;
    }
    Ok(())
}

async fn of_many_first_keys_one_is_kept(context: Context) -> Check {
    let first = |n| -> BoxFuture<'static, Outcome<Vec<StoredKey>>> {
        let keys = context.keys.clone();
        Box::pin(async move { keys.replace(&[], &[key(n)]).await })
    };
    let answers = concurrently(&context.rt, (1..=8).map(first)).await?;
    let in_force = context.load().await?;
    that(in_force.len() == 1, "one key is kept")?;
    for answer in answers {
        same("in force", &answer.must("replace")?, &in_force)?;
    }
    Ok(())
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.replace(&[], &[key(1)]).await?;
    outage.begin();
    is_error("load", &context.keys.load().await)?;
    not_done("replace", &context.keys.replace(&[key(1)], &[key(2)]).await)
}
