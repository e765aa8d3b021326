-- Which value of each secret is set (counted, by whom, when), and which a deployment ran with. Names, never values.

alter table projects add column secret_versions jsonb not null default '{}';
alter table environments add column secret_versions jsonb not null default '{}';
alter table deployments add column secret_versions jsonb not null default '{}';
