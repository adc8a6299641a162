//! Whom a reader may see: from the cache, or from the store with a fill on the way.

use std::sync::Arc;

use super::Core;
use crate::{
    domain::{
        Relations, UserId,
        fanout::{Class, Strategy},
        relations::Relation,
    },
    ports::{Outcome, Read, TimelineStore, timeline_store::IDS_MAX},
    rt::points,
};

impl Core {
    /// The reader's relations; what was acknowledged before the call is in them.
    pub(super) async fn relations(&self, reader: UserId) -> Read<Arc<Relations>> {
        match self.deps.relations.get(reader).await {
            Ok(Some(relations)) => Ok(relations),
            Ok(None) => self.fill_relations(reader).await,
            Err(error) => {
                self.common.metrics.store_error(&error);
                self.read_relations(reader).await
            }
        }
    }

    /// Reads the relations and offers them to the cache. They are right for this call even if the
    /// cache does not take them.
    pub(super) async fn fill_relations(&self, reader: UserId) -> Read<Arc<Relations>> {
        let token = self.deps.relations.begin_fill(reader).await;
        let relations = self.read_relations(reader).await?;
        self.common.rt.point(points::FILL).await;
        if let Outcome::Done(token) = token {
            // Not taken means invalidated meanwhile: the next reader fills again.
            let _ = self.deps.relations.finish_fill(reader, token, Arc::clone(&relations)).await;
        }
        Ok(relations)
    }

    /// Reads the relations from the store.
    pub(super) async fn read_relations(&self, reader: UserId) -> Read<Arc<Relations>> {
        let rows = rows_that_count(&*self.deps.store, reader, IDS_MAX).await?;
        let mut shown: Vec<UserId> =
            rows.iter().filter(|row| row.shown()).map(|row| row.other).collect();
        shown.sort_unstable();
        let mut classes = Vec::with_capacity(shown.len());
        // After the edges: whoever is seen to follow now is told of every later class as well.
        let asked = if self.strategy() == Strategy::Hybrid { &shown[..] } else { &[] };
        for ids in asked.chunks(IDS_MAX) {
            classes.extend(self.deps.store.authors(ids).await?.into_iter().map(|row| row.class));
        }
        let class = |author| match shown.binary_search(&author) {
            Ok(at) => classes.get(at).copied().unwrap_or_default(),
            Err(_) => Class::Push,
        };
        Ok(Arc::new(Relations::new(reader, &rows, class)))
    }
}

/// Rows that show or hide somebody, read in pages of `page`. A celebrity has a row for every follower,
/// and needs few of them.
async fn rows_that_count(
    store: &dyn TimelineStore,
    reader: UserId,
    page: usize,
) -> Read<Vec<Relation>> {
    let mut counted = Vec::new();
    let mut after = None;
    loop {
        let rows = store.relations(reader, after, page).await?;
        let full = rows.len() >= page;
        after = rows.last().map(|row| row.other);
        counted.extend(rows.into_iter().filter(|row| row.shown() || row.blocked));
        if !full {
            return Ok(counted);
        }
    }
}
