//! Wrong caches of relations.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Hushed, faults};
use crate::{
    domain::{Relations, Token, UserId},
    ports::{Kind, Outcome, Read, RelationCache, StoreError, contract::relation_cache::Context},
};

faults! {
    /// Absent is read as empty.
    AbsentIsEmpty: [there_is_nothing_at_first],
    /// Hidden users are lost.
    LosesHidden: [a_fill_is_read_whole],
    /// Beginning a fill makes empty relations.
    BeginsWithEmpty: [an_unfinished_fill_shows_nothing],
    /// Any token stands.
    IgnoresTokens: [
        a_later_fill_overrules_an_earlier,
        a_fill_ends_once,
        a_fill_that_was_invalidated_is_void,
        a_fill_that_was_invalidated_stays_void_when_another_begins,
        a_token_of_another_user_does_not_stand
    ],
    /// Tokens are all the same.
    GivesOneToken: [a_fill_that_was_invalidated_stays_void_when_another_begins],
    /// Invalidating does nothing.
    ForgetsInvalidations: [what_was_invalidated_is_gone],
    /// Invalidating what is not there is an error.
    RefusesAbsent: [invalidating_what_is_not_there_is_done],
    /// Only the first of many is invalidated.
    InvalidatesTheFirst: [many_are_invalidated_in_one_call],
    /// A fill that counted is not kept.
    KeepsNothing: [of_many_fills_at_once_one_counts],
    /// An outage is not told.
    SwallowsErrors: [an_outage_is_an_error],
}

struct Wrong {
    inner: Arc<dyn RelationCache>,
    fault: Fault,
    hushed: Hushed,
    /// The last token that the cache below gave each user.
    tokens: Mutex<BTreeMap<UserId, Token>>,
}

/// The cache of `context` with `fault`.
#[must_use]
pub fn broken(context: Context, fault: Fault) -> Context {
    let (hushed, outage) = Hushed::new(fault == Fault::SwallowsErrors, context.outage);
    let (inner, tokens) = (context.relations, Mutex::default());
    let relations = Arc::new(Wrong { inner, fault, hushed, tokens });
    Context { relations, outage, ..context }
}

/// The token that all fills have.
const ONE: Token = Token(1);

#[async_trait]
impl RelationCache for Wrong {
    async fn get(&self, user: UserId) -> Read<Option<Arc<Relations>>> {
        if self.hushed.is_down() {
            return Ok(None);
        }
        let found = self.inner.get(user).await?;
        Ok(match (self.fault, found) {
            (Fault::AbsentIsEmpty, None) => Some(Arc::default()),
            (Fault::BeginsWithEmpty, None) => {
                self.tokens.lock().contains_key(&user).then(Arc::default)
            }
            (Fault::LosesHidden, Some(found)) => {
                Some(Arc::new(Relations { hidden: Box::default(), ..(*found).clone() }))
            }
            (_, found) => found,
        })
    }

    async fn begin_fill(&self, user: UserId) -> Outcome<Token> {
        if self.hushed.is_down() {
            return Outcome::Done(ONE);
        }
        let begun = self.inner.begin_fill(user).await;
        if let Outcome::Done(token) = begun {
            self.tokens.lock().insert(user, token);
        }
        if self.fault == Fault::GivesOneToken { begun.map(|_| ONE) } else { begun }
    }

    async fn finish_fill(
        &self,
        user: UserId,
        token: Token,
        relations: Arc<Relations>,
    ) -> Outcome<bool> {
        if self.hushed.is_down() || self.fault == Fault::KeepsNothing {
            return Outcome::Done(true);
        }
        let token = match self.fault {
            Fault::GivesOneToken => self.tokens.lock().get(&user).copied().unwrap_or(token),
            Fault::IgnoresTokens => match self.inner.begin_fill(user).await {
                Outcome::Done(fresh) => fresh,
                other => return other.map(|_| false),
            },
            _ => token,
        };
        self.inner.finish_fill(user, token, relations).await
    }

    async fn invalidate(&self, users: &[UserId]) -> Outcome<()> {
        match self.fault {
            _ if self.hushed.is_down() => Outcome::Done(()),
            Fault::ForgetsInvalidations => Outcome::Done(()),
            Fault::InvalidatesTheFirst => self.inner.invalidate(&users[..users.len().min(1)]).await,
            Fault::RefusesAbsent if self.tokens.lock().is_empty() => {
                let why = "there is nothing to invalidate";
                Outcome::Failed(StoreError::new(Kind::Unavailable, "relation_cache", why))
            }
            _ => self.inner.invalidate(users).await,
        }
    }
}
