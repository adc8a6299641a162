//! What every [`RelationCache`] does while it loses nothing.

use std::sync::Arc;

use super::{
    Check, Outage, behaviours,
    kit::{Must, concurrently, is_error, not_done, same, that, users},
};
use crate::{
    domain::{Relations, Token, UserId},
    ports::{Outcome, RelationCache},
    rt::{BoxFuture, Rt},
};

/// A cache that holds nothing.
#[derive(Clone)]
pub struct Context {
    /// The cache.
    pub relations: Arc<dyn RelationCache>,
    /// The runtime it was made with.
    pub rt: Rt,
    /// Takes the cache down.
    pub outage: Option<Outage>,
}

behaviours![
    there_is_nothing_at_first,
    a_fill_is_read_whole,
    an_unfinished_fill_shows_nothing,
    a_later_fill_overrules_an_earlier,
    a_fill_ends_once,
    what_was_invalidated_is_gone,
    a_fill_that_was_invalidated_is_void,
    a_fill_that_was_invalidated_stays_void_when_another_begins,
    invalidating_what_is_not_there_is_done,
    a_token_of_another_user_does_not_stand,
    many_are_invalidated_in_one_call,
    of_many_fills_at_once_one_counts,
    an_outage_is_an_error,
];

fn relations(version: u64) -> Arc<Relations> {
    Arc::new(Relations {
        visible: users(&[1, 5, version]).into(),
        pulled: users(&[5]).into(),
        hidden: users(&[8, 9]).into(),
    })
}

impl Context {
    async fn begin(&self, user: u64) -> Result<Token, String> {
        self.relations.begin_fill(UserId(user)).await.must("begin_fill")
    }

    async fn finish(&self, user: u64, token: Token, version: u64) -> Result<bool, String> {
        let value = relations(version);
        self.relations.finish_fill(UserId(user), token, value).await.must("finish_fill")
    }

    async fn fill(&self, user: u64, version: u64) -> Check {
        let token = self.begin(user).await?;
        that(self.finish(user, token, version).await?, "an undisturbed fill counts")
    }

    async fn refuses(&self, user: u64, token: Token, version: u64) -> Check {
        that(!self.finish(user, token, version).await?, "a void token does not stand")
    }

    async fn invalidate(&self, of: &[u64]) -> Check {
        self.relations.invalidate(&users(of)).await.must("invalidate")
    }

    async fn shows(&self, user: u64, version: Option<u64>) -> Check {
        let found = self.relations.get(UserId(user)).await.must("get")?;
        same(&format!("relations of {user}"), &found, &version.map(relations))
    }
}

async fn there_is_nothing_at_first(context: Context) -> Check {
    context.shows(1, None).await
}

async fn a_fill_is_read_whole(context: Context) -> Check {
    context.fill(1, 10).await?;
    context.fill(2, 20).await?;
    context.shows(1, Some(10)).await?;
    context.shows(2, Some(20)).await?;
    context.shows(3, None).await?;
    context.fill(1, 11).await?;
    context.shows(1, Some(11)).await
}

async fn an_unfinished_fill_shows_nothing(context: Context) -> Check {
    context.begin(1).await?;
    context.shows(1, None).await
}

async fn a_later_fill_overrules_an_earlier(context: Context) -> Check {
    let earlier = context.begin(1).await?;
    let later = context.begin(1).await?;
    that(earlier != later, "each fill has a token of its own")?;
    context.refuses(1, earlier, 10).await?;
    context.shows(1, None).await?;
    that(context.finish(1, later, 11).await?, "the later fill counts")?;
    context.refuses(1, earlier, 10).await?;
    context.shows(1, Some(11)).await
}

async fn a_fill_ends_once(context: Context) -> Check {
    let token = context.begin(1).await?;
    that(context.finish(1, token, 10).await?, "the fill counts")?;
    // Its answer was lost; what it brings may be old by now.
    context.refuses(1, token, 9).await?;
    context.shows(1, Some(10)).await
}

