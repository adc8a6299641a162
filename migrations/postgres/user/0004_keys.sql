-- One row, which is locked by whoever replaces the keys.
create table keyring (
    id smallint primary key check (id = 1)
);
insert into keyring (id) values (1);
-- Position 0 signs.
create table signing_keys (
    position smallint primary key,
    kid text not null,
    seed bytea not null,
    created_at_ms bigint not null
);
