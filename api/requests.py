"""The bodies that the API accepts: the domain's requests, with the grammar of each field where callers can read it.

Rule: what a field's description says is what is accepted, so that a generated client and a fuzzer agree with us. The
domain's own checks decide; the patterns beside them only tell.
"""

from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints, WithJsonSchema

from api.queries import Moment
from domain.configuration import ConfigurationChange, RelativePath, outside
from domain.deployment import RetryRequest, RollbackRequest, TriggerDeploymentRequest
from domain.errors import DeploymentError
from domain.previews import EnvironmentName
from domain.project import (
    CreateEnvironmentRequest,
    CreateProjectRequest,
    UpdateEnvironmentRequest,
    UpdateProjectRequest,
)
from domain.protection import DecisionRequest
from domain.source import MAX_REF, check_repository_url
from domain.token import CreateTokenRequest

_LETTERS = "\u00c0-\u024f\u0400-\u052f\u4e00-\u9fff\uac00-\ud7a3"
"""Blocks of letters that are assigned throughout; git takes others as well."""

_REF_PATTERN = (
    r"^(?![-./])(?!@$)(?!.*(\.\.|@\{|//|/\.|\.lock/|\.lock$|\.$|/$))"
    rf"[!-)+-9;->@-Z\]_-}}{_LETTERS}]+$"
)
_URL_PATTERN = (
    r"^((https?|ssh|git)://([A-Za-z0-9_][A-Za-z0-9_.-]*@)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?(:[0-9]{1,4})?/"
    r"[A-Za-z0-9_.~%+/-]+|[A-Za-z0-9_][A-Za-z0-9_.-]*@[A-Za-z0-9][A-Za-z0-9.-]*:[A-Za-z0-9_~/][A-Za-z0-9_.~/-]*)$"
)
_PATH_PATTERN = r"^(?!(.*/)?\.\.(/|$))[^\x00-\x1f\\/~-][^\x00-\x1f\\]*$"


def _checked(check: Callable[[str], Any]) -> AfterValidator:
    """A check of the domain's as a validator, so that its refusal names the field."""

    def validate(text: str) -> str:
        try:
            check(text)
        except DeploymentError as error:
            raise ValueError(error.message) from None
        return text

    return AfterValidator(validate)


def _inside(path: str) -> str:
    if outside(path):
        raise ValueError("leaves the repository; accepted: a path below its root, without '..'")
    return path


def _described(pattern: str, **bounds: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "minLength": 1, "pattern": pattern, **bounds})


Plain = Annotated[str, StringConstraints(pattern=r"^[^\x00]*$")]
PathInside = Annotated[RelativePath, AfterValidator(_inside), _described(_PATH_PATTERN, maxLength=1024)]
RepositoryUrl = Annotated[
    str, Field(max_length=2048), _checked(check_repository_url), _described(_URL_PATTERN, maxLength=2048)
]
# The store refuses what is no ref, with a code of its own; here is only told what it accepts.
SourceRef = Annotated[str, Field(min_length=1, max_length=1024), _described(_REF_PATTERN, maxLength=MAX_REF)]
EnvironmentId = Annotated[str, StringConstraints(max_length=64, pattern=r"^[^\x00]*$")]


class ConfigurationBody(ConfigurationChange):
    environment: EnvironmentName | None = Field(default=None, description="an environment's name")
    output_directory: PathInside | None = None
    root_directory: PathInside | None = None


class CreateProjectBody(CreateProjectRequest):
    repository_url: RepositoryUrl | None = Field(default=None, repr=False)
    configuration: ConfigurationBody = Field(default_factory=ConfigurationBody)


class UpdateProjectBody(UpdateProjectRequest):
    repository_url: RepositoryUrl | None = Field(default=None, repr=False)
    configuration: ConfigurationBody | None = None


class CreateEnvironmentBody(CreateEnvironmentRequest):
    configuration: ConfigurationBody = Field(default_factory=ConfigurationBody)


class UpdateEnvironmentBody(UpdateEnvironmentRequest):
    configuration: ConfigurationBody | None = None


class TriggerBody(TriggerDeploymentRequest):
    source_ref: SourceRef
    environment_id: EnvironmentId | None = None
    configuration: ConfigurationBody | None = None


class RetryBody(RetryRequest):
    source_ref: SourceRef | None = None
    configuration: ConfigurationBody | None = None


class CreateTokenBody(CreateTokenRequest):
    expires_at: Moment | None = None


NAMES = {
    "ConfigurationChange": ConfigurationBody,
    "CreateEnvironmentRequest": CreateEnvironmentBody,
    "DecisionRequest": DecisionRequest,
    "CreateProjectRequest": CreateProjectBody,
    "CreateTokenRequest": CreateTokenBody,
    "RetryRequest": RetryBody,
    "RollbackRequest": RollbackRequest,
    "TriggerDeploymentRequest": TriggerBody,
    "UpdateEnvironmentRequest": UpdateEnvironmentBody,
    "UpdateProjectRequest": UpdateProjectBody,
}
"""The bodies by the names that the service description gives them."""
