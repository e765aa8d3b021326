"""The messages between workflow and activities: one object in, one out, so that fields can be added."""

from pydantic import Field

from domain.build import Build
from domain.ending import Ending
from domain.result import Failure
from domain.wire import Wire
from providers.base import BuildStage


class StartBuild(Wire):
    deployment_id: str
    provider: str
    build_timeout_seconds: float


class BuildStep(Wire):
    """A step at a build that has been started. The time-out counts from when it was started."""

    build: Build
    provider: str
    build_timeout_seconds: float


class RestoreBuild(Wire):
    """What `build` left is made live again for the deployment."""

    deployment_id: str
    build: Build
    provider: str


class BuildOutcome(Wire):
    """How a build ended: one of the final stages."""

    stage: BuildStage
    failure: Failure | None = Field(default=None, description="with every stage but built")
    live: bool = Field(default=False, description="built, and published by the provider itself")


class OfDeployment(Wire):
    deployment_id: str


class Finish(Wire):
    deployment_id: str
    ending: Ending


class Reconcile(Wire):
    """Records and workflows are looked at for so long."""

    seconds: float = 0
