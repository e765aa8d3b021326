"""Attempts that were taken over: from the first write of the next one on, they change nothing."""

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest

from domain.build import Build
from domain.deployment import Deployment, Repository, TriggerDeploymentRequest
from domain.ending import Ending
from domain.fence import ATTEMPT, Overtaken
from domain.log import LogBatch, LogFilter
from domain.project import Project
from domain.states import Status
from store.database import Database
from store.deployments import DeploymentStore
from store.logs import LogStore
from store.progress import ProgressStore
from tests.store.conftest import line

FIRST = datetime(2026, 1, 1, tzinfo=UTC)
SECOND = FIRST + timedelta(microseconds=1)
WRITES: dict[str, Callable[[ProgressStore, str], Awaitable[object]]] = {
    "reach": lambda progress, of: progress.reach(of, Status.BUILDING),
    "reach with an address": lambda progress, of: progress.reach(of, Status.QUEUED, deployment_url="https://x/"),
    "wait": lambda progress, of: progress.wait_for_provider(of, "away"),
    "note a build": lambda progress, of: progress.note_build(
        Build(deployment_id=of, project_id="shop", environment="production", build_id="b1")
    ),
    "pin": lambda progress, of: progress.pin_commit(of, "f" * 40),
    "note a repository": lambda progress, of: progress.note_repository(of, Repository(url="https://x/y", branch="b")),
    "publish": lambda progress, of: progress.begin_publication(of),
    "finish": lambda progress, of: progress.finish(of, Ending(status=Status.FAILED)),
}


@contextlib.contextmanager
def attempt(scheduled_at: datetime) -> Iterator[None]:
    token = ATTEMPT.set(scheduled_at)
    try:
        yield
    finally:
        ATTEMPT.reset(token)


@pytest.fixture
async def deployment(deployments: DeploymentStore, shop: Project) -> Deployment:
    return (await deployments.trigger(TriggerDeploymentRequest(project_id="shop", source_ref="main"), "ada")).answer


async def everything(database: Database) -> list[str]:
    tables = ("deployments", "environments", "events", "results", "log_streams", "logs", "audit")
    return [str(await database.fetch_all(f"select * from {table} order by 1, 2")) for table in tables]


@pytest.mark.parametrize("name", WRITES)
async def test_an_attempt_that_was_taken_over_writes_nothing(
    deployment: Deployment, database: Database, progress: ProgressStore, name: str
) -> None:
    with attempt(SECOND):
        await progress.reach(deployment.id, Status.QUEUED)
    before = await everything(database)
    with attempt(FIRST), pytest.raises(Overtaken):
        await WRITES[name](progress, deployment.id)
    assert await everything(database) == before
    with attempt(SECOND):
        await WRITES[name](progress, deployment.id)
    assert await everything(database) != before


@pytest.mark.parametrize("name", WRITES)
async def test_each_write_ends_what_earlier_attempts_may_do(
    deployment: Deployment, progress: ProgressStore, name: str
) -> None:
    with attempt(FIRST):
        await progress.reach(deployment.id, Status.QUEUED)
    with attempt(SECOND):
        await WRITES[name](progress, deployment.id)
    if name != "finish":  # what has ended, nobody changes
        with attempt(FIRST), pytest.raises(Overtaken):
            await progress.reach(deployment.id, Status.INITIALIZING)


async def test_nobody_is_refused_until_the_next_attempt_writes_nor_outside_of_steps(
    deployment: Deployment, progress: ProgressStore
) -> None:
    with attempt(FIRST):
        await progress.reach(deployment.id, Status.QUEUED)
        await progress.reach(deployment.id, Status.INITIALIZING)
    with attempt(SECOND):
        await progress.build_request(deployment.id, timedelta())
    with attempt(FIRST):
        await progress.reach(deployment.id, Status.BUILDING)
    with attempt(SECOND):
        await progress.reach(deployment.id, Status.BUILDING)
    assert (await progress.finish(deployment.id, Ending(status=Status.FAILED))).status is Status.FAILED


async def test_an_attempt_that_was_taken_over_adds_no_line_to_the_log(
    deployment: Deployment, logs: LogStore, database: Database
) -> None:
    def batch(after: str, cursor: str) -> LogBatch:
        return LogBatch(stream="build", after=after, cursor=cursor, lines=[line(f"line {cursor}")])

    with attempt(FIRST):
        await logs.append(deployment.id, batch("", "1"))
    with attempt(SECOND):
        await logs.append(deployment.id, batch("1", "2"))
    before = await everything(database)
    with attempt(FIRST):
        for late in (batch("2", "3"), batch("1", "2"), batch("0", "1")):
            with pytest.raises(Overtaken):
                await logs.append(deployment.id, late)
        with pytest.raises(Overtaken):
            await logs.position(deployment.id, "build")
    assert await everything(database) == before
    await logs.append(deployment.id, batch("2", "3"))
    with attempt(FIRST), pytest.raises(Overtaken):
        await logs.append(deployment.id, batch("3", "4"))
    read = (await logs.page(deployment.id, LogFilter(), limit=10)).lines
    assert [(one.id, one.message) for one in read] == [(str(n), f"line {n}") for n in (1, 2, 3)]
