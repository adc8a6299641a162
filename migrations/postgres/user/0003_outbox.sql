-- The same table as in the tweet database.
create table outbox (
    seq bigint generated always as identity primary key,
    event bytea not null,
    at_ms bigint not null,
    sent_at_ms bigint,
    lease_until_ms bigint not null default 0
);
create index outbox_unsent on outbox (seq) where sent_at_ms is null;
create index outbox_sent on outbox (sent_at_ms) where sent_at_ms is not null;
-- For replay, which walks a part of the time in batches.
create index outbox_at on outbox (at_ms, seq);
