-- Projects, environments, deployments, their events, results and logs; tokens, limits, idempotency records, audit.

create table projects (
    id text primary key,
    name text not null,
    provider text not null,
    provider_settings jsonb not null default '{}',
    repository_url text,
    configuration jsonb not null default '{}',
    secrets bytea,
    concurrency text not null default 'reject' check (concurrency in ('reject', 'queue', 'supersede', 'parallel')),
    event_sequence bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version bigint not null default 1
);

create table environments (
    id uuid primary key,
    project_id text not null references projects (id),
    name text not null,
    type text not null check (type in ('production', 'staging', 'preview', 'development')),
    configuration jsonb not null default '{}',
    secrets bytea,
    is_default boolean not null default false,
    concurrency text check (concurrency in ('reject', 'queue', 'supersede', 'parallel')),
    protection jsonb not null default '{}',
    held_ref text,
    last_sequence bigint not null default 0,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version bigint not null default 1,
    unique (project_id, name)
);
create unique index environments_default on environments (project_id) where is_default;

create table deployments (
    id uuid primary key,
    project_id text not null references projects (id),
    environment_id uuid not null references environments (id),
    environment_name text not null,
    sequence bigint not null,
    source_ref text not null,
    commit_sha text,
    triggered_by text not null,
    message text,
    status text not null default 'created',
    waiting_on text,
    provider text not null,
    provider_settings jsonb not null default '{}',
    repository_url text,
    build_id text,
    task_queue text,
    artifact_id text,
    deployment_url text,
    preview_urls jsonb not null default '[]',
    rollback_of uuid,
    superseded_by uuid,
    cancel_requested_at timestamptz,
    cancel_delivered_at timestamptz,
    workflow_started_at timestamptz,
    lane text not null check (lane in ('none', 'held', 'released')),
    error jsonb,
    metadata jsonb not null,
    configuration jsonb not null,
    configuration_digest text not null,
    secrets bytea,
    started_at timestamptz,
    finished_at timestamptz,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    version bigint not null default 1,
    unique (environment_id, sequence)
);
-- A lane is held once, whatever the code above believes.
create unique index deployments_lane on deployments (environment_id) where lane = 'held';
create index deployments_active on deployments (environment_id)
    where status in ('created', 'queued', 'initializing', 'building', 'deploying');
create index deployments_of_project on deployments (project_id, created_at desc, id desc);
create index deployments_not_started on deployments (created_at) where status = 'created';
create index deployments_not_canceled on deployments (created_at)
    where cancel_requested_at is not null and cancel_delivered_at is null;

-- Each change of status, as the whole deployment. `sequence` counts within the project without gaps: it is taken from
-- the project's row, which stays locked until the commit, so that a reader never sees a number before a smaller one.
create table events (
    project_id text not null references projects (id),
    sequence bigint not null,
    deployment_id uuid not null references deployments (id),
    version bigint not null,
    status text not null,
    document jsonb not null,
    created_at timestamptz not null default now(),
    primary key (project_id, sequence),
    unique (deployment_id, version)
);

create table results (
    deployment_id uuid primary key references deployments (id),
    document jsonb not null
);

-- How far each stream of a deployment's log has been taken over, and how many lines there are. The counter's row is
-- locked while lines are added, so that line n is visible before line n + 1.
create table log_streams (
    deployment_id uuid not null references deployments (id),
    stream text not null,
    cursor text not null,
    primary key (deployment_id, stream)
);

create table log_counters (
    deployment_id uuid primary key references deployments (id),
    lines bigint not null
);

create table log_lines (
    deployment_id uuid not null references deployments (id),
    sequence bigint not null,
    timestamp timestamptz not null,
    level text not null,
    message text not null,
    step text,
    source text not null,
    metadata jsonb,
    primary key (deployment_id, sequence)
);

create table tokens (
    id uuid primary key,
    subject text not null,
    fingerprint bytea not null unique,
    scopes text[] not null,
    projects text[] not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz not null default now()
);

-- The moments of the accepted triggers inside the window: a sliding log, exact over all processes.
create table rate_limits (
    key text primary key,
    hits timestamptz[] not null default '{}'
);

create table idempotency (
    scope text not null,
    route text not null,
    key text not null,
    fingerprint bytea not null,
    answer bytea,
    created_at timestamptz not null default now(),
    primary key (scope, route, key)
);
create index idempotency_age on idempotency (created_at);

create table audit (
    id bigint generated always as identity primary key,
    at timestamptz not null default now(),
    actor text not null,
    action text not null,
    project_id text,
    target text,
    details jsonb not null default '{}'
);
create index audit_of_project on audit (project_id, id desc);
