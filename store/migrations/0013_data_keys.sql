-- A data key for each project, sealed under the ring of HEADWAY_SECRET_KEYS. A sealed value begins with the length and the
-- id of the ring's key that has sealed it; a length of 0 means the project's data key.
--
-- A project's key is never replaced: processes remember it. The reference is looked at when the transaction commits, since
-- a project's secrets are sealed before its row is written.

create table data_keys (
    project_id text primary key references projects (id) deferrable initially deferred,
    sealed bytea not null,
    created_at timestamptz not null default now()
);

-- What was sealed before there were data keys, until it is sealed anew.
create index deployments_sealed_by_the_ring on deployments (id) where get_byte(secrets, 0) > 0;
