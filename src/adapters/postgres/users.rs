//! Accounts, sessions and their refresh tokens. The follow graph beside them is in [`super::graph`].

use async_trait::async_trait;
use futures_util::FutureExt as _;
use sqlx_core::{query::query, query_as::query_as, query_scalar::query_scalar};
use sqlx_postgres::{PgConnection, Postgres};

use super::{Pg, fault::Fault, pool::End};
use crate::{
    adapters::sql::{bound, from_key, key},
    domain::{DisplayName, Handle, SessionId, UserId},
    ports::{
        Account, CreateUser, NewUser, Outcome, PasswordHash, Read, Refresh, RefreshHash, Revoked,
        SessionRow, UserStore, users::REVOKED_MAX,
    },
};

const STORE: &str = "users";
/// A session that has expired is kept this much longer: no access token of it lives as long.
const SESSION_KEPT_MS: u64 = 2 * 3600 * 1000;
/// Expired sessions removed with every refresh: more than one, so that a backlog shrinks.
const SESSIONS_SWEPT: i64 = 2;

/// Accounts and sessions in the user database.
#[derive(Clone, Debug)]
pub struct PgUsers(Pg);

impl PgUsers {
    /// The store over the user database.
    #[must_use]
    pub const fn new(db: Pg) -> Self {
        Self(db)
    }
}

type AccountRow = (i64, String, String, i64);

fn account((id, handle, name, created): AccountRow) -> Result<Account, Fault> {
    Ok(Account {
        id: UserId(from_key(id)),
        handle: Handle::parse(&handle).map_err(|_| Fault::Corrupt("users.handle is no handle"))?,
        name: DisplayName::parse(&name).map_err(|_| Fault::Corrupt("users.name is no name"))?,
        created_at_ms: from_key(created),
    })
}

async fn create_user(conn: &mut PgConnection, user: &NewUser) -> Result<CreateUser, Fault> {
    let Account { id, handle, name, created_at_ms } = &user.account;
    // Waits for a sign-up in flight with the same id or handle.
    let sql = "
        with account as (
            insert into users (id, handle, name, created_at_ms) values ($1, $2, $3, $4)
            on conflict do nothing
            returning id
        ), password as (
            insert into credentials (user_id, password) select id, $5 from account
        )
        select exists (select from account)";
    let new = query_scalar::<Postgres, bool>(sql).bind(key(id.0)).bind(handle.as_str());
    let new = new.bind(name.as_str()).bind(bound(*created_at_ms)).bind(&user.password.0);
    if new.fetch_one(&mut *conn).await? {
        return Ok(CreateUser::Created);
    }
    let sql = "select handle from users where id = $1";
    let held = query_scalar::<Postgres, String>(sql).bind(key(id.0)).fetch_optional(conn).await?;
    Ok(match held {
        Some(same) if same == handle.as_str() => CreateUser::Created,
        Some(_) => CreateUser::IdTaken,
        None => CreateUser::HandleTaken,
    })
}

async fn credentials(
    conn: &mut PgConnection,
    handle: &Handle,
) -> Result<Option<(Account, PasswordHash)>, Fault> {
    let sql = "
        select id, handle, name, created_at_ms, password
        from users join credentials on user_id = id where handle = $1";
    let found = query_as::<Postgres, (i64, String, String, i64, String)>(sql);
    let found = found.bind(handle.as_str()).fetch_optional(conn).await?;
    found
        .map(|(id, handle, name, created, password)| {
            Ok((account((id, handle, name, created))?, PasswordHash(password)))
        })
        .transpose()
}

async fn by_handle(conn: &mut PgConnection, handle: &Handle) -> Result<Option<Account>, Fault> {
    let sql = "select id, handle, name, created_at_ms from users where handle = $1";
    let found = query_as::<Postgres, AccountRow>(sql).bind(handle.as_str());
    found.fetch_optional(conn).await?.map(account).transpose()
}

async fn by_id(conn: &mut PgConnection, id: UserId) -> Result<Option<Account>, Fault> {
    let sql = "select id, handle, name, created_at_ms from users where id = $1";
    let found = query_as::<Postgres, AccountRow>(sql).bind(key(id.0));
    found.fetch_optional(conn).await?.map(account).transpose()
}

async fn create_session(conn: &mut PgConnection, session: &SessionRow) -> Result<(), Fault> {
    let sql = "
        with session as (
            insert into sessions (id, user_id, expires_at_ms) values ($1, $2, $3)
            on conflict (id) do nothing
            returning id
        ), token as (
            insert into refresh_tokens (hash, session_id) select $4, id from session
        )
        select exists (select from session)";
    let (id, user) = (key(session.id.0), key(session.user.0));
    let new = query_scalar::<Postgres, bool>(sql).bind(id).bind(user);
    let new = new.bind(bound(session.expires_at_ms)).bind(&session.refresh[..]);
    if new.fetch_one(&mut *conn).await? {
        return Ok(());
    }
    let sql = "
        select exists (
            select from sessions join refresh_tokens on session_id = id
            where id = $1 and user_id = $2 and hash = $3
        )";
    let again = query_scalar::<Postgres, bool>(sql).bind(id).bind(user).bind(&session.refresh[..]);
    if again.fetch_one(conn).await? {
        Ok(())
    } else {
        Err(Fault::Refused("another session has this id"))
    }
}

/// The old token, its replacement, and now.
struct Rotation {
    old: RefreshHash,
    new: RefreshHash,
    now_ms: u64,
}