async fn what_was_invalidated_is_gone(context: Context) -> Check {
    context.fill(1, 10).await?;
    context.invalidate(&[1]).await?;
    context.shows(1, None).await?;
    context.fill(1, 11).await?;
    context.shows(1, Some(11)).await
}

async fn a_fill_that_was_invalidated_is_void(context: Context) -> Check {
    let token = context.begin(1).await?;
    context.invalidate(&[1]).await?;
    context.refuses(1, token, 10).await?;
    context.shows(1, None).await?;
    // Also over something that was there.
    context.fill(1, 11).await?;
    let token = context.begin(1).await?;
    context.invalidate(&[1]).await?;
    context.refuses(1, token, 10).await?;
    context.shows(1, None).await
}

async fn a_fill_that_was_invalidated_stays_void_when_another_begins(context: Context) -> Check {
    let before = context.begin(1).await?;
    context.invalidate(&[1]).await?;
    let after = context.begin(1).await?;
    that(before != after, "a token does not come again")?;
    context.refuses(1, before, 10).await?;
    that(context.finish(1, after, 11).await?, "the new fill counts")?;
    context.shows(1, Some(11)).await
}

async fn invalidating_what_is_not_there_is_done(context: Context) -> Check {
    context.invalidate(&[1]).await?;
    context.invalidate(&[]).await?;
    context.invalidate(&[1, 1, 2]).await?;
    context.shows(1, None).await
}

async fn a_token_of_another_user_does_not_stand(context: Context) -> Check {
    let one = context.begin(1).await?;
    let two = context.begin(2).await?;
    context.refuses(1, two, 20).await?;
    that(context.finish(1, one, 10).await?, "the user's own fill counts")?;
    that(context.finish(2, two, 20).await?, "the other's own fill counts")?;
    context.refuses(3, one, 30).await?;
    context.shows(3, None).await
}

async fn many_are_invalidated_in_one_call(context: Context) -> Check {
    let all: Vec<u64> = (1..=40).collect();
    for &user in &all {
        context.fill(user, 100).await?;
    }
    context.invalidate(&all[..39]).await?;
    for &user in &all[..39] {
        context.shows(user, None).await?;
    }
    context.shows(40, Some(100)).await
}

async fn of_many_fills_at_once_one_counts(context: Context) -> Check {
    let fill = |version| -> BoxFuture<'static, Result<(u64, bool), String>> {
        let context = context.clone();
        Box::pin(async move {
            let token = context.begin(1).await?;
            context.rt.sleep(std::time::Duration::from_millis(2)).await;
            Ok((version, context.finish(1, token, version).await?))
        })
    };
    let mut counted = Vec::new();
    for ended in concurrently(&context.rt, (10..26).map(fill)).await? {
        if let (version, true) = ended? {
            counted.push(version);
        }
    }
    // More than one only if a fill had ended before the next began.
    let found = context.relations.get(UserId(1)).await.must("get")?;
    that(!counted.is_empty(), "the last fill to begin counts")?;
    let known = counted.iter().any(|version| found == Some(relations(*version)));
    that(known, "what is there was brought by a fill that counted")
}

async fn an_outage_is_an_error(context: Context) -> Check {
    let Some(outage) = &context.outage else { return Ok(()) };
    context.fill(1, 10).await?;
    let token = context.begin(1).await?;
    outage.begin();
    let cache = &context.relations;
    is_error("get", &cache.get(UserId(1)).await)?;
    not_done("begin_fill", &cache.begin_fill(UserId(2)).await)?;
    let ended: Outcome<bool> = cache.finish_fill(UserId(1), token, relations(11)).await;
    not_done("finish_fill", &ended)?;
    not_done("invalidate", &cache.invalidate(&users(&[1])).await)?;
    not_done("invalidate of what is not there", &cache.invalidate(&users(&[3])).await)
}
