"""What is asked of a provider for one deployment. `Deployment` is ours, `Build` the provider's side of it."""

from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import Field, PrivateAttr

from domain.configuration import DeploymentConfiguration
from domain.wire import Timestamp, Wire


class Build(Wire):
    """A provider's build. `task_queue` names the only workers that can reach it, where it lives on one host."""

    deployment_id: str
    project_id: str
    environment: str
    build_id: str
    task_queue: str | None = None


class RemovedEnvironment(Wire):
    """An environment that was deleted, and all deployments that it had. Another one may have its name by now."""

    project_id: str
    environment: str
    deployment_ids: list[str]


class BuildRequest(Wire):
    """One intent. `secrets` has values: it is handed over in memory and never leaves the activity."""

    deployment_id: str
    project_id: str
    environment: str = Field(description="the environment's name")
    source_ref: str
    commit_sha: str | None = Field(
        default=None, description="fixed when a deployment is repeated; else the ref decides"
    )
    repository_url: str | None = None
    configuration: DeploymentConfiguration
    provider_settings: dict[str, Any] = Field(default_factory=dict)
    secrets: dict[str, str] = Field(default_factory=dict, repr=False)
    deadline: Timestamp = Field(description="when the build has to have ended")
    publication: int = Field(default=0, description="grows with each attempt to publish in its environment; 0 for none")
    _check: Callable[[], Awaitable[None]] | None = PrivateAttr(default=None)

    def to_publish(self, number: int, check: Callable[[], Awaitable[None]]) -> "BuildRequest":
        """The same, for an attempt to publish. `check` raises Overtaken once a later one was given a number."""
        request = self.model_copy(update={"publication": number})
        request._check = check
        return request

    async def check_turn(self) -> None:
        """Asked right before the call that makes something live. Raises Overtaken when it is no longer our turn."""
        if self._check is not None:
            await self._check()

    def build(self, build_id: str) -> Build:
        """The provider's side of it."""
        return Build(
            deployment_id=self.deployment_id,
            project_id=self.project_id,
            environment=self.environment,
            build_id=build_id,
        )
