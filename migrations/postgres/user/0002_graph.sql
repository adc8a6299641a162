-- Never deleted: the version of a pair must only increase.
create table edges (
    low bigint not null,
    high bigint not null,
    version bigint not null default 0,
    low_follows boolean not null default false,
    low_blocks boolean not null default false,
    low_mutes boolean not null default false,
    high_follows boolean not null default false,
    high_blocks boolean not null default false,
    high_mutes boolean not null default false,
    primary key (low, high)
);
create table counts (
    user_id bigint primary key,
    followers bigint not null,
    following bigint not null
);
