"""The last step: the ending is recorded first, then the log is merged, and nothing about that hinders the ending."""

import asyncio
from datetime import UTC, datetime

import pytest
from temporalio.testing import ActivityEnvironment

from activities import records
from activities.records import RecordActivities
from activities.steps import Finish
from domain.deployment import TriggerDeploymentRequest
from domain.ending import Ending
from domain.log import LogBatch, LogFilter, LogLine
from domain.project import CreateProjectRequest
from domain.states import Status
from store.database import Database
from store.deployments import DeploymentStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.logs import LogStore
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer
from tests.servers import eventually


class Bench:
    """A deployment with a log of ten lines, written one by one, that is about to end."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self.database = database
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 10))
        self.logs = LogStore(database, sealer)
        self.steps = RecordActivities(ProgressStore(database, sealer), GateStore(database), self.logs)
        self.deployment_id = ""

    async def accept(self, projects: ProjectStore) -> "Bench":
        project = CreateProjectRequest.model_validate({"id": "shop", "provider": "internal"})
        await projects.create_project(project, "ada")
        request = TriggerDeploymentRequest(project_id="shop", source_ref="main")
        self.deployment_id = (await self.deployments.trigger(request, "ada")).answer.id
        for number in range(10):
            line = LogLine(datetime(2026, 1, 1, tzinfo=UTC), f"line {number + 1}")
            batch = LogBatch(stream="build", after=str(number or ""), cursor=str(number + 1), lines=[line])
            await self.logs.append(self.deployment_id, batch)
        return self

    async def finish(self, environment: ActivityEnvironment | None = None) -> Status:
        step = Finish(deployment_id=self.deployment_id, ending=Ending(status=Status.FAILED))
        return await (environment or ActivityEnvironment()).run(self.steps.finish, step)

    async def chunks(self) -> tuple[int, int]:
        """How many are live, and how many merged."""
        row = await self.database.fetch_one(
            "select (select count(*) from log_chunks_live) as live, (select count(*) from log_chunks) as merged"
        )
        assert row is not None
        return row["live"], row["merged"]

    async def status(self) -> Status:
        return (await self.deployments.get(self.deployment_id)).status

    async def lines(self) -> int:
        return len((await self.logs.page(self.deployment_id, LogFilter(), limit=100)).lines)


@pytest.fixture
async def bench(database: Database, sealer: Sealer) -> Bench:
    return await Bench(database, sealer).accept(ProjectStore(database, sealer))


async def test_the_log_of_an_ended_deployment_is_merged(bench: Bench) -> None:
    assert await bench.chunks() == (10, 0)
    for _ in range(2):
        assert await bench.finish() is Status.FAILED
        assert await bench.chunks() == (0, 1)
        assert await bench.lines() == 10


async def test_a_merge_that_fails_hinders_no_ending(bench: Bench) -> None:
    async with bench.database.transaction() as connection:
        await connection.execute("alter table log_chunks rename to log_chunks_elsewhere")
    assert await bench.finish() is Status.FAILED
    assert await bench.status() is Status.FAILED


async def test_a_merge_that_takes_too_long_is_left_to_the_schedule(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "MERGE_SECONDS", 0.2)
    async with bench.database.transaction() as connection:
        await connection.execute("select from logs for update")
        assert await bench.finish() is Status.FAILED
        assert await bench.status() is Status.FAILED
    assert await bench.chunks() == (10, 0)
    assert await bench.lines() == 10


async def test_a_worker_that_stops_while_it_merges_has_recorded_the_ending(bench: Bench) -> None:
    environment = ActivityEnvironment()

    async def ended() -> bool:
        return await bench.status() is Status.FAILED

    async with bench.database.transaction() as connection:
        await connection.execute("select from logs for update")
        finishing = asyncio.create_task(bench.finish(environment))
        await eventually(ended)
        environment.cancel()
        assert await finishing is Status.FAILED
    assert await bench.chunks() == (10, 0)
