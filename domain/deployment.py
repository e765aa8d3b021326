"""A deployment as callers see it, and what they send to get one."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from domain.configuration import ConfigurationChange, DeploymentConfiguration
from domain.protection import Approval
from domain.result import Failure
from domain.secret import SecretUse
from domain.states import TERMINAL, Status
from domain.wire import Request, Timestamp, Wire

ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
ProjectId = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
IdempotencyKey = Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=r"^[\x20-\x7e]+$")]
Trigger = Literal["manual", "webhook", "schedule", "api"]
WaitingOn = Literal["lane", "approval", "provider", "schedule"]
BreakGlass = Annotated[
    str,
    Field(
        min_length=1,
        max_length=1000,
        pattern=r"^[^\x00]*$",
        description="why no rule of the environment may keep it now; needs the scope `admin`",
    ),
]
Concurrency = Literal["reject", "queue", "supersede", "parallel"]
SortBy = Literal["createdAt", "startedAt", "finishedAt"]
SortOrder = Literal["asc", "desc"]


class Repository(Wire):
    """Where the source came from; `commit`, `message` and `author` are known once it has been fetched."""

    url: str
    branch: str
    commit: str | None = None
    message: str | None = None
    author: str | None = None


class DeploymentMetadata(Wire):
    repository: Repository | None = None
    trigger: Trigger = "api"
    retry_count: int = 0
    parent_deployment_id: str | None = None


class DeploymentLinks(Wire):
    self: str
    logs: str
    result: str
    events: str
    temporal: str | None = Field(default=None, description="the workflow's page in the Temporal web UI")


class Deployment(Wire):
    id: str
    project_id: str
    environment_id: str
    sequence: int = Field(description="counts up within project and environment")
    commit_sha: str | None = None
    source_ref: str
    triggered_by: str
    message: str | None = None
    status: Status
    waiting_on: WaitingOn | None = None
    waiting_reason: str | None = Field(default=None, description="why it waits, in plain words")
    waiting_since: Timestamp | None = None
    queue_position: int | None = Field(default=None, description="the place in the line, from 1")
    queue_seconds: float | None = Field(
        default=None, description="about how long until its turn, by how long deployments took here lately"
    )
    provider: str
    build_id: str | None = None
    started_at: Timestamp | None = None
    finished_at: Timestamp | None = None
    duration: float | None = Field(default=None, description="seconds")
    artifact_id: str | None = None
    deployment_url: str | None = None
    preview_urls: list[str] = Field(default_factory=list)
    rollback_of: str | None = Field(default=None, description="the deployment that was rolled back")
    restores: str | None = Field(default=None, description="the deployment whose build is made live again, unbuilt")
    break_glass: str | None = Field(default=None, description="why the environment's rules did not apply")
    approvals: list[Approval] = Field(default_factory=list)
    superseded_by: str | None = None
    cancel_requested_at: Timestamp | None = None
    error: Failure | None = None
    metadata: DeploymentMetadata
    configuration: DeploymentConfiguration
    configuration_digest: str
    secret_versions: dict[str, SecretUse] = Field(default_factory=dict, description="of the secrets it runs with")
    created_at: Timestamp
    updated_at: Timestamp
    version: int = Field(description="counts every change; what the ETag says")
    links: DeploymentLinks
    logs: list[str] | None = Field(default=None, description="the last 20 lines, in lists with includeLogs")
    warnings: list[str] | None = Field(
        default=None, description="to a trigger or retry: secrets it runs with that will not be masked in logs, and why"
    )

    @property
    def ended(self) -> bool:
        return self.status in TERMINAL


class TriggerDeploymentRequest(Request):
    project_id: ProjectId
    source_ref: str = Field(min_length=1, max_length=1024, description="branch, tag or commit id")
    environment_id: str | None = Field(default=None, max_length=64)
    preview: bool = Field(
        default=False, description="to the preview environment of the branch `sourceRef`, made where there is none"
    )
    configuration: ConfigurationChange | None = None
    idempotency_key: IdempotencyKey | None = None
    message: str | None = Field(default=None, max_length=4096, pattern=r"^[^\x00]*$")
    force: bool = Field(default=False, description="skips the already-running check, never protection")
    concurrency: Concurrency | None = Field(default=None, description="instead of the environment's, this once")
    cancel_running: bool | None = None
    break_glass: BreakGlass | None = None


class RetryRequest(Request):
    """Overrides of the deployment that is tried again; what is absent stays as it was."""

    from_stage: Literal["build", "deploy"] = Field(
        default="build", description="deploy: what was built is published, where it is still there"
    )

    source_ref: str | None = Field(default=None, min_length=1, max_length=1024)
    configuration: ConfigurationChange | None = None
    idempotency_key: IdempotencyKey | None = None
    message: str | None = Field(default=None, max_length=4096, pattern=r"^[^\x00]*$")
    force: bool = False
    concurrency: Concurrency | None = None
    cancel_running: bool | None = None
    break_glass: BreakGlass | None = None


class RollbackRequest(Request):
    target_deployment_id: str | None = Field(
        default=None, max_length=64, pattern=r"^[^\x00]*$", description="default: the last that succeeded before it"
    )
    idempotency_key: IdempotencyKey | None = None
    message: str | None = Field(default=None, max_length=4096, pattern=r"^[^\x00]*$")


class Change(Wire):
    """One thing that a rollback would change; of a secret its version, never its value."""

    path: str = Field(description="such as commitSha or configuration.environmentVariables.API_URL")
    before: str | None
    after: str | None


class RollbackPreview(Wire):
    target: Deployment
    changes: list[Change]
    held_ref: str | None = Field(description="the ref that would wait for approval afterwards")


class ListDeploymentsOptions(Wire):
    environment_id: str | None = None
    status: list[Status] = Field(default_factory=list)
    triggered_by: str | None = None
    source_ref: str | None = None
    sort_by: SortBy = "createdAt"
    sort_order: SortOrder = "desc"
    include_logs: bool = False


def workflow_id(deployment_id: str) -> str:
    """The one workflow of a deployment, so that starting it twice is starting it once."""
    return f"deployment-{deployment_id}"
