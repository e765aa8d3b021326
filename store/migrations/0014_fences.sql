-- Who may still write and publish: attempts that were taken over, and deployments that were overtaken, may not.

alter table deployments add column fence timestamptz;
alter table deployments add column publication bigint;
alter table deployments add column forced boolean not null default false;
alter table environments add column last_publication bigint not null default 0;
alter table log_streams add column fence timestamptz;
