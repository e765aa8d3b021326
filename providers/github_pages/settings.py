"""What a project says about its page: `providerSettings`."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from domain.errors import DeploymentError, ErrorCode

Owner = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$")]
Repo = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$|^\.[A-Za-z0-9_-][A-Za-z0-9._-]{0,98}$")
]
WorkflowFile = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,200}\.ya?ml$")]

ACCEPTED = (
    'accepted are {"owner", "repo", "mode": "workflow", "workflow": "deploy.yml"}'
    ' and {"owner", "repo", "mode": "branch"}'
)


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    owner: Owner
    repo: Repo


class WorkflowSettings(_Settings):
    mode: Literal["workflow"]
    workflow: WorkflowFile


class BranchSettings(_Settings):
    mode: Literal["branch"]


_MODES: dict[object, type[WorkflowSettings | BranchSettings]] = {
    "workflow": WorkflowSettings,
    "branch": BranchSettings,
}


def read_settings(settings: dict[str, Any]) -> WorkflowSettings | BranchSettings:
    """The settings of a project.

    Raises:
        DeploymentError: invalid-request, with the fields that are wrong.
    """
    mode = settings.get("mode")
    shape = _MODES.get(mode) if isinstance(mode, str) else None
    if shape is None:
        raise _refused([("/providerSettings/mode", "has to be workflow or branch")])
    try:
        return shape.model_validate(settings)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        raise _refused(
            [("/".join(["/providerSettings", *map(str, each["loc"])]), each["msg"]) for each in wrong]
        ) from None


def _refused(fields: list[tuple[str, str]]) -> DeploymentError:
    named = ", ".join(pointer.rpartition("/")[2][:80] for pointer, _ in fields)
    message = f"the settings of github-pages are refused because of {named}: {ACCEPTED}"
    return DeploymentError(ErrorCode.INVALID_REQUEST, message, fields=fields)
