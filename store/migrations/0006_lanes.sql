-- Deployments that wait in line for their lane, and whether their workflow has been told that it is theirs.

alter table deployments drop constraint deployments_lane_check;
alter table deployments add constraint deployments_lane_check check (lane in ('none', 'waiting', 'held', 'released'));
alter table deployments add column lane_granted_at timestamptz;
alter table deployments add column lane_delivered_at timestamptz;
create index deployments_in_line on deployments (environment_id, sequence) where lane = 'waiting';
create index deployments_not_told on deployments (lane_granted_at)
    where lane_granted_at is not null and lane_delivered_at is null;

-- With `supersede`: whether the newest also ends the one that runs.
alter table projects add column cancel_running boolean not null default false;
alter table environments add column cancel_running boolean;
