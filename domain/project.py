"""A project: what is deployed, by which provider, with which defaults; and its environments, where it goes."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, StringConstraints

from domain.configuration import ConfigurationChange
from domain.deployment import Concurrency, ProjectId, ProviderName
from domain.previews import BranchPattern, EnvironmentName, Previews
from domain.protection import Protection
from domain.secret import SecretVersion
from domain.source import GIT_TOKEN, split_credentials
from domain.wire import Request, Timestamp, Wire

EnvironmentType = Literal["production", "staging", "preview", "development"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]


class PushRule(Request):
    """Pushes to these branches are deployed to the environment of that name."""

    branches: list[BranchPattern] = Field(min_length=1, max_length=20)
    environment: EnvironmentName


PushRules = Annotated[list[PushRule], Field(max_length=20)]


class Project(Wire):
    id: str
    name: str
    provider: str
    provider_settings: dict[str, Any] = Field(default_factory=dict)
    repository_url: str | None = None
    configuration: dict[str, Any] = Field(
        default_factory=dict, description="the part of a configuration that is set here"
    )
    secret_versions: dict[str, SecretVersion] = Field(default_factory=dict, description="of the secrets set here")
    concurrency: Concurrency = "reject"
    cancel_running: bool = False
    push_rules: list[PushRule] = Field(default_factory=list)
    previews: Previews | None = Field(default=None, description="an environment for each branch; null: none")
    created_at: Timestamp
    updated_at: Timestamp
    version: int
    warnings: list[str] | None = Field(
        default=None, description="secrets that were just set and will not be masked in logs, and why"
    )


class Environment(Wire):
    id: str
    project_id: str
    name: str
    type: EnvironmentType
    configuration: dict[str, Any] = Field(
        default_factory=dict, description="the part of a configuration that is set here"
    )
    secret_versions: dict[str, SecretVersion] = Field(default_factory=dict, description="of the secrets set here")
    is_default: bool
    concurrency: Concurrency | None = Field(default=None, description="null: the project's")
    cancel_running: bool | None = Field(default=None, description="null: the project's")
    protection: Protection = Field(default_factory=Protection)
    held_ref: str | None = None
    branch: str | None = Field(default=None, description="whose preview it is; null: nobody's")
    expires_at: Timestamp | None = Field(
        default=None, description="when it is deleted, unless something runs there or is deployed before; null: never"
    )
    created_at: Timestamp
    updated_at: Timestamp
    version: int
    warnings: list[str] | None = Field(
        default=None, description="secrets that were just set and will not be masked in logs, and why"
    )


class CreateProjectRequest(Request):
    id: ProjectId
    name: Name | None = Field(default=None, description="defaults to the id")
    provider: ProviderName
    provider_settings: dict[str, Any] = Field(default_factory=dict)
    repository_url: str | None = Field(default=None, max_length=2048, repr=False)
    configuration: ConfigurationChange = Field(default_factory=ConfigurationChange)
    concurrency: Concurrency = "reject"
    cancel_running: bool = Field(default=False, description="with supersede: the newest also ends the one that runs")
    push_rules: PushRules = Field(default_factory=list, description="which pushes are deployed, told by webhooks")
    previews: Previews | None = Field(default=None, description="an environment for each branch; null: none")


class UpdateProjectRequest(Request):
    name: Name | None = None
    provider_settings: dict[str, Any] | None = None
    repository_url: str | None = Field(default=None, max_length=2048, repr=False)
    configuration: ConfigurationChange | None = None
    concurrency: Concurrency | None = None
    cancel_running: bool | None = Field(
        default=None, description="with supersede: the newest also ends the one that runs"
    )
    push_rules: PushRules | None = Field(default=None, description="all of them; [] takes them away")
    previews: Previews | None = Field(default=None, description="all of it anew; null: no new ones are made")


AnyRequest = TypeVar("AnyRequest", CreateProjectRequest, UpdateProjectRequest)


def without_credentials(request: AnyRequest) -> AnyRequest:
    """User and password of the repository's address become its secret: an address is shown, a secret never."""
    bare, credentials = split_credentials(request.repository_url or "")
    if credentials is None:
        return request
    change = request.configuration or ConfigurationChange()
    secrets = {GIT_TOKEN: credentials, **(change.secrets or {})}
    # Named as said: what is not set stays as it is.
    configuration = change.model_copy(update={"secrets": secrets})
    return request.model_copy(update={"repository_url": bare, "configuration": configuration})


class CreateEnvironmentRequest(Request):
    name: EnvironmentName
    type: EnvironmentType = "preview"
    configuration: ConfigurationChange = Field(default_factory=ConfigurationChange)
    is_default: bool = False
    concurrency: Concurrency | None = None
    cancel_running: bool | None = Field(
        default=None, description="with supersede: the newest also ends the one that runs"
    )
    protection: Protection = Field(default_factory=Protection)


class UpdateEnvironmentRequest(Request):
    type: EnvironmentType | None = None
    configuration: ConfigurationChange | None = None
    is_default: Literal[True] | None = Field(
        default=None, description="true makes it the default; another one takes it away"
    )
    concurrency: Concurrency | None = None
    cancel_running: bool | None = Field(
        default=None, description="with supersede: the newest also ends the one that runs"
    )
    protection: Protection | None = Field(default=None, description="all of it anew")
    held_ref: str | None = Field(
        default=None, max_length=1024, pattern=r"^[^\x00]*$", description="null lifts the hold"
    )
