-- The audit as chains of hashes: one for each project, one for what belongs to no project (`project_id` is null). The head
-- of a chain is on the project's row, or in `audit_head`. `details` is `json` and not `jsonb`: the text that was hashed is
-- kept as it was. What is hashed is said in domain/audit.py.

alter table projects add column audit_sequence bigint not null default 0;
alter table projects add column audit_hash bytea not null default '';

create table audit_head (
    only_one boolean primary key default true check (only_one),
    audit_sequence bigint not null default 0,
    audit_hash bytea not null default ''
);
insert into audit_head default values;

alter table audit rename to audit_before;
drop index audit_of_project;

create table audit (
    id uuid constraint audit_by_id primary key,
    project_id text,
    sequence bigint not null,
    at timestamptz not null,
    actor text not null,
    token_id text,
    request_id text,
    action text not null,
    target text not null,
    reason text,
    before text,
    after text,
    details json not null,
    previous_hash bytea not null,
    hash bytea not null,
    constraint audit_in_line unique nulls not distinct (project_id, sequence)
);

-- Entries of before are carried over and chained, in the order in which they were written.
do $$
declare
    entry record;
    head record;
    identity uuid;
    told text;
    digest bytea;
begin
    for entry in
        select *, (extract(epoch from at) * 1000000)::bigint as micros from audit_before
        order by project_id collate "C", id
    loop
        if entry.project_id is null then
            select audit_sequence + 1 as sequence, audit_hash as previous into head from audit_head;
        else
            select audit_sequence + 1 as sequence, audit_hash as previous into head
            from projects where id = entry.project_id;
        end if;
        continue when head.sequence is null;
        identity := gen_random_uuid();
        select '{' || coalesce(string_agg(to_json(key)::text || ':' || case jsonb_typeof(value)
            when 'array' then '[' || coalesce((
                select string_agg(one::text, ',' order by place)
                from jsonb_array_elements(value) with ordinality as part (one, place)
            ), '') || ']'
            else value::text
        end, ',' order by key collate "C"), '') || '}' into told from jsonb_each(entry.details);
        digest := sha256(convert_to(
            '{"action":' || to_json(entry.action)::text
            || ',"actor":' || to_json(entry.actor)::text
            || ',"after":null,"atMicros":' || entry.micros
            || ',"before":null,"details":' || told
            || ',"id":' || to_json(identity)::text
            || ',"previousHash":' || to_json(encode(head.previous, 'hex'))::text
            || ',"projectId":' || coalesce(to_json(entry.project_id)::text, 'null')
            || ',"reason":null,"requestId":null,"sequence":' || head.sequence
            || ',"target":' || to_json(coalesce(entry.target, ''))::text
            || ',"tokenId":null}',
            'UTF8'
        ));
        insert into audit (id, project_id, sequence, at, actor, action, target, details, previous_hash, hash)
        values (identity, entry.project_id, head.sequence, entry.at, entry.actor, entry.action,
                coalesce(entry.target, ''), told::json, head.previous, digest);
        if entry.project_id is null then
            update audit_head set audit_sequence = head.sequence, audit_hash = digest;
        else
            update projects set audit_sequence = head.sequence, audit_hash = digest where id = entry.project_id;
        end if;
    end loop;
end $$;

drop table audit_before;
create index audit_listed on audit (at desc, id desc);
create index audit_of_project on audit (project_id, at desc, id desc);

-- Written once. `always`: also in a session that plays a replica, where ordinary triggers do not fire.
create function refuse_change_of_audit() returns trigger language plpgsql as $$
begin
    raise exception 'the audit is append-only: % is refused', tg_op using errcode = 'insufficient_privilege';
end $$;
create trigger audit_is_append_only before update or delete or truncate on audit
    for each statement execute function refuse_change_of_audit();
alter table audit enable always trigger audit_is_append_only;
