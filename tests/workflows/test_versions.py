"""A rolling upgrade with real workers of two versions: what began under the old one ends there, and nothing is lost."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from temporalio.api.workflowservice.v1 import DescribeWorkerDeploymentRequest
from temporalio.client import Client, WorkflowExecutionDescription
from temporalio.service import RPCError
from temporalio.worker import Replayer

from domain.deployment import TriggerDeploymentRequest, workflow_id
from domain.project import CreateProjectRequest
from domain.states import Status
from store.database import Database
from store.deployments import DeploymentStore
from store.limits import TriggerLimiter
from store.projects import ProjectStore
from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.drawings import ROOT
from tests.servers import TEMPORAL, eventually, running, temporal_server
from tests.workflows.doubles import Script, build_worker
from tests.workflows.test_replay import CONVERTER
from workflows.control import connect
from workflows.deployment import DeploymentWorkflow
from workflows.versions import NAME


@dataclass
class Fleet:
    """Real worker processes, and a builder without a version that does as a script says."""

    client: Client
    temporal: str
    database: Database
    directory: Path
    projects: ProjectStore
    deployments: DeploymentStore
    script: Script
    processes: dict[str, AsyncExitStack] = field(default_factory=dict)

    async def start(self, build_id: str, versioning: str = "pinned") -> None:
        environment = {
            "HEADWAY_DATABASE_URL": self.database.url,
            "HEADWAY_TEMPORAL_ADDRESS": self.temporal,
            "HEADWAY_SECRET_KEYS": SECRET_KEYS,
            "HEADWAY_WORKER_ROLES": "workflows",
            "HEADWAY_WORKER_VERSIONING": versioning,
            "HEADWAY_BUILD_ID": build_id,
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }

        async def ready() -> bool:
            return self.has_said(build_id, "worker is ready")

        stack = self.processes[build_id] = AsyncExitStack()
        log = self._log(build_id)
        log.unlink(missing_ok=True)
        await stack.enter_async_context(running(sys.executable, "-m", "worker", ready=ready, log=log, **environment))

    async def stop(self, build_id: str) -> None:
        await self.processes.pop(build_id).aclose()

    def _log(self, build_id: str) -> Path:
        return self.directory / f"{build_id}.log"

    def has_said(self, build_id: str, what: str) -> bool:
        return self._log(build_id).exists() and what in self._log(build_id).read_text()

    async def says(self, build_id: str, what: str) -> None:
        async def said() -> bool:
            return self.has_said(build_id, what)

        await eventually(said)

    async def current(self) -> str:
        asked = DescribeWorkerDeploymentRequest(namespace="default", deployment_name=NAME)
        found = await self.client.workflow_service.describe_worker_deployment(asked)
        return found.worker_deployment_info.routing_config.current_deployment_version.build_id

    async def trigger(self, project: str) -> str:
        """The id of a deployment; a worker starts it."""
        request = TriggerDeploymentRequest.model_validate({"projectId": project, "sourceRef": "main"})
        return (await self.deployments.trigger(request, "ada")).answer.id

    async def builds(self, identity: str) -> None:
        async def begun() -> bool:
            return identity in self.script.started

        await eventually(begun)

    async def succeeds(self, identity: str) -> None:
        async def ended() -> bool:
            return (await self.deployments.get(identity)).ended

        await eventually(ended)
        assert (await self.deployments.get(identity)).status is Status.SUCCEEDED

    async def seen(self, identity: str) -> WorkflowExecutionDescription:
        return await self.client.get_workflow_handle(workflow_id(identity)).describe()

    async def version_of(self, identity: str) -> str:
        info = (await self.seen(identity)).raw_description.workflow_execution_info
        return info.versioning_info.deployment_version.build_id

    async def comes_to(self, identity: str, build_id: str) -> None:
        async def there() -> bool:
            with contextlib.suppress(RPCError):  # it may not have been started yet
                return await self.version_of(identity) == build_id
            return False

        await eventually(there)

    async def tell(self, identity: str) -> None:
        await self.client.get_workflow_handle(workflow_id(identity)).signal(DeploymentWorkflow.look_again)


@pytest.fixture
async def fleet(tmp_path: Path, database: Database, sealer: Sealer) -> AsyncIterator[Fleet]:
    """On a Temporal server of its own: a version that is current leaves the workers of other tests without work."""
    async with temporal_server(tmp_path) as address, AsyncExitStack() as parts:
        client = await connect(address, "default", sealer)
        projects = ProjectStore(database, sealer)
        for name in ("shop", "blog", "docs"):
            asked = {"id": name, "provider": "vercel", "concurrency": "queue"}
            await projects.create_project(CreateProjectRequest.model_validate(asked), "ada")
        deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 100))
        fleet = Fleet(client, address, database, tmp_path, projects, deployments, Script())
        await parts.enter_async_context(build_worker(client, fleet.script))
        yield fleet
        for build_id in list(fleet.processes):
            await fleet.stop(build_id)


async def test_old_and_new_workers_side_by_side(fleet: Fleet) -> None:
    go_on = asyncio.Event()

    async def until_told() -> None:
        await go_on.wait()

    fleet.script.follow = until_told
    await fleet.start("one")
    old = await fleet.trigger("shop")
    await fleet.builds(old)  # on a new install the first version takes its place by itself
    in_line = await fleet.trigger("shop")
    await fleet.comes_to(in_line, "one")

    await fleet.start("two")
    await fleet.says("two", "new deployments begin in this version")
    new = await fleet.trigger("blog")
    await fleet.builds(new)
    assert [await fleet.version_of(one) for one in (old, new)] == ["one", "two"]

    await fleet.tell(in_line)
    await fleet.comes_to(in_line, "two")

    await fleet.stop("one")  # and again: it does not take the place of its successor
    await fleet.start("one")
    await fleet.says("one", "this one is needed until it is drained")
    assert await fleet.current() == "two"

    go_on.set()
    for one in (old, new, in_line):
        await fleet.succeeds(one)
    assert [await fleet.version_of(one) for one in (old, new, in_line)] == ["one", "two", "two"]
    await fleet.says("one", "this version is drained: its workers may be stopped")
    await fleet.stop("one")
    last = await fleet.trigger("docs")
    await fleet.succeeds(last)

    replayer = Replayer(workflows=[DeploymentWorkflow], data_converter=CONVERTER, build_id="replay")
    for one in (old, in_line):
        handle = fleet.client.get_workflow_handle(workflow_id(one))
        await replayer.replay_workflow(await handle.fetch_history())

    # Back to workers without versions: they say what is to be done, and with it nothing is left behind.
    await fleet.stop("two")
    await fleet.start("three", "off")
    await fleet.says("three", "--unversioned --ignore-missing-task-queues")
    waiting = await fleet.trigger("docs")
    lines = [json.loads(line) for line in (fleet.directory / "three.log").read_text().splitlines() if line[:1] == "{"]
    [said] = [line["event"] for line in lines if "--unversioned" in line["event"]]
    words = said.partition("temporal ")[2].split()
    process = await asyncio.create_subprocess_exec(
        TEMPORAL, *words, "--yes", "--address", fleet.temporal, env=dict(os.environ)
    )
    assert await process.wait() == 0
    await fleet.succeeds(waiting)
