-- Webhooks as they came, signals about them, and pushes that trigger deployments. No key of deployments is referenced:
-- that would lock a deployment's row against the step that is about to write its build's id.

create table webhooks (
    id uuid primary key,
    sender text not null,
    provider text,
    project_id text,
    identity text not null,
    delivery_id text,
    kind text not null,
    build_ids text[] not null default '{}',
    deployment_id uuid,
    push jsonb,
    state text not null check (state in ('parked', 'pending', 'applied', 'replaced', 'ignored')),
    reason text,
    received_at timestamptz not null default now(),
    settled_at timestamptz
);
create unique index webhooks_once on webhooks (sender, coalesce(project_id, ''), identity);
create index webhooks_listed on webhooks (received_at desc, id desc);
create index webhooks_parked on webhooks using gin (build_ids) where state = 'parked';
create index webhooks_to_signal on webhooks (deployment_id) where state = 'pending' and deployment_id is not null;
create index deployments_build on deployments (build_id) where build_id is not null;

-- How often a deployment's workflow has been signalled, and when last: it is not to be told more often than it can take.
create table webhook_signals (
    deployment_id uuid primary key,
    signals int not null,
    signalled_at timestamptz not null
);

-- A push in each environment that a project's rules bring it to. `id` is the order of arrival.
create table pushes (
    id bigint generated always as identity primary key,
    webhook_id uuid not null references webhooks (id) on delete cascade,
    project_id text not null,
    environment text not null,
    branch text not null,
    before_sha text not null,
    after_sha text not null,
    pushed_at bigint,
    actor text not null,
    message text,
    state text not null check (state in ('pending', 'applied', 'replaced', 'ignored')),
    reason text,
    deployment_id uuid,
    next_at timestamptz not null default now(),
    received_at timestamptz not null default now(),
    unique (webhook_id, project_id, environment)
);
create index pushes_of_branch on pushes (project_id, environment, branch, id desc);
create index pushes_due on pushes (next_at) where state = 'pending';

alter table projects add column push_rules jsonb not null default '[]';
alter table projects add column repository_key text;
create index projects_of_repository on projects (repository_key) where push_rules <> '[]';
