-- What a stream of a log has taken over so far, and what whoever goes on has to know of it (sealed: it may hold secrets).

alter table log_streams add column lines bigint not null default 0;
alter table log_streams add column bytes bigint not null default 0;
alter table log_streams add column memory bytea;
