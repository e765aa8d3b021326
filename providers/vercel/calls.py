"""What is asked of Vercel, and what is read of its answers. A field that is not needed is not read.

Source: the official description (vercel/sdk, vercel-spec.json). Times are milliseconds since 1970.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from domain.errors import ErrorCode
from domain.wire import Wire
from providers.http import Call

_PUBLISHING = ErrorCode.DEPLOY_FAILED

LIST = Call("list the deployments", "GET", "/v7/deployments", limited_as="list")
CREATE = Call("create the deployment", "POST", "/v13/deployments", limited_as="create")
READ = Call("read the deployment", "GET", "/v13/deployments/{id}", handed_back={404, 410}, limited_as="read")
CANCEL = Call(
    "cancel the deployment",
    "PATCH",
    "/v12/deployments/{id}/cancel",
    handed_back={400, 404, 409, 410, 422},
    limited_as="cancel",
    urgent=True,
)
EVENTS = Call(
    "tell the build's log", "GET", "/v3/deployments/{id}/events", limited_as="events", vital=False, seconds=60
)
SET_VARIABLES = Call("set variables", "POST", "/v10/projects/{project}/env", repeatable=True, limited_as="env")
READ_PROJECT = Call("read the project", "GET", "/v9/projects/{project}", limited_as="project")
PROMOTE = Call(
    "promote the deployment",
    "POST",
    "/v10/projects/{project}/promote/{id}",
    handed_back={409},
    repeatable=True,  # what is live already answers 409
    refused_as=_PUBLISHING,
    limited_as="promote",
)
ROLL_BACK = Call(
    "roll back to the deployment",
    "POST",
    "/v1/projects/{project}/rollback/{id}",
    handed_back={409},
    repeatable=True,
    refused_as=_PUBLISHING,
    limited_as="rollback",
)


def _moment(value: Any) -> Any:
    """A time, where it is one: Vercel says 0 or null for what has not happened."""
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e14:
        return datetime.fromtimestamp(value / 1000, UTC)
    return None


Moment = Annotated[datetime | None, BeforeValidator(_moment)]


class Problem(Wire):
    code: str = ""
    message: str = ""

    def __str__(self) -> str:
        return " ".join(part for part in (self.code, self.message) if part)


class Check(Wire):
    state: str = ""


class Blocked(Wire):
    block_code: str = ""


class Provisioning(Wire):
    state: str = ""


class ProjectSettings(Wire):
    framework: str | None = None


class Deployment(Wire):
    id: str = Field(min_length=1)
    url: str | None = None
    alias: list[str] = Field(default_factory=list)
    inspector_url: str | None = None
    target: str | None = None
    meta: dict[str, str] = Field(default_factory=dict)
    ready_state: str = ""
    status: str = ""
    ready_substate: str | None = None
    ready_state_reason: str | None = None
    alias_assigned: bool | float | None = None
    alias_error: Problem | None = None
    alias_warning: Problem | None = None
    error_code: str | None = None
    error_message: str | None = None
    error_step: str | None = None
    oom_report: str | None = None
    build_skipped: bool = False
    checks_state: str | None = None
    checks_conclusion: str | None = None
    checks: dict[str, Check] = Field(default_factory=dict)
    seat_block: Blocked | None = None
    manual_provisioning: Provisioning | None = None
    is_in_concurrent_builds_queue: bool = False
    is_in_system_builds_queue: bool = False
    project_settings: ProjectSettings = ProjectSettings()
    git_source: dict[str, Any] = Field(default_factory=dict)
    building_at: Moment = None
    ready: Moment = None
    build_error_at: Moment = None
    canceled_at: Moment = None

    @property
    def word(self) -> str:
        """How it stands, in Vercel's word."""
        return self.ready_state or self.status


class Listed(Wire):
    uid: str = Field(min_length=1)
    meta: dict[str, str] = Field(default_factory=dict)


class Pagination(Wire):
    next: int | None = None


class Listing(Wire):
    deployments: list[Listed]
    pagination: Pagination = Pagination()


class AliasRequest(Wire):
    """The last promote or rollback of a project."""

    to_deployment_id: str = ""
    job_status: str = ""
    requested_at: float = 0


class Live(Wire):
    id: str | None = None


class Project(Wire):
    targets: dict[str, Live | None] = Field(default_factory=dict)
    last_alias_request: AliasRequest | None = None

    @property
    def live(self) -> str | None:
        """The deployment that production's domains lead to."""
        production = self.targets.get("production")
        return production.id if production else None


class VariableProblem(Wire):
    code: str = ""
    env_var_key: str | None = None
    key: str | None = None


class NotSet(Wire):
    error: VariableProblem


class VariablesSet(Wire):
    failed: list[NotSet] = Field(default_factory=list)
