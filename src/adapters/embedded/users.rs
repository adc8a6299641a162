//! `user.db`: accounts, sessions and their refresh tokens. The follow graph beside it is in
//! [`super::graph`].

use async_trait::async_trait;
use rusqlite::{Connection, Row, params};

use super::{
    graph, outbox, seeds,
    sqlite::{Db, Fault, Schema, Statements, bound, from_key, key},
};
use crate::{
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

const TABLES: &str = "
create table users (
    id integer primary key,
    handle text not null unique,
    name text not null,
    created_at_ms integer not null
);
create table credentials (
    user_id integer primary key,
    password text not null
);
create table sessions (
    id integer primary key,
    user_id integer not null,
    expires_at_ms integer not null,
    revoked_at_ms integer
);
create index sessions_revoked on sessions (revoked_at_ms) where revoked_at_ms is not null;
create index sessions_expire on sessions (expires_at_ms);
-- Every token a session ever had; the one without a successor is good.
create table refresh_tokens (
    hash blob not null primary key,
    session_id integer not null,
    successor blob
) without rowid;
create index refresh_tokens_session on refresh_tokens (session_id);
";

/// What `user.db` must be.
#[must_use]
pub const fn schema() -> Schema {
    /// The tables of version 1. What is written is never changed: a later version is another step.
    const STEPS: &[&[&str]] = &[&[TABLES, graph::TABLES, outbox::TABLES], &[seeds::TABLES]];
    Schema { name: "user", application_id: 0x6368_5275, steps: STEPS }
}

/// Accounts and sessions in `user.db`.
#[derive(Clone, Debug)]
pub struct SqlUsers(Db);

impl SqlUsers {
    /// The store over `user.db`.
    #[must_use]
    pub const fn new(db: Db) -> Self {
        Self(db)
    }
}

fn account(row: &Row<'_>) -> Result<Account, Fault> {
    let handle = Handle::parse(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
    let name = DisplayName::parse(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?);
    Ok(Account {
        id: UserId(from_key(row.get(0)?)),
        handle: handle.map_err(|_| Fault::Corrupt("users.handle is not a handle"))?,
        name: name.map_err(|_| Fault::Corrupt("users.name is not a name"))?,
        created_at_ms: from_key(row.get(3)?),
    })
}

/// Adds an account unless its id or handle is taken.
pub(super) fn add_user(conn: &Connection, user: &NewUser) -> Result<CreateUser, Fault> {
    let Account { id, handle, name, created_at_ms } = &user.account;
    let sql = "select handle from users where id = ?1";
    let held = conn.one(sql, [key(id.0)], |row| Ok(row.get::<_, String>(0)?))?;
    match held {
        Some(same) if same == handle.as_str() => return Ok(CreateUser::Created),
        Some(_) => return Ok(CreateUser::IdTaken),
        None => {}
    }
    let sql = "
        insert into users (id, handle, name, created_at_ms) values (?1, ?2, ?3, ?4)
        on conflict (handle) do nothing";
    let row = params![key(id.0), handle.as_str(), name.as_str(), bound(*created_at_ms)];
    if conn.run(sql, row)? == 0 {
        return Ok(CreateUser::HandleTaken);
    }
    let sql = "insert into credentials (user_id, password) values (?1, ?2)";
    conn.run(sql, params![key(id.0), user.password.0])?;
    Ok(CreateUser::Created)
}

fn add_session(conn: &Connection, session: &SessionRow) -> Result<(), Fault> {
    let sql = "
        insert into sessions (id, user_id, expires_at_ms) values (?1, ?2, ?3)
        on conflict (id) do nothing";
    let id = key(session.id.0);
    if conn.run(sql, params![id, key(session.user.0), bound(session.expires_at_ms)])? == 1 {
        let sql = "insert into refresh_tokens (hash, session_id) values (?1, ?2)";
        conn.run(sql, params![session.refresh, id])?;
        return Ok(());
    }
    let sql = "
        select 1 from sessions join refresh_tokens on session_id = id
        where id = ?1 and user_id = ?2 and hash = ?3";
    let again = conn.one(sql, params![id, key(session.user.0), session.refresh], |_| Ok(()))?;
    again.ok_or(Fault::Refused("another session has this id"))
}

struct Found {
    session: SessionRow,
    revoked: bool,
    successor: Option<RefreshHash>,
}

fn session_of(conn: &Connection, token: &RefreshHash) -> Result<Option<Found>, Fault> {
    let sql = "
        select id, user_id, expires_at_ms, revoked_at_ms is not null, successor
        from refresh_tokens join sessions on id = session_id where hash = ?1";
    conn.one(sql, [token], |row| {
        let session = SessionRow {
            id: SessionId(from_key(row.get(0)?)),
            user: UserId(from_key(row.get(1)?)),
            refresh: *token,
            expires_at_ms: from_key(row.get(2)?),
        };
        Ok(Found { session, revoked: row.get(3)?, successor: row.get(4)? })
    })
}

fn end_session(conn: &Connection, session: SessionId, now_ms: u64) -> Result<bool, Fault> {
    let sql = "
        update sessions set revoked_at_ms = ?2
        where id = ?1 and revoked_at_ms is null and expires_at_ms > ?2";
    Ok(conn.run(sql, params![key(session.0), bound(now_ms)])? == 1)
}

/// Removes a few sessions that ended long ago, with every token they had.
fn sweep_sessions(conn: &Connection, now_ms: u64) -> Result<(), Fault> {
    let sql = "select id from sessions where expires_at_ms <= ?1 order by expires_at_ms limit ?2";
    let ended = [bound(now_ms.saturating_sub(SESSION_KEPT_MS)), SESSIONS_SWEPT];
    for id in conn.all(sql, ended, |row| Ok(row.get::<_, i64>(0)?))? {
        conn.run("delete from refresh_tokens where session_id = ?1", [id])?;
        conn.run("delete from sessions where id = ?1", [id])?;
    }
    Ok(())
}

fn rotate(
    conn: &Connection,
    old: &RefreshHash,
    new: RefreshHash,
    now_ms: u64,
) -> Result<Refresh, Fault> {
    let Some(found) = session_of(conn, old)? else { return Ok(Refresh::Unknown) };
    if found.revoked || found.session.expires_at_ms <= now_ms {
        return Ok(Refresh::Unknown);
    }
    let session = SessionRow { refresh: new, ..found.session };
    match found.successor {
        None => {
            let sql = "insert into refresh_tokens (hash, session_id) values (?1, ?2)";
            conn.run(sql, params![new, key(session.id.0)])?;
            conn.run("update refresh_tokens set successor = ?2 where hash = ?1", [old, &new])?;
            Ok(Refresh::Rotated(session))
        }
        // The same call again, after an answer that was lost: nobody but its caller knows `new`.
        Some(successor)
            if successor == new
                && session_of(conn, &new)?.is_some_and(|found| found.successor.is_none()) =>
        {
            Ok(Refresh::Rotated(session))
        }
        Some(_) => {
            end_session(conn, session.id, now_ms)?;
            Ok(Refresh::Reused(session.id))
        }
    }
}

const ACCOUNT: &str = "select id, handle, name, created_at_ms from users";

#[async_trait]
impl UserStore for SqlUsers {
    async fn create_user(&self, user: &NewUser) -> Outcome<CreateUser> {
        let user = user.clone();
        self.0.write(STORE, move |conn| add_user(conn, &user)).await
    }

    async fn credentials(&self, handle: &Handle) -> Read<Option<(Account, PasswordHash)>> {
        let handle = handle.clone();
        let find = move |conn: &Connection| {
            let sql = "
                select id, handle, name, created_at_ms, password
                from users join credentials on user_id = id where handle = ?1";
            conn.one(sql, [handle.as_str()], |row| Ok((account(row)?, PasswordHash(row.get(4)?))))
        };
        self.0.read(STORE, find).await
    }

    async fn by_handle(&self, handle: &Handle) -> Read<Option<Account>> {
        let handle = handle.clone();
        let find = move |conn: &Connection| {
            conn.one(&format!("{ACCOUNT} where handle = ?1"), [handle.as_str()], account)
        };
        self.0.read(STORE, find).await
    }

    async fn by_id(&self, id: UserId) -> Read<Option<Account>> {
        let find = move |conn: &Connection| {
            conn.one(&format!("{ACCOUNT} where id = ?1"), [key(id.0)], account)
        };
        self.0.read(STORE, find).await
    }

    async fn create_session(&self, session: &SessionRow) -> Outcome<()> {
        let session = session.clone();
        self.0.write(STORE, move |conn| add_session(conn, &session)).await
    }

    async fn refresh(&self, old: RefreshHash, new: RefreshHash, now_ms: u64) -> Outcome<Refresh> {
        let refresh = move |conn: &Connection| {
            sweep_sessions(conn, now_ms)?;
            rotate(conn, &old, new, now_ms)
        };
        self.0.write(STORE, refresh).await
    }

    async fn revoke(&self, session: SessionId, now_ms: u64) -> Outcome<bool> {
        self.0.write(STORE, move |conn| end_session(conn, session, now_ms)).await
    }

    async fn revoked_since(&self, since_ms: u64) -> Read<Revoked> {
        let find = move |conn: &Connection| {
            let sql = "
                select revoked_at_ms, id from sessions where revoked_at_ms >= ?1
                order by revoked_at_ms, id limit ?2";
            conn.all(sql, [bound(since_ms), bound(REVOKED_MAX as u64 + 1)], |row| {
                Ok((from_key(row.get(0)?), SessionId(from_key(row.get(1)?))))
            })
        };
        self.0.read(STORE, find).await.map(Revoked::cut)
    }
}
