-- The pictures of a tweet as the text of a JSON list; null for none, as in older rows.
alter table tweets add column media text;
-- Uploads. One that is given up is used by no tweet any more; `due_at_ms` is null while there is
-- nothing to remove.
create table media (
    id text primary key,
    owner_id bigint not null,
    expires_at_ms bigint not null,
    kind text,
    width bigint,
    height bigint,
    tweet_id bigint,
    given_up boolean not null default false,
    due_at_ms bigint
);
create index media_owner on media (owner_id) where tweet_id is null;
create index media_tweet on media (tweet_id) where tweet_id is not null;
create index media_due on media (due_at_ms) where due_at_ms is not null;
