//! The servers of a data set: databases of the user and the tweet role, the copy in Cassandra.

use std::sync::Arc;

use async_trait::async_trait;

use super::super::{StackError, backends::external};
use crate::{
    adapters::{
        cassandra::CassandraTimelineStore,
        endpoint::Endpoint,
        postgres::{Pg, UserStores, seeds::PgSeeds},
    },
    config::Config,
    domain::{Body, UserId, fanout::Class},
    ports::{KeyStore, Outcome, PasswordHash, Read, SeedMark, SeedStore, SeedUser, TimelineStore},
    rt::Rt,
};

/// Fills servers.
pub(super) struct Servers {
    truth: PgSeeds,
    copy: CassandraTimelineStore,
}

impl Servers {
    /// Connects. Also gives what signs tokens.
    pub(super) async fn open(
        rt: &Rt,
        config: &Config,
    ) -> Result<(Self, Arc<dyn KeyStore>), StackError> {
        let postgres = Endpoint::configured(rt, &config.postgres);
        let truth = external::opened(PgSeeds::open(rt, &postgres).await)?;
        let cassandra = Endpoint::configured(rt, &config.cassandra);
        let copy = external::opened(CassandraTimelineStore::open(rt, &cassandra).await)?;
        let users = Pg::new(rt, &postgres, &config.postgres.user_database);
        Ok((Self { truth, copy }, UserStores::over(users).keys))
    }
}

#[async_trait]
impl SeedStore for Servers {
    async fn mark(&self) -> Read<Option<SeedMark>> {
        self.truth.mark().await
    }

    async fn is_empty(&self) -> Read<bool> {
        self.truth.is_empty().await
    }

    async fn begin(&self, what: &str) -> Outcome<()> {
        self.truth.begin(what).await
    }

    async fn users(&self, batch: Vec<SeedUser>) -> Outcome<()> {
        let Some(last) = batch.last().map(|user| user.account.id) else {
            return Outcome::Done(());
        };
        match self.truth.has_user(last).await {
            Ok(true) => return Outcome::Done(()),
            Ok(false) => {}
            Err(error) => return Outcome::Failed(error),
        }
        let copied = self.copy.seed_users(&batch).await;
        if !copied.is_done() {
            return copied;
        }
        self.truth.users(&batch).await
    }

    async fn tweets(&self, batch: Vec<Body>) -> Outcome<()> {
        let Some(last) = batch.last() else { return Outcome::Done(()) };
        match self.truth.has_tweet(last).await {
            Ok(true) => return Outcome::Done(()),
            Ok(false) => {}
            Err(error) => return Outcome::Failed(error),
        }
        let copied = self.copy.seed_bodies(&batch).await;
        if !copied.is_done() {
            return copied;
        }
        self.truth.tweets(&batch).await
    }

    async fn pulled(&self, authors: &[UserId]) -> Outcome<()> {
        for &author in authors {
            let ended = self.copy.set_class(author, Class::Pull).await;
            if !ended.is_done() {
                return ended;
            }
        }
        Outcome::Done(())
    }

    async fn finish(&self, password: &PasswordHash) -> Outcome<()> {
        self.truth.finish(password).await
    }
}
