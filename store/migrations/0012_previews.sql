-- An environment per branch, made by the first deployment of the branch and ending at `expires_at`.

alter table projects add column previews jsonb;
create index projects_with_previews on projects (repository_key) where previews is not null;

alter table environments add column branch text;
alter table environments add column expires_at timestamptz;
create unique index environments_of_branch on environments (project_id, branch) where branch is not null and deleted_at is null;
create index environments_expiring on environments (expires_at) where expires_at is not null and deleted_at is null;

-- A push that no rule names, to the preview of its branch; `environment` then is how that is called unless another has the name.
alter table pushes add column preview boolean not null default false;
