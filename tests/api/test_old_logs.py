"""Old logs from outside: the schedule archives and drops them, and every route answers as before, or says why not."""

import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from temporalio.client import ScheduleActionExecutionStartWorkflow

from domain.ending import Ending
from domain.log import LogBatch, LogLevel, LogLine, LogSweep
from domain.states import Status
from store.progress import ProgressStore
from store.seal import Sealer
from tests.api.conftest import PROJECT, Api, served
from tests.conftest import SECRET_KEYS
from tests.drawings import ROOT
from tests.servers import eventually, running
from workflows.control import connect
from workflows.maintenance import KEEP_LOGS

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
TEXT, LINES, EVENTS = "text/plain", "application/x-ndjson", "text/event-stream"


@dataclass(frozen=True)
class Old:
    """An ended deployment with a log of 6,000 lines, and all that can be asked about it."""

    api: Api
    deployment_id: str
    archive: Path

    @property
    def addresses(self) -> list[tuple[str, str]]:
        own = f"/v1/deployments/{self.deployment_id}/logs"
        queries = ("", "?offset=5500&limit=3", "?tail=4", "?after=5990&limit=4", "?level=error&limit=1000", "?step=b")
        return [
            *((own + query, "application/json") for query in queries),
            (f"{own}?q=LINE%20599", "application/json"),
            (own, TEXT),
            (f"{own}?tail=7&level=error", TEXT),
            (f"{own}/stream", EVENTS),
            (f"{own}/stream?follow=false&after=5000", LINES),
            ("/v1/projects/site/logs/search?q=line%2042&limit=50", "application/json"),
            ("/v1/projects/site/deployments?includeLogs=true", "application/json"),
        ]

    async def answers(self) -> list[str]:
        said = []
        for address, accept in self.addresses:
            answer = await self.api("GET", address, headers={"Accept": accept})
            assert answer.status_code == 200, address
            said.append(answer.text)
        return said

    async def chunks(self) -> int:
        row = await self.api.services.database.fetch_one(
            "select (select count(*) from log_chunks_live) + (select count(*) from log_chunks) as count"
        )
        assert row is not None
        return int(row["count"])


@pytest.fixture
async def old(database_url: str, sealer: Sealer, tmp_path: Path) -> AsyncIterator[Old]:
    directory = tmp_path / "archive"
    directory.mkdir()
    async with served(database_url, log_archive=str(directory)) as api:
        await api.make("/v1/projects", PROJECT)
        made = await api.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"})
        lines = [_line(number) for number in range(1, 6_001)]
        await api.services.logs.append(made["id"], LogBatch(stream="build", after="", cursor="6000", lines=lines))
        await ProgressStore(api.services.database, sealer).finish(made["id"], Ending(status=Status.FAILED))
        yield Old(api, made["id"], directory)


def _line(number: int) -> LogLine:
    return LogLine(
        timestamp=BEGAN + timedelta(seconds=number),
        message=f"line {number}",
        level=LogLevel.ERROR if number % 500 == 0 else None,
        step="ab"[number % 2],
    )


@pytest.fixture
async def keep_logs(old: Old, temporal: str, tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[LogSweep]]]:
    """One round of the schedule, by a worker as it is started in production, that keeps logs for no day."""
    client = await connect(temporal, "default", Sealer(SECRET_KEYS))
    schedule = client.get_schedule_handle(KEEP_LOGS)

    async def is_scheduled() -> bool:
        return KEEP_LOGS in [listed.id async for listed in await client.list_schedules()]

    async def round_of_upkeep() -> LogSweep:
        before = (await schedule.describe()).info.num_actions
        await schedule.trigger()

        async def is_over() -> bool:
            info = (await schedule.describe()).info
            return info.num_actions > before and not info.running_actions

        await eventually(is_over)
        action = (await schedule.describe()).info.recent_actions[-1].action
        assert isinstance(action, ScheduleActionExecutionStartWorkflow)
        handle = client.get_workflow_handle(action.workflow_id, run_id=action.first_execution_run_id)
        return LogSweep.model_validate(await handle.result())

    environment = {
        "HEADWAY_DATABASE_URL": old.api.services.database.url,
        "HEADWAY_SECRET_KEYS": SECRET_KEYS,
        "HEADWAY_TEMPORAL_ADDRESS": temporal,
        "HEADWAY_WORKER_ROLES": "workflows",
        "HEADWAY_LOG_ARCHIVE": str(old.archive),
        "HEADWAY_LOG_KEEP_DAYS": "0",
        "PYTHONPATH": str(ROOT),
    }
    argv = [sys.executable, "-m", "worker"]
    async with running(*argv, ready=is_scheduled, log=tmp_path / "worker.log", **environment):
        yield round_of_upkeep
    await schedule.delete()


async def test_every_route_answers_of_an_archived_log_as_before(
    old: Old, keep_logs: Callable[[], Awaitable[LogSweep]]
) -> None:
    before = await old.answers()
    assert await old.chunks() > 0
    done = await keep_logs()
    assert (done.merged, done.archived, done.waiting) == (1, 1, [])
    assert done.dropped > 0
    assert await old.chunks() == 0
    assert await old.answers() == before
    again = await keep_logs()
    assert (again.merged, again.archived, again.waiting) == (0, 0, [])
    assert await old.answers() == before


async def test_an_archive_that_is_away_or_lost_is_said_plainly(
    old: Old, keep_logs: Callable[[], Awaitable[LogSweep]]
) -> None:
    await keep_logs()
    own = f"/v1/deployments/{old.deployment_id}/logs"
    away = old.archive.rename(old.archive.with_name("away"))
    for address in (own, f"{own}?tail=3", "/v1/projects/site/logs/search?q=line"):
        answer = await old.api("GET", address)
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5"), address
        assert answer.json()["detail"].startswith("the archive of logs is out of reach")
    away.rename(old.archive)
    for entry in old.archive.iterdir():
        shutil.rmtree(entry)
    lost = await old.api("GET", f"{own}?tail=3")
    assert (lost.status_code, lost.json()["retryable"]) == (404, False)
    assert lost.json()["detail"].startswith("the archived log is gone")
