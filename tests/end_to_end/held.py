"""The service in this process, with real workers, and a provider whose steps hold still until they are let go."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from temporalio.client import Client, WorkflowExecutionDescription, WorkflowHandle

import worker
from activities.builds import BuildActivities
from activities.environments import EnvironmentActivities
from activities.maintenance import LogActivities, MaintenanceActivities
from activities.reconcile import ReconcileActivities
from activities.records import RecordActivities
from domain.build import Build, BuildRequest
from domain.deployment import Deployment, TriggerDeploymentRequest, workflow_id
from domain.errors import ErrorCode
from domain.page import PageRequest
from domain.project import CreateProjectRequest, UpdateEnvironmentRequest
from domain.result import BuildReport, Failure
from domain.states import Status
from providers.base import BuildNews, Capability, Provider, Publication
from providers.health import AddressChecks
from store.database import Database
from store.deployments import DeploymentStore
from store.environments import EnvironmentStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.log_upkeep import Keep, LogUpkeep
from store.logs import LogStore
from store.outbox import Outbox
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.pushes import PushStore
from store.reconciliation import ReconciliationStore
from store.seal import Sealer
from tests.servers import eventually
from workflows.control import DeploymentWorkflows, connect
from workflows.dispatch import Dispatcher, WebhookCourier
from workflows.oversight import Oversight


class Held(Provider):
    """Its builds exist in memory. A step that is in `holds` waits until it is taken out."""

    name: ClassVar[str] = "held"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CANCEL})

    def __init__(self, *holds: str) -> None:
        self.holds = set(holds)
        self.made: Counter[str] = Counter()
        self.stopped: set[str] = set()
        self.published: Counter[str] = Counter()
        self.ended = False
        """All builds, whatever is done about them."""
        self.goes_live_itself = False
        self.fails = False

    async def start_build(self, request: BuildRequest) -> Build:
        await self._hold("start")
        if request.deployment_id not in self.made:
            self.made[request.deployment_id] += 1
        return request.build(request.deployment_id)

    async def find_build(self, request: BuildRequest) -> Build | None:
        return request.build(request.deployment_id) if request.deployment_id in self.made else None

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        yield BuildNews(cursor="1", stage="building")
        while "follow" in self.holds and build.build_id not in self.stopped:
            await asyncio.sleep(0.02)
        if build.build_id in self.stopped:
            failure = Failure(code=ErrorCode.CANCELED, message="stopped")
            yield BuildNews(cursor="2", stage="canceled", failure=failure)
        elif self.fails:
            failure = Failure(code=ErrorCode.BUILD_FAILED, message="exit code 2")
            yield BuildNews(cursor="2", stage="failed", failure=failure)
        else:
            yield BuildNews(cursor="2", stage="built")

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        if not self.ended:
            self.stopped.add(build.build_id)

    def publishes_itself(self, request: BuildRequest) -> bool:
        return self.goes_live_itself

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        self.published[build.build_id] += 1
        await self._hold("publish")
        return Publication(deployment_url=f"https://{build.build_id}.example.org/")

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        return BuildReport(artifact_id=build.build_id)

    async def _hold(self, step: str) -> None:
        while step in self.holds:
            await asyncio.sleep(0.02)


@dataclass
class Service:
    database: Database
    provider: Held
    deployments: DeploymentStore
    projects: ProjectStore
    control: DeploymentWorkflows
    temporal: Client
    reconciler: ReconcileActivities
    store: ReconciliationStore

    async def project(self, name: str = "shop", **more: Any) -> str:
        """A new project, by its id."""
        asked = {"id": name, "provider": "held", "concurrency": "queue", **more}
        await self.projects.create_project(CreateProjectRequest.model_validate(asked), "ada")
        return name

    async def protect(self, project: str) -> None:
        """From now on each deployment waits for approval."""
        [environment] = (await self.projects.list_environments(project, PageRequest())).items
        change = UpdateEnvironmentRequest.model_validate({"protection": {"requiredApprovals": 1}})
        await self.projects.update_environment(environment.id, change, "ada")

    async def trigger(self, project: str = "shop", **more: Any) -> str:
        """The id of a deployment whose workflow runs."""
        request = TriggerDeploymentRequest.model_validate({"projectId": project, "sourceRef": "main", **more})
        deployment = (await self.deployments.trigger(request, "ada")).answer
        await self.control.start(deployment)
        await Outbox(self.database).mark_started(deployment.id)
        return deployment.id

    async def becomes(self, identity: str, wanted: Callable[[Deployment], bool]) -> Deployment:
        async def is_so() -> bool:
            return wanted(await self.deployments.get(identity))

        try:
            await eventually(is_so)
        except AssertionError:
            raise AssertionError(await self.deployments.get(identity)) from None
        return await self.deployments.get(identity)

    async def reaches(self, identity: str, status: Status) -> Deployment:
        return await self.becomes(identity, lambda now: now.status is status)

    async def ends(self, identity: str) -> Deployment:
        return await self.becomes(identity, lambda now: now.ended)

    def workflow(self, identity: str) -> WorkflowHandle[Any, Any]:
        return self.temporal.get_workflow_handle(workflow_id(identity))

    async def terminate(self, identity: str) -> None:
        """Returns once Temporal's list has heard of it, which is a little late."""
        await self.workflow(identity).terminate(reason="it hangs")
        oversight = Oversight(self.temporal, self.control)

        async def listed() -> bool:
            return identity not in await oversight.all_open()

        await eventually(listed)

    async def closes(self, identity: str) -> WorkflowExecutionDescription:
        async def closed() -> bool:
            return (await self.workflow(identity).describe()).close_time is not None

        await eventually(closed)
        return await self.workflow(identity).describe()

    async def lanes(self) -> list[str]:
        """By the order of their triggers."""
        return [row["lane"] for row in await self.database.fetch_all("select lane from deployments order by id")]

    async def sql(self, statement: str, **values: Any) -> None:
        await self.database.fetch_all(f"{statement} returning id", values)


