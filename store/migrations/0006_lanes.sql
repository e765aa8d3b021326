-- Deployments that wait, for a rule of their environment (`gated`) or in line for its lane, and whether their workflow has
-- been told that there is something new to see.

alter table deployments drop constraint deployments_lane_check;
alter table deployments add constraint deployments_lane_check
    check (lane in ('none', 'gated', 'waiting', 'held', 'released'));
alter table deployments add column lane_policy text not null default 'reject';
alter table deployments add column wake_asked_at timestamptz;
alter table deployments add column wake_delivered_at timestamptz;
alter table deployments add column approvals jsonb not null default '[]';
alter table deployments add column break_glass text;
create index deployments_in_line on deployments (environment_id, sequence) where lane in ('gated', 'waiting');
create index deployments_to_wake on deployments (wake_asked_at) where wake_asked_at is not null and wake_delivered_at is null;

-- With `supersede`: whether the newest also ends the one that runs.
alter table projects add column cancel_running boolean not null default false;
alter table environments add column cancel_running boolean;

-- After a rollback: which ref, and which commit, does not come back by itself, and since which deployment.
alter table environments add column held_commit text;
alter table environments add column held_by uuid;

-- The deployment whose build is made live again instead of building.
alter table deployments add column restores uuid;
