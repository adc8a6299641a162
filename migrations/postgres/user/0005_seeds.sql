-- At most one row: what the data set was filled with, as the command line says it.
create table seeds (
    id smallint primary key check (id = 1),
    what text not null,
    done boolean not null default false
);
