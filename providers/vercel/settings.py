"""A project's `providerSettings` for Vercel, and what follows from them for one request."""

from typing import Annotated, Any, Literal, Self

from pydantic import StringConstraints, model_validator

from domain.build import BuildRequest
from domain.source import is_commit
from domain.wire import Request
from providers.project_settings import ProjectSettings

PRODUCTION = "production"
PREVIEW = "preview"
WHOLE_COMMIT = 40

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
Id = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,255}$")]

FORMS: dict[str, tuple[set[str], ...]] = {
    "github": ({"org", "repo"}, {"repoId"}),
    "github-limited": ({"org", "repo"}, {"repoId"}),
    "gitlab": ({"projectId"},),
    "bitbucket": ({"owner", "slug"}, {"repoUuid"}, {"repoUuid", "workspaceUuid"}),
}
"""How a repository is named, by who hosts it."""


class GitSource(Request):
    type: Literal["github", "github-limited", "gitlab", "bitbucket"]
    org: Id | None = None
    repo: Id | None = None
    repo_id: int | Id | None = None
    project_id: int | Id | None = None
    repo_uuid: Id | None = None
    workspace_uuid: Id | None = None
    owner: Id | None = None
    slug: Id | None = None

    @model_validator(mode="after")
    def _is_of_a_form(self) -> Self:
        if self._named() not in FORMS[self.type]:
            forms = " or ".join(" and ".join(sorted(form)) for form in FORMS[self.type])
            raise ValueError(f"a repository of type {self.type} is named by {forms}")
        return self

    def at(self, ref: str, commit: str | None) -> dict[str, Any]:
        """The `gitSource` of a deployment."""
        return {**self.model_dump(by_alias=True, exclude_none=True), "ref": ref, **({"sha": commit} if commit else {})}

    def _named(self) -> set[str]:
        return set(self.model_dump(by_alias=True, exclude_none=True)) - {"type"}


class Settings(ProjectSettings):
    provider = "vercel"
    accepted = "projectId or projectName, teamId, gitSource, target"

    project_id: Name | None = None
    project_name: Name | None = None
    team_id: Name | None = None
    git_source: GitSource
    target: Name | None = None

    @model_validator(mode="after")
    def _names_a_project(self) -> Self:
        if (self.project_id is None) == (self.project_name is None):
            raise ValueError("the project is named by projectId or by projectName")
        return self

    @property
    def project(self) -> str:
        return self.project_id or self.project_name or ""

    def target_of(self, request: BuildRequest) -> str:
        """Where a deployment goes: by the setting, else by the environment's name."""
        return self.target or (PRODUCTION if request.environment == PRODUCTION else PREVIEW)


def commit_of(request: BuildRequest) -> str | None:
    """The commit that is asked for, where it is."""
    whole = is_commit(request.source_ref) and len(request.source_ref) == WHOLE_COMMIT
    return request.commit_sha or (request.source_ref if whole else None)
