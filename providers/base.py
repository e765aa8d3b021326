"""The promise that every provider keeps. `Deployment` is ours; `Build` is the provider's side of it (`domain.build`).

Rules:
1. Every call may be made twice, with the same outcome: workers die, activities are tried again.
2. `start_build` looks up first: our deployment id is in the build's metadata, so one intent is one build.
3. What a provider cannot do is missing from `capabilities`; it is never faked.
4. Each call brings the request again: its settings and its credentials are not kept anywhere else.
5. Failures are `DeploymentError`s. Codes in `domain.errors.RETRYABLE` are tried again by the caller, the others end
   the deployment.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from enum import StrEnum
from typing import Any, ClassVar, Literal

from pydantic import Field

from domain.build import Build, BuildRequest, RemovedEnvironment
from domain.deployment import Repository
from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLine
from domain.result import BuildReport, Failure
from domain.wire import Wire

__all__ = [
    "FINAL_STAGES",
    "Build",
    "BuildNews",
    "BuildRequest",
    "BuildStage",
    "Capability",
    "Provider",
    "Publication",
    "RemovedEnvironment",
]


class Capability(StrEnum):
    CANCEL = "cancel"
    LIVE_LOGS = "liveLogs"
    REPOINT = "repoint"
    TRAFFIC_SHARES = "trafficShares"


BuildStage = Literal["initializing", "building", "built", "failed", "canceled", "timeout"]
"""`built`, and those after it, are final. A provider that publishes by itself is `built` once that is done."""

FINAL_STAGES: frozenset[BuildStage] = frozenset({"built", "failed", "canceled", "timeout"})

MOST_LINES = 5000
"""What news may hold at once."""


class BuildNews(Wire):
    """What is new since the cursor of the news before. Lines come in order, each once; all before a final stage."""

    cursor: str = Field(description="opaque; handing it back resumes after these lines")
    lines: list[LogLine] = Field(default_factory=list)
    stage: BuildStage
    step: str | None = None
    waiting: str | None = Field(default=None, description="why the provider lets it wait, where it does")
    repository: Repository | None = None
    failure: Failure | None = Field(default=None, description="with stage failed, canceled, timeout")


class Publication(Wire):
    """Where the deployment is reached. `lines` are for its log.

    `reached_at` is an address of our own, where one serves the host of `deployment_url` to us.
    """

    deployment_url: str | None = None
    reached_at: str | None = None
    preview_urls: list[str] = Field(default_factory=list)
    lines: list[LogLine] = Field(default_factory=list)


class Provider(ABC):
    name: ClassVar[str]
    capabilities: ClassVar[frozenset[Capability]]
    task_queue: str | None = None
    """Where `start_build` has to run; None: any worker."""

    @abstractmethod
    async def start_build(self, request: BuildRequest) -> Build:
        """The build of this deployment: the one that is there, else a new one."""

    async def find_build(self, request: BuildRequest) -> Build | None:
        """The build of this deployment where there is one; starts nothing. None where that cannot be said.

        Asked for a deployment that is ended before it was heard what came of `start_build`, so that no build runs on.
        """
        del request
        return None

    @abstractmethod
    def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        """News from `cursor` on ('' is the beginning), at least one a second, until a final stage has been told.

        A line is told within 300 ms of being written; at most `MOST_LINES` at a time. A build that is gone is told as
        `failed`.
        """

    @abstractmethod
    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        """Returns when the provider says that the build no longer runs (read back); also when it had ended before."""

    @abstractmethod
    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        """Makes what was built reachable, atomically; returns once it has been seen answering.

        Neither this nor `repoint` goes out over a higher `request.publication`. Who cannot compare them where the site
        is awaits `request.check_turn()` right before the call that publishes.
        """

    async def publish_aside(self, request: BuildRequest, build: Build) -> Publication:
        """Makes what was built reachable at an address of its own, where it has one: something newer is live."""
        del request, build
        return Publication()

    async def repoint(self, request: BuildRequest, build: Build) -> Publication:
        """Makes an earlier build live again, without building; returns once it has been seen. For `REPOINT`."""
        del request, build
        message = f"{self.name} cannot make an earlier build live again; deploy its commit again"
        raise DeploymentError(ErrorCode.DEPLOY_FAILED, message)

    @abstractmethod
    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        """Figures of an ended build, well or not. Reads only."""

    async def resolve_commit(self, request: BuildRequest) -> str | None:
        """The commit that the ref means now; None where that cannot be said before the build."""
        del request
        return None

    async def take_down(self, removed: RemovedEnvironment) -> None:
        """Removes what is live of a deleted environment. Called on each task queue that its builds have named.

        Only what belongs to its deployments: another environment may have got the name since.
        """
        del removed

    async def has_in_history(self, request: BuildRequest, commit: str) -> bool | None:
        """Whether what would be deployed has `commit` in its history; None where this provider has no way to say.

        Raises:
            DeploymentError: it could say so, but not now.
        """
        del request, commit
        return None

    async def clean_up(self) -> None:
        """Removes what retention no longer keeps. Called by a schedule on each task queue of the provider."""
        return

    @classmethod
    def check_settings(cls, settings: dict[str, Any], repository_url: str | None) -> None:
        """Refuses a project's `providerSettings` that could not work. Asked when they are saved.

        Raises:
            DeploymentError: invalid-request, with the fields that are wrong.
        """
        del settings, repository_url

    def publishes_itself(self, request: BuildRequest) -> bool:
        """Whether what is `built` is live without being asked for; `publish_build` then says where."""
        del request
        return False

    @classmethod
    def capabilities_of(cls, settings: dict[str, Any]) -> frozenset[Capability]:
        """What it can do for a project with these settings; `capabilities` is what it can do at best."""
        del settings
        return cls.capabilities