@contextlib.asynccontextmanager
async def service(
    database_url: str,
    sealer: Sealer,
    temporal: str,
    directory: Path,
    *,
    provider: Held | None = None,
    builds: bool = True,
) -> AsyncIterator[Service]:
    """Without `builds` nobody starts any."""
    async with contextlib.AsyncExitStack() as parts:
        database = await parts.enter_async_context(Database(database_url, 20))
        client, control = await connect(temporal, "default", sealer), DeploymentWorkflows(temporal, "default", sealer)
        deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 1_000_000))
        outbox, store, logs = Outbox(database), ReconciliationStore(database), LogStore(database, sealer)
        dispatcher = Dispatcher(outbox, control, WebhookCourier(outbox, PushStore(database, deployments), control))
        reconciler = ReconcileActivities(store, Oversight(client, control))
        progress = ProgressStore(database, sealer)
        records = RecordActivities(progress, GateStore(database), logs, dispatcher.wake)
        upkeep = LogActivities(LogUpkeep(database, logs, None, Keep(30, 365)))
        held = provider or Held()
        checks = AddressChecks(allow_private_addresses=True)
        parts.push_async_callback(checks.close)
        steps = BuildActivities({held.name: held}, progress, logs, checks)
        environments = EnvironmentActivities(EnvironmentStore(database), {held.name: held})
        workers = worker.record_workers(client, records, upkeep, environments, reconciler)
        if builds:
            queue = worker.own_queue(directory)
            house = MaintenanceActivities({held.name: held})
            workers += worker.build_workers(client, queue, steps, house, environments)
        for one in workers:
            await parts.enter_async_context(one)
        dispatching = asyncio.create_task(dispatcher.run())
        parts.callback(dispatching.cancel)
        yield Service(database, held, deployments, ProjectStore(database, sealer), control, client, reconciler, store)
        held.holds.clear()  # what still holds would keep the workers from stopping
