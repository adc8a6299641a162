-- Ids are the 64 bits of an unsigned number; times are milliseconds since the Unix epoch, told by
-- the application, never by this server's clock.
create table users (
    id bigint primary key,
    handle text not null unique,
    name text not null,
    created_at_ms bigint not null
);
create table credentials (
    user_id bigint primary key,
    password text not null
);
create table sessions (
    id bigint primary key,
    user_id bigint not null,
    expires_at_ms bigint not null,
    revoked_at_ms bigint
);
create index sessions_revoked on sessions (revoked_at_ms, id) where revoked_at_ms is not null;
create index sessions_expire on sessions (expires_at_ms);
-- Every token a session ever had; the one without a successor is good.
create table refresh_tokens (
    hash bytea primary key,
    session_id bigint not null,
    successor bytea
);
create index refresh_tokens_session on refresh_tokens (session_id);
