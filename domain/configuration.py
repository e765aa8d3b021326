"""How a project is built: defaults of the project ← environment ← request, merged deeply, then frozen with a digest."""

import hashlib
import json
import re
from typing import Annotated, Any

from pydantic import Field, StringConstraints

from domain.health import HealthCheck, HealthCheckChange
from domain.wire import Request, Wire

DEFAULT_TIMEOUT_SECONDS = 3600
"""The whole deployment, from leaving the queue to its end."""

HIDDEN = "***"
"""What a reader sees in the place of a secret's value."""

_LATER = ("health_check", "rollback_on_failure")
"""Fields that came after deployments had been digested."""

_CREDENTIAL = re.compile(
    r"(^|_)(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?|API_?KEY|PRIVATE_?KEY|ACCESS_?KEY)($|_)", re.IGNORECASE
)

VariableName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,254}$")]
VariableValue = Annotated[str, StringConstraints(max_length=65536, pattern=r"^[^\x00]*$")]
Command = Annotated[str, StringConstraints(min_length=1, max_length=8192, pattern=r"^[^\x00]*$")]
RelativePath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f\\/~-][^\x00-\x1f\\]*$|^[^\x00-\x1f\\/~-]$"),
]
"""Relative to the repository; `..` is refused by `outside` since a pattern for it cannot be read."""


class DeploymentConfiguration(Wire):
    """The snapshot that a deployment runs with. `secrets` holds names alone; values are sealed elsewhere."""

    environment: str
    build_command: str | None = None
    output_directory: str | None = None
    environment_variables: dict[str, str] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict, description="names, with '***' for each value")
    node_version: str | None = None
    install_command: str | None = None
    framework: str | None = None
    root_directory: str | None = None
    skip_deploy: bool = False
    timeout_seconds: int = DEFAULT_TIMEOUT_SECONDS
    health_check: HealthCheck | None = Field(default=None, description="of the address, once it is published")
    rollback_on_failure: bool = Field(
        default=False, description="what was live before comes back by itself when this one went live and has failed"
    )


class ConfigurationChange(Request):
    """A part of a configuration as a caller sends it. `null` takes a value of a lower level away."""

    environment: str | None = Field(default=None, max_length=63)
    build_command: Command | None = None
    output_directory: RelativePath | None = None
    # What an object says of itself may end in a log or a failure: never a value that could be a secret.
    environment_variables: dict[VariableName, VariableValue | None] | None = Field(default=None, repr=False)
    secrets: dict[VariableName, VariableValue | None] | None = Field(default=None, description="write-only", repr=False)
    node_version: str | None = Field(default=None, pattern=r"^[0-9A-Za-z.*/^~<>=| -]{1,64}$")
    install_command: Command | None = None
    framework: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]{0,62}$")
    root_directory: RelativePath | None = None
    skip_deploy: bool | None = None
    timeout_seconds: int | None = Field(default=None, ge=1, le=86400)
    health_check: HealthCheckChange | None = None
    rollback_on_failure: bool | None = None

    @classmethod
    def stored(cls, layer: dict[str, Any]) -> "ConfigurationChange":
        """From what `layer` gave. Not validated again: it may be older than a rule of today."""
        check = layer.get("health_check")
        known = {**layer, "health_check": HealthCheckChange.model_construct(**check)} if check else layer
        return cls.model_construct(**known)

    def layer(self) -> dict[str, Any]:
        """What was said, by Python's names, without secrets; to be stored or merged."""
        said = self.model_dump(exclude_unset=True, exclude={"secrets"})
        said["environment_variables"] = {
            name: value
            for name, value in (said.get("environment_variables") or {}).items()
            if not looks_like_credential(name)
        }
        return (
            said if said["environment_variables"] else {k: v for k, v in said.items() if k != "environment_variables"}
        )

    def secret_layer(self) -> dict[str, str | None]:
        """Secrets, and variables whose name says that they are one."""
        variables = self.environment_variables or {}
        named_so = {name: value for name, value in variables.items() if looks_like_credential(name)}
        return {**named_so, **(self.secrets or {})}


def looks_like_credential(name: str) -> bool:
    """Whether a variable's name says that its value is a credential (`NPM_TOKEN`, `DB_PASSWORD` …)."""
    return bool(_CREDENTIAL.search(name))


def outside(path: str) -> bool:
    """Whether a relative path leaves its directory by `..` or is absolute."""
    return path.startswith(("/", "~")) or ".." in re.split(r"[/\\]", path)


def merge(*layers: dict[str, Any]) -> dict[str, Any]:
    """Later layers win; maps are merged key by key; None takes a value away (RFC 7396)."""
    merged: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if value is None:
                merged.pop(key, None)
            elif isinstance(value, dict):
                below = merged.get(key)
                merged[key] = merge(below if isinstance(below, dict) else {}, value)
            else:
                merged[key] = value
    return merged


def digest(configuration: DeploymentConfiguration) -> str:
    """`sha256:` of the configuration as canonical JSON (RFC 8785, as far as values like ours go).

    What was added later counts once it is set: the same configuration keeps its digest over an upgrade.
    """
    unset = {name for name in _LATER if getattr(configuration, name) in (None, False)}
    said = configuration.model_dump(mode="json", by_alias=True, exclude=unset)
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
