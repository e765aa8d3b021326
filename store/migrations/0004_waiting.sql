-- Why and since when a deployment waits, beside what it waits for.

alter table deployments add column waiting_reason text;
alter table deployments add column waiting_since timestamptz;
