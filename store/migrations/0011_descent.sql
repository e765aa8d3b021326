-- What was found out about a deployment's descent from the commit that its environment holds.
alter table deployments add column descent jsonb;
