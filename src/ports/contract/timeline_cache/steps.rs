//! Steps that the behaviours of timelines in a cache share.

use std::sync::Arc;

use super::{
    super::{
        Check,
        kit::{Must, entry, same, that, tweets, users},
    },
    Context,
};
use crate::{
    domain::{Entry, Relations, Token, TweetId, UserId, Window, ring::Slice},
    ports::{HomeRead, HomeSlice, ListKey, Push, PushReport},
};

pub(super) const ZERO: TweetId = TweetId(0);

pub(super) const fn home(user: u64) -> ListKey {
    ListKey::Home(UserId(user))
}

pub(super) const fn author(user: u64) -> ListKey {
    ListKey::Author(UserId(user))
}

pub(super) const fn report(delivered: u64, repeated: u64, absent: u64) -> PushReport {
    PushReport { delivered, repeated, absent }
}

/// Tweets of author 5.
pub(super) fn of_five(ids: &[u64]) -> Vec<Entry> {
    ids.iter().map(|&id| entry(id, 5)).collect()
}

impl Context {
    /// The relations of `user`: author 6 is not seen, author 7 is pulled.
    pub(super) async fn relate(&self, user: u64) -> Check {
        let relations = Relations {
            visible: users(&[1, 5, 7]).into(),
            pulled: users(&[7]).into(),
            hidden: users(&[6]).into(),
        };
        let token = self.relations.begin_fill(UserId(user)).await.must("begin_fill")?;
        let value = Arc::new(relations);
        let kept = self.relations.finish_fill(UserId(user), token, value).await;
        that(kept.must("finish_fill")?, "an undisturbed fill counts")
    }

    pub(super) async fn begin(&self, key: ListKey) -> Result<Token, String> {
        let token = self.timelines.begin_fill(key).await.must("begin_fill")?;
        token.ok_or_else(|| "a list that is not ready may not be filled".to_owned())
    }

    pub(super) async fn finish(
        &self,
        key: ListKey,
        token: Token,
        entries: &[Entry],
        floor: TweetId,
    ) -> Result<bool, String> {
        self.timelines.finish_fill(key, token, entries, floor).await.must("finish_fill")
    }

    pub(super) async fn fill(&self, key: ListKey, entries: &[Entry], floor: TweetId) -> Check {
        let token = self.begin(key).await?;
        that(self.finish(key, token, entries, floor).await?, "an undisturbed fill counts")
    }

    /// User 1 with relations and a timeline of author 5.
    pub(super) async fn reader(&self, ids: &[u64], floor: u64) -> Check {
        self.relate(1).await?;
        self.fill(home(1), &of_five(ids), TweetId(floor)).await
    }

    pub(super) async fn page(&self, window: Window, limit: usize) -> Result<HomeSlice, String> {
        match self.timelines.page(UserId(1), window, limit).await.must("page")? {
            HomeRead::Hit(slice) => Ok(slice),
            other => Err(format!("a cached timeline is read as {other:?}")),
        }
    }

    pub(super) async fn reads(&self, expected: &HomeRead) -> Check {
        let found = self.timelines.page(UserId(1), Window::Latest, 10).await.must("page")?;
        same("page", &found, expected)
    }

    /// The home timeline of user 1 has these tweets.
    pub(super) async fn shows(&self, expected: &[u64]) -> Check {
        let found = self.page(Window::Latest, 1_000).await?.slice.entries;
        let ids: Vec<TweetId> = found.iter().map(|entry| entry.tweet).collect();
        same("page", &ids, &tweets(expected))
    }

    pub(super) async fn list(&self, of: u64) -> Result<Option<Slice>, String> {
        let found = self.timelines.author_lists(&users(&[of]), Window::Latest, 1_000).await;
        let mut found = found.must("author_lists")?;
        same("lists", &found.len(), &1)?;
        Ok(found.remove(0))
    }

    pub(super) async fn lists(&self, of: u64, expected: Option<&[u64]>) -> Check {
        let ids = |slice: Slice| slice.entries.iter().map(|entry| entry.tweet).collect();
        let found: Option<Vec<TweetId>> = self.list(of).await?.map(ids);
        same(&format!("list of {of}"), &found, &expected.map(tweets))
    }

    pub(super) async fn push(&self, entry: Entry, homes: &[u64]) -> Result<PushReport, String> {
        let homes = users(homes);
        let pushes = [Push { entry, homes: &homes, author_list: false }];
        self.timelines.push(&pushes).await.must("push")
    }

    /// Backfills user 1 with tweets of author 5, complete above `above`.
    pub(super) async fn backfill(
        &self,
        ids: &[u64],
        above: u64,
    ) -> Result<Option<PushReport>, String> {
        let entries = of_five(ids);
        self.timelines.push_many(home(1), &entries, TweetId(above)).await.must("push_many")
    }

    pub(super) async fn invalidate(&self, keys: &[ListKey]) -> Check {
        self.timelines.invalidate(keys).await.must("invalidate")
    }
}
