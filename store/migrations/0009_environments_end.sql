-- Environments that end: deleted ones keep their row, for the history of their deployments; their name is free again.
-- What they had live is taken down afterwards, by those who hold it.

alter table environments add column deleted_at timestamptz;
alter table environments add column take_down_asked_at timestamptz;
alter table environments add column taken_down_at timestamptz;

alter table environments drop constraint environments_project_id_name_key;
create unique index environments_named on environments (project_id, name) where deleted_at is null;
create index environments_to_take_down on environments (deleted_at) where deleted_at is not null and taken_down_at is null;
