-- The log in chunks of many lines instead of a row a line: docs/decisions/0008-log-chunks.md.

-- One row a log. It is locked while lines are added, so that line n is visible before line n + 1. `day` is the UTC day of
-- its first line and names the partition of its merged chunks. A log with `archived_at` is read from the archive under
-- `archive_key`; one with `dropped_at` is gone.
create table logs (
    deployment_id uuid primary key references deployments (id),
    day date not null default (now() at time zone 'utc')::date,
    lines bigint not null default 0,
    bytes bigint not null default 0,
    merged_at timestamptz,
    archived_at timestamptz,
    archive_key text,
    dropped_at timestamptz
) with (fillfactor = 70);
create index logs_of_day on logs (day);

-- What a running deployment writes: small chunks, gone at the merge. They are vacuumed eagerly, since their space is to be
-- used again by the next deployment. `levels` and `sources` are sets of bits, in the order of domain/log.py.
-- No chunk has a foreign key: a partition is added and dropped under locks that keep nobody from working.
create table log_chunks_live (
    deployment_id uuid not null,
    first_line bigint not null,
    last_line bigint not null,
    began timestamptz not null,
    ended timestamptz not null,
    levels smallint not null,
    sources smallint not null,
    steps text[] not null,
    bytes integer not null,
    codec text not null,
    data bytea not null,
    primary key (deployment_id, first_line)
) with (
    autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 500,
    toast.autovacuum_vacuum_scale_factor = 0.02, toast.autovacuum_vacuum_threshold = 500
);
alter table log_chunks_live alter column data set storage external;

-- What has ended: large chunks, written once, in a partition per day that is dropped as a whole.
create table log_chunks (
    deployment_id uuid not null,
    first_line bigint not null,
    last_line bigint not null,
    began timestamptz not null,
    ended timestamptz not null,
    levels smallint not null,
    sources smallint not null,
    steps text[] not null,
    bytes integer not null,
    codec text not null,
    data bytea not null,
    day date not null,
    primary key (deployment_id, first_line, day)
) partition by range (day);
alter table log_chunks alter column data set storage external;

-- Rows of 0.1 become chunks of codec `json`, the only one that SQL can write; the merge makes the ordinary one of them.
insert into logs (deployment_id, day, lines, bytes)
select c.deployment_id, coalesce((l.began at time zone 'utc')::date, (now() at time zone 'utc')::date),
       c.lines, coalesce(l.bytes, 0)
from log_counters c
left join (
    select deployment_id, min(timestamp) as began, sum(octet_length(message)) as bytes from log_lines group by deployment_id
) l using (deployment_id);

-- Both are begun together from now on.
insert into logs (deployment_id) select deployment_id from log_streams on conflict do nothing;

insert into log_chunks_live
select deployment_id, min(sequence), max(sequence), min(timestamp), max(timestamp),
       bit_or(1 << array_position('{debug,info,warn,error}'::text[], level) - 1),
       bit_or(1 << array_position('{build,deploy,system}'::text[], source) - 1),
       coalesce(array_agg(distinct step) filter (where step is not null), '{}'),
       sum(octet_length(message)), 'json',
       convert_to(json_agg(json_build_array(
           floor(extract(epoch from timestamp) * 1000)::bigint, level, step, source, metadata, message
       ) order by sequence)::text, 'UTF8')
from log_lines
group by deployment_id, (sequence - 1) / 1000;

drop table log_lines;
drop table log_counters;
