"""A worker is stopped in the middle of a step, others take over and go on; when it wakes, it changes nothing."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from temporalio.testing import ActivityEnvironment

from activities.builds import BuildActivities
from activities.steps import BuildOutcome, BuildStep, StartBuild
from domain.deployment import TriggerDeploymentRequest
from domain.ending import Ending
from domain.log import LogFilter
from domain.project import CreateProjectRequest
from domain.states import Status
from providers.health import AddressChecks
from providers.internal.provider import Internal
from store.database import Database
from store.deployments import DeploymentStore
from store.limits import TriggerLimiter
from store.logs import LogStore
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer
from tests.drawings import ROOT
from tests.providers.conftest import MakeRepository
from tests.providers.git_server import Repository
from tests.providers.internal.stopped import Order, carry_out
from tests.servers import eventually

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = FIRST + timedelta(seconds=15)
SLOW = "for i in 1 2 3; do echo tick $i; done; until [ -e go ]; do sleep 0.05; done; echo tick 4; cp -r src out"


class Here:
    """One project on one host; each deployment puts its text online."""

    def __init__(self, database: Database, sealer: Sealer, internal: Internal, repository: Repository) -> None:
        self.database = database
        self.internal = internal
        self.repository = repository
        self.projects = ProjectStore(database, sealer)
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 100))
        self.progress = ProgressStore(database, sealer)
        self.logs = LogStore(database, sealer)
        self.steps = BuildActivities({"internal": internal}, self.progress, self.logs, AddressChecks())

    async def start(self, text: str, command: str = "cp -r src out") -> BuildStep:
        self.repository.commit({"src/index.html": text})
        asked = {"configuration": {"buildCommand": command, "outputDirectory": "out"}, "concurrency": "parallel"}
        request = TriggerDeploymentRequest.model_validate({"projectId": "shop", "sourceRef": "main", **asked})
        deployment = (await self.deployments.trigger(request, "ada")).answer
        start = StartBuild(deployment_id=deployment.id, provider="internal", build_timeout_seconds=60)
        build = await ActivityEnvironment().run(self.steps.start_build, start)
        return BuildStep(build=build, provider="internal", build_timeout_seconds=60)

    async def follow(self, step: BuildStep) -> None:
        outcome: BuildOutcome = await ActivityEnvironment().run(self.steps.follow_build, step)
        assert outcome.stage == "built"

    def order(self, name: str, step: BuildStep, attempt: datetime) -> Order:
        caddy = self.internal.edge
        return Order(
            database_url=self.database.url,
            root=self.internal.root,
            admin_url=f"unix/{caddy.admin_socket}",
            public_url=caddy.public_url,
            name=name,
            step=step,
            attempt=attempt,
        )

    async def succeed(self, step: BuildStep) -> None:
        await self.progress.finish(step.build.deployment_id, Ending(status=Status.SUCCEEDED))

    async def served(self) -> str:
        port = httpx.URL(self.internal.edge.public_url).port
        async with httpx.AsyncClient() as http:
            answer = await http.get(
                self.internal.edge.public_url, headers={"Host": f"production.shop.localhost:{port}"}
            )
        return answer.text

    async def is_quiet(self) -> bool:
        """Nobody else is in the middle of a transaction."""
        others = "datname = current_database() and pid <> pg_backend_pid() and xact_start is not null"
        return await self.database.fetch_one(f"select 1 from pg_stat_activity where {others}") is None

    async def record(self, step: BuildStep) -> tuple[Any, list[tuple[str, str]]]:
        """All that is known of a deployment: its row, and its log."""
        identity = step.build.deployment_id
        row = await self.database.fetch_one("select * from deployments where id = %(id)s", {"id": identity})
        lines = (await self.logs.page(identity, LogFilter(), limit=1000)).lines
        return row, [(line.id, line.message) for line in lines]


@pytest.fixture
async def here(database: Database, sealer: Sealer, internal: Internal, repository: MakeRepository) -> Here:
    made = repository({"src/index.html": "nothing"})
    project = {"id": "shop", "provider": "internal", "repositoryUrl": made.url}
    here = Here(database, sealer, internal, made)
    await here.projects.create_project(CreateProjectRequest.model_validate(project), "ada")
    return here


@contextlib.asynccontextmanager
async def worker(order: Order) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.providers.internal.stopped", order.model_dump_json(by_alias=True)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def wakes(process: asyncio.subprocess.Process) -> str:
    """What it says in the end."""
    process.send_signal(signal.SIGCONT)
    said, _ = await process.communicate()
    return said.decode().strip()


async def test_one_stopped_before_it_publishes_does_not_go_out_over_what_came_after(here: Here) -> None:
    first = await here.start("first")
    await here.follow(first)

    async def publishes() -> bool:
        row, _ = await here.record(first)
        return row["publication"] is not None and await here.is_quiet()

    async with contextlib.AsyncExitStack() as running:
        async with here.internal.sites.lock():
            stale = await running.enter_async_context(worker(here.order("publish_build", first, FIRST)))
            await eventually(publishes)
            stale.send_signal(signal.SIGSTOP)
        await carry_out(here.order("publish_build", first, SECOND))
        assert await here.served() == "first"
        await here.succeed(first)
        second = await here.start("second")
        await here.follow(second)
        await carry_out(here.order("publish_build", second, SECOND))
        await here.succeed(second)
        known = [await here.record(step) for step in (first, second)]
        assert await wakes(stale) == "Overtaken"
    assert await here.served() == "second"
    assert [await here.record(step) for step in (first, second)] == known


async def test_one_stopped_while_it_follows_a_build_writes_nothing_more(here: Here) -> None:
    step = await here.start("slow", SLOW)

    async def has_ticked_and_waits() -> bool:
        row, log = await here.record(step)
        known = (row["status"], row["commit_sha"] is not None) == (Status.BUILDING, True)
        return known and "tick 3" in [message for _, message in log] and await here.is_quiet()

    async with worker(here.order("follow_build", step, FIRST)) as stale:
        await eventually(has_ticked_and_waits)
        stale.send_signal(signal.SIGSTOP)
        (here.internal.root / "builds" / step.build.deployment_id / "workspace" / "go").touch()
        outcome = await carry_out(here.order("follow_build", step, SECOND))
        assert outcome.stage == "built"
        known = await here.record(step)
        assert await wakes(stale) == "Overtaken"
    assert await here.record(step) == known
    numbers, messages = zip(*known[1], strict=True)
    assert list(numbers) == [str(number) for number in range(1, len(numbers) + 1)]
    assert [message for message in messages if message.startswith("tick")] == [f"tick {n}" for n in (1, 2, 3, 4)]
