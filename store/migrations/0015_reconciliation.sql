-- What the last look at records and workflows found, and what all of them have mended.

create table reconciliation (
    only_one boolean primary key default true check (only_one),
    rounds bigint not null default 0,
    at timestamptz,
    last jsonb not null default '{}'
);
insert into reconciliation default values;

create table mends (
    what text primary key,
    count bigint not null
);