/// A session that is in force, with its row locked, by a token that it has or had.
async fn locked(
    conn: &mut PgConnection,
    asked: &Rotation,
) -> Result<Option<(SessionId, UserId, u64)>, Fault> {
    let sql = "
        select id, user_id, expires_at_ms, revoked_at_ms is not null from sessions
        where id = (select session_id from refresh_tokens where hash = $1)
        for update";
    let found = query_as::<Postgres, (i64, i64, i64, bool)>(sql).bind(&asked.old[..]);
    let found = found.fetch_optional(conn).await?;
    Ok(found.and_then(|(id, user, expires, revoked)| {
        let in_force = !revoked && from_key(expires) > asked.now_ms;
        in_force.then(|| (SessionId(from_key(id)), UserId(from_key(user)), from_key(expires)))
    }))
}

async fn refresh(conn: &mut PgConnection, asked: &Rotation) -> Result<End<Refresh>, Fault> {
    let Some((id, user, expires_at_ms)) = locked(conn, asked).await? else {
        return Ok(End::Undo(Refresh::Unknown));
    };
    let session = SessionRow { id, user, refresh: asked.new, expires_at_ms };
    let (old, new) = (&asked.old[..], &asked.new[..]);
    // Read under the session's lock, by a statement that began after it was had.
    let sql = "
        select successor, exists (
            select from refresh_tokens where hash = $2 and session_id = $3 and successor is null
        ) from refresh_tokens where hash = $1";
    let token = query_as::<Postgres, (Option<Vec<u8>>, bool)>(sql).bind(old).bind(new);
    let (successor, is_good) = token.bind(key(id.0)).fetch_one(&mut *conn).await?;
    match successor {
        None => {
            let sql = "
                with token as (insert into refresh_tokens (hash, session_id) values ($2, $3))
                update refresh_tokens set successor = $2 where hash = $1";
            query::<Postgres>(sql).bind(old).bind(new).bind(key(id.0)).execute(&mut *conn).await?;
            sweep(conn, asked.now_ms).await?;
            Ok(End::Commit(Refresh::Rotated(session)))
        }
        // The same call again, after an answer that was lost: nobody but its caller knows `new`.
        Some(successor) if successor == new && is_good => Ok(End::Undo(Refresh::Rotated(session))),
        Some(_) => {
            revoke(conn, id, asked.now_ms).await?;
            Ok(End::Commit(Refresh::Reused(id)))
        }
    }
}

/// Removes a few sessions that ended long ago, with every token they had. Waits for nobody.
async fn sweep(conn: &mut PgConnection, now_ms: u64) -> Result<(), Fault> {
    let sql = "
        with ended as (
            select id from sessions where expires_at_ms <= $1
            order by expires_at_ms limit $2
            for update skip locked
        ), tokens as (
            delete from refresh_tokens where session_id in (select id from ended)
        )
        delete from sessions where id in (select id from ended)";
    let before = bound(now_ms.saturating_sub(SESSION_KEPT_MS));
    query::<Postgres>(sql).bind(before).bind(SESSIONS_SWEPT).execute(conn).await?;
    Ok(())
}

async fn revoke(conn: &mut PgConnection, session: SessionId, now_ms: u64) -> Result<bool, Fault> {
    let sql = "
        update sessions set revoked_at_ms = $2
        where id = $1 and revoked_at_ms is null and expires_at_ms > $2";
    let ended = query::<Postgres>(sql).bind(key(session.0)).bind(bound(now_ms));
    Ok(ended.execute(conn).await?.rows_affected() == 1)
}

async fn revoked_since(conn: &mut PgConnection, since_ms: u64) -> Result<Revoked, Fault> {
    let sql = "
        select revoked_at_ms, id from sessions where revoked_at_ms >= $1
        order by revoked_at_ms, id limit $2";
    let rows = query_as::<Postgres, (i64, i64)>(sql).bind(bound(since_ms));
    let rows = rows.bind(bound(REVOKED_MAX as u64 + 1)).fetch_all(conn).await?;
    let row = |(at, id): (i64, i64)| (from_key(at), SessionId(from_key(id)));
    Ok(Revoked::cut(rows.into_iter().map(row).collect()))
}

#[async_trait]
impl UserStore for PgUsers {
    async fn create_user(&self, user: &NewUser) -> Outcome<CreateUser> {
        self.0.write_at_once(STORE, user, |conn, user| create_user(conn, user).boxed()).await
    }

    async fn credentials(&self, handle: &Handle) -> Read<Option<(Account, PasswordHash)>> {
        self.0.read(STORE, handle, |conn, handle| credentials(conn, handle).boxed()).await
    }

    async fn by_handle(&self, handle: &Handle) -> Read<Option<Account>> {
        self.0.read(STORE, handle, |conn, handle| by_handle(conn, handle).boxed()).await
    }

    async fn by_id(&self, id: UserId) -> Read<Option<Account>> {
        self.0.read(STORE, &id, |conn, id| by_id(conn, *id).boxed()).await
    }

    async fn create_session(&self, session: &SessionRow) -> Outcome<()> {
        self.0
            .write_at_once(STORE, session, |conn, session| create_session(conn, session).boxed())
            .await
    }

    async fn refresh(&self, old: RefreshHash, new: RefreshHash, now_ms: u64) -> Outcome<Refresh> {
        let asked = Rotation { old, new, now_ms };
        self.0.write(STORE, &asked, |conn, asked| refresh(conn, asked).boxed()).await
    }

    async fn revoke(&self, session: SessionId, now_ms: u64) -> Outcome<bool> {
        let asked = (session, now_ms);
        self.0
            .write_at_once(STORE, &asked, |conn, asked| revoke(conn, asked.0, asked.1).boxed())
            .await
    }

    async fn revoked_since(&self, since_ms: u64) -> Read<Revoked> {
        self.0.read(STORE, &since_ms, |conn, since| revoked_since(conn, *since).boxed()).await
    }
}
