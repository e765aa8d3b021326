"""Steps of the same names that do as a script says, and remember what they were asked."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import uuid4

from temporalio import activity
from temporalio.client import Client, WorkflowHandle
from temporalio.exceptions import ApplicationError
from temporalio.worker import Worker

from activities.steps import BuildOutcome, BuildStep, Finish, OfDeployment, RestoreBuild, StartBuild
from domain.build import Build
from domain.ending import Ending
from domain.gate import Look
from domain.result import BuildReport
from domain.states import Status
from workflows.deployment import DeploymentWorkflow
from workflows.plan import BUILD_QUEUE, TASK_QUEUE, DeploymentPlan

BUILT = BuildOutcome(stage="built")
WAIT, GO = Look(), Look(may_go=True)
Handle = WorkflowHandle[DeploymentWorkflow, str]


async def at_once() -> None:
    """A step that takes no time."""


@dataclass
class Script:
    """What each step does before it answers; `outcome` is how the build ends."""

    start: Callable[[], Awaitable[None]] = at_once
    follow: Callable[[], Awaitable[None]] = at_once
    publish: Callable[[], Awaitable[None]] = at_once
    find: Callable[[], Awaitable[None]] = at_once
    stop: Callable[[], Awaitable[None]] = at_once
    collect: Callable[[], Awaitable[None]] = at_once
    outcome: BuildOutcome = BUILT
    look: Look = WAIT
    looks: int = 0
    earlier: Build | None = None
    lost: Build | None = None
    can_restore: bool = True
    can_pin: bool = True
    pinned: int = 0
    restored: set[str] = field(default_factory=set)
    started: set[str] = field(default_factory=set)
    stopped: set[str] = field(default_factory=set)
    published: set[str] = field(default_factory=set)
    endings: dict[str, Ending] = field(default_factory=dict)

    def steps(self) -> list[Callable[..., Any]]:
        return [
            self.start_build,
            self.find_build,
            self.pin_commit,
            self.restore_build,
            self.follow_build,
            self.publish_build,
            self.cancel_build,
            self.collect_result,
        ]

    @activity.defn
    async def start_build(self, step: StartBuild) -> Build:
        self.started.add(step.deployment_id)  # the work is done; the answer comes later
        await self.start()
        return Build(
            deployment_id=step.deployment_id, project_id="shop", environment="production", build_id=step.deployment_id
        )

    @activity.defn
    async def find_build(self, step: StartBuild) -> Build | None:
        await self.find()
        return self.lost and self.lost.model_copy(update={"deployment_id": step.deployment_id})

    @activity.defn
    async def pin_commit(self, step: StartBuild) -> None:
        self.pinned += 1
        if not self.can_pin:
            raise ApplicationError("no such repository", non_retryable=True)

    @activity.defn
    async def restore_build(self, step: RestoreBuild) -> bool:
        self.restored.add(step.deployment_id)
        return self.can_restore

    @activity.defn
    async def follow_build(self, step: BuildStep) -> BuildOutcome:
        beats = asyncio.create_task(_beat())
        try:
            await self.follow()
        finally:
            beats.cancel()
        return self.outcome

    @activity.defn
    async def publish_build(self, step: BuildStep) -> None:
        await self.publish()
        self.published.add(step.build.deployment_id)

    @activity.defn
    async def cancel_build(self, step: BuildStep) -> None:
        await self.stop()
        self.stopped.add(step.build.deployment_id)

    @activity.defn
    async def collect_result(self, step: BuildStep) -> BuildReport:
        await self.collect()
        return BuildReport(artifact_id="sha256:1")

    @activity.defn
    async def look_at_gate(self, step: OfDeployment) -> Look:
        self.looks += 1
        return self.look

    @activity.defn
    async def build_to_restore(self, step: OfDeployment) -> Build | None:
        return self.earlier

    @activity.defn
    async def finish(self, step: Finish) -> Status:
        return self.endings.setdefault(step.deployment_id, step.ending).status


async def _beat() -> None:
    while True:
        activity.heartbeat()
        await asyncio.sleep(0.05)


def record_worker(client: Client, script: Script) -> Worker:
    """Decides and records, and starts no build."""
    return Worker(
        client,
        task_queue=TASK_QUEUE,
        workflows=[DeploymentWorkflow],
        activities=[script.look_at_gate, script.build_to_restore, script.finish],
        build_id="test",
    )


def build_worker(client: Client, script: Script) -> Worker:
    throttle = timedelta(milliseconds=50)
    return Worker(
        client,
        task_queue=BUILD_QUEUE,
        activities=script.steps(),
        build_id="test",
        max_heartbeat_throttle_interval=throttle,
    )


@contextlib.asynccontextmanager
async def workers(client: Client, script: Script) -> AsyncIterator[None]:
    """Both kinds of worker, with the script's steps and the real workflow."""
    async with record_worker(client, script), build_worker(client, script):
        yield


async def start(client: Client, **plan: Any) -> Handle:
    deployment_id = uuid4().hex
    defaults = {
        "deployment_id": deployment_id,
        "project_id": "shop",
        "environment": "production",
        "provider": "internal",
        "source_ref": "main",
        "skip_deploy": False,
        "timeout_seconds": 60,
        "build_timeout_seconds": 60,
    }
    return await client.start_workflow(
        DeploymentWorkflow.run,
        DeploymentPlan.model_validate({**defaults, **plan}),
        id=f"deployment-{deployment_id}",
        task_queue=TASK_QUEUE,
    )
