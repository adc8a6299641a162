-- Ids are the 64 bits of an unsigned number; times are milliseconds since the Unix epoch, told by
-- the application, never by this server's clock.

-- Locked by whoever writes a tweet, so that an author's ids increase in the order of commits.
create table authors (
    id bigint primary key,
    last_tweet_id bigint not null
);
-- Never deleted: a deletion is a mark.
create table tweets (
    id bigint primary key,
    author_id bigint not null,
    handle text not null,
    name text not null,
    text text not null,
    created_at_ms bigint not null,
    deleted_at_ms bigint
);
create index tweets_author on tweets (author_id, id) where deleted_at_ms is null;
create table idempotency (
    author_id bigint not null,
    key text not null,
    body_hash bytea not null,
    tweet_id bigint not null,
    created_at_ms bigint not null,
    primary key (author_id, key)
);
create index idempotency_created on idempotency (created_at_ms);
