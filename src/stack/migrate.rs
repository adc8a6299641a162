//! `chirp migrate`: brings the schema of every store up to date, or says what it lacks.

use super::{DataDir, StackError, backends, offline};
use crate::{adapters::embedded, config::Config, rt::Rt, wire::routes::Role};

/// A store whose schema is behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lacking {
    /// The file, the database or the keyspace.
    pub store: String,
    /// The steps it lacks, by number and name, or by number where they have none.
    pub steps: Vec<String>,
}

/// The stores of `roles` whose schema is behind; of files, all of them. Changes nothing.
///
/// # Errors
/// [`StackError`], also if a schema is not one that this program could bring up to date.
pub async fn check(config: &Config, rt: &Rt, roles: &[Role]) -> Result<Vec<Lacking>, StackError> {
    if config.backends.external() {
        return backends::external::lacking(rt, config, roles).await;
    }
    offline::holds_stores(&DataDir::at(&config.up.data_dir))?;
    let root = config.up.data_dir.clone();
    let found = rt.blocking(move || embedded::lacking(&root)).await;
    let found = found.ok_or_else(|| StackError::other("read the stores", "a panic"))??;
    let behind = found.into_iter().filter(|(_, count)| *count > 0);
    // The last steps are missing, as they are taken in order.
    let lacking = behind.map(|(store, count)| Lacking {
        store: store.to_owned(),
        steps: vec![format!("the last {count}")],
    });
    Ok(lacking.collect())
}

/// Takes the steps that the stores of `roles` lack, and gives what they lacked. Stores that are files
/// take theirs whenever they are opened; so none may be in use.
///
/// # Errors
/// [`StackError`]; every step was taken whole or not at all, and the call may be repeated.
pub async fn take(config: &Config, rt: &Rt, roles: &[Role]) -> Result<Vec<Lacking>, StackError> {
    let lacking = check(config, rt, roles).await?;
    if config.backends.external() {
        // Also if nothing lacks: whether what is there is this program's is looked at on the way.
        backends::external::migrate(rt, config, roles).await?;
    } else if !lacking.is_empty() {
        offline::check(&DataDir::at(&config.up.data_dir)).await?;
    }
    Ok(lacking)
}
