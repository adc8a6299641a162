//! HTTP in and out.
//!
//! A profile stays visible to users whom its owner blocks, with `blocked_by` set: hiding the account
//! would only be a riddle, as a second account shows it. What a block hides are tweets.

use std::sync::Arc;

use axum::{Router, extract::State, response::Response};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

use super::{
    accounts::{Accounts, user},
    graph::{Graph, Settled},
    keys::Keys,
};
use crate::{
    domain::{Change, Handle},
    ports::{Account, Revoked, UserStore},
    services::kit::{
        Call, Caller, Code, Fault, Json, Kit, Path, Query,
        answers::{empty, json},
        limits,
    },
    wire::{
        api::{Follow, LogIn, Pending, Profile, SignUp, Viewer},
        internal::{REVOCATIONS, Revocations, USER_BY_HANDLE},
    },
};

/// What handlers share.
pub(super) struct Users {
    pub(super) store: Arc<dyn UserStore>,
    pub(super) accounts: Accounts,
    pub(super) graph: Graph,
    pub(super) kit: Kit,
}

type Shared = State<Arc<Users>>;
type Answer = Result<Response, Fault>;

pub(super) fn public(kit: &Kit, state: &Arc<Users>, keys: &Arc<Keys>) -> Router {
    let keys = Arc::clone(keys);
    kit.public(Arc::clone(state))
        .on("POST", "/users", sign_up)
        .on("POST", "/sessions", log_in)
        .on("DELETE", "/sessions", log_out)
        .on("GET", "/.well-known/jwks.json", async move || jwks(&keys).await)
        .on("GET", "/me", me)
        .on("GET", "/users/{handle}", profile)
        .on("POST", "/follow", follow)
        .on("DELETE", "/follow/{handle}", unfollow)
        .on("PUT", "/blocks/{handle}", block)
        .on("DELETE", "/blocks/{handle}", unblock)
        .finish()
}

pub(super) fn internal(kit: &Kit, state: &Arc<Users>) -> Router {
    kit.internal(Arc::clone(state))
        .on("GET", USER_BY_HANDLE, user_by_handle)
        .on("GET", REVOCATIONS, revocations)
        .finish()
}

impl Users {
    /// Log-ins and sign-ups cost a hash and are what a guesser repeats: a stricter limit.
    async fn limit_logins(&self, call: &Call) -> Result<(), Fault> {
        let common = &self.kit.common;
        let calls = common.config.http.address_logins_per_minute;
        limits::allow(common, "logins", &call.address_key(), calls).await
    }

    async fn find(&self, handle: &str) -> Result<Account, Fault> {
        let missing = || Fault::from(Code::NotFound).detail("there is no such user");
        let handle = Handle::parse(handle).map_err(|_| missing())?;
        self.store.by_handle(&handle).await?.ok_or_else(missing)
    }

    async fn change(
        &self,
        call: &Call,
        caller: &Caller,
        handle: &str,
        change: Change,
    ) -> Result<Settled, Fault> {
        let target = self.find(handle).await?;
        self.graph.change(caller.user, target.id, change, call.trace.clone()).await
    }

    async fn show(&self, account: Account, viewer: Option<Viewer>) -> Answer {
        let counts = self.graph.counts(account.id).await?;
        let profile = Profile {
            user: user(account),
            followers: counts.followers,
            following: counts.following,
            viewer,
        };
        Ok(json(StatusCode::OK, &profile))
    }
}

async fn sign_up(State(users): Shared, call: Call, Json(body): Json<SignUp>) -> Answer {
    users.limit_logins(&call).await?;
    Ok(json(StatusCode::CREATED, &users.accounts.sign_up(body).await?))
}

async fn log_in(State(users): Shared, call: Call, Json(body): Json<LogIn>) -> Answer {
    // A refresh costs no hash and cannot be guessed: bad log-ins of others must not end sessions.
    if body.refresh_token.is_none() {
        users.limit_logins(&call).await?;
    }
    Ok(json(StatusCode::CREATED, &users.accounts.log_in(body).await?))
}

async fn log_out(State(users): Shared, caller: Caller) -> Answer {
    users.accounts.log_out(caller.session).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

async fn jwks(keys: &Keys) -> Answer {
    let mut response = json(StatusCode::OK, &keys.published().await.ok_or(Code::Unavailable)?);
    let cache = HeaderValue::from_static("public, max-age=60");
    response.headers_mut().insert(header::CACHE_CONTROL, cache);
    Ok(response)
}

async fn me(State(users): Shared, caller: Caller) -> Answer {
    let account = users.accounts.account(caller.user).await?;
    users.show(account, None).await
}

async fn profile(State(users): Shared, caller: Caller, Path(handle): Path<String>) -> Answer {
    let account = users.find(&handle).await?;
    let viewer = if account.id == caller.user {
        None
    } else {
        Some(users.graph.between(caller.user, account.id).await?)
    };
    users.show(account, viewer).await
}

async fn follow(
    State(users): Shared,
    call: Call,
    caller: Caller,
    Json(body): Json<Follow>,
) -> Answer {
    Handle::parse(&body.handle).map_err(|error| Fault::field("handle", error.to_string()))?;
    let settled = users.change(&call, &caller, &body.handle, Change::Follow).await?;
    let status = if settled.fresh { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json(status, &settled.viewer))
}

async fn unfollow(
    State(users): Shared,
    call: Call,
    caller: Caller,
    Path(handle): Path<String>,
) -> Answer {
    Ok(settled(users.change(&call, &caller, &handle, Change::Unfollow).await?))
}

async fn block(
    State(users): Shared,
    call: Call,
    caller: Caller,
    Path(handle): Path<String>,
) -> Answer {
    Ok(settled(users.change(&call, &caller, &handle, Change::Block).await?))
}

async fn unblock(
    State(users): Shared,
    call: Call,
    caller: Caller,
    Path(handle): Path<String>,
) -> Answer {
    Ok(settled(users.change(&call, &caller, &handle, Change::Unblock).await?))
}

/// 204, or 202 while something may still be shown.
fn settled(settled: Settled) -> Response {
    if settled.pending {
        json(StatusCode::ACCEPTED, &Pending { pending: true })
    } else {
        empty(StatusCode::NO_CONTENT)
    }
}

async fn user_by_handle(State(users): Shared, Path(handle): Path<String>) -> Answer {
    Ok(json(StatusCode::OK, &user(users.find(&handle).await?)))
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Since {
    since: u64,
}

async fn revocations(State(users): Shared, Query(query): Query<Since>) -> Answer {
    // Before the read, so that nothing falls between this answer and the next.
    let now_ms = users.kit.common.rt.wall_ms();
    let Revoked { sessions, rest_since_ms } = users.store.revoked_since(query.since).await?;
    let until_ms = rest_since_ms.unwrap_or(now_ms);
    Ok(json(StatusCode::OK, &Revocations { sessions, until_ms, more: rest_since_ms.is_some() }))
}
