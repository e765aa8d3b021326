"""The log: numbers without gap or double, whoever stores a batch and however often."""

import asyncio

import pytest

from domain.deployment import TriggerDeploymentRequest
from domain.log import LogBatch, LogFilter, LogLevel
from domain.project import Project
from store.deployments import DeploymentStore
from store.logs import LogStore
from tests.store.conftest import line


@pytest.fixture
async def deployment_id(deployments: DeploymentStore, shop: Project) -> str:
    request = TriggerDeploymentRequest(project_id="shop", source_ref="main")
    return (await deployments.trigger(request, "ada")).answer.id


def batch(after: int, count: int, stream: str = "build") -> LogBatch:
    lines = [line(f"{stream} {after + number}") for number in range(1, count + 1)]
    return LogBatch(stream=stream, after=str(after or ""), cursor=str(after + count), lines=lines)


async def test_a_batch_that_is_stored_twice_is_there_once(logs: LogStore, deployment_id: str) -> None:
    for _ in range(3):
        assert (await logs.append(deployment_id, batch(0, 2))).cursor == "2"
    assert (await logs.append(deployment_id, batch(2, 1))).cursor == "3"
    assert [stored.id for stored in (await logs.page(deployment_id, LogFilter(), limit=10)).lines] == ["1", "2", "3"]


async def test_writers_at_once_neither_lose_nor_double_a_line(logs: LogStore, deployment_id: str) -> None:
    async def pump(stream: str) -> None:
        for start in range(0, 50, 5):
            await logs.append(deployment_id, batch(start, 5, stream))

    # Two workers that both believe that they follow the build, and a third stream beside.
    await asyncio.gather(pump("build"), pump("build"), pump("publish"))
    stored = (await logs.page(deployment_id, LogFilter(), limit=1000)).lines
    assert [int(entry.id) for entry in stored] == list(range(1, len(stored) + 1))
    for stream in ("build", "publish"):
        messages = [entry.message for entry in stored if entry.message.startswith(stream)]
        assert messages == [f"{stream} {number}" for number in range(1, 51)]


async def test_readers_choose_lines(logs: LogStore, deployment_id: str) -> None:
    lines = [
        line("plain"),
        line("100% done_", step="build", level="warn"),
        line("boom", source="deploy", level="error", metadata={"file": "a.c"}),
    ]
    await logs.append(deployment_id, LogBatch(stream="build", after="", cursor="3", lines=lines))

    async def ids(**wanted: object) -> list[str]:
        page = await logs.page(deployment_id, LogFilter.model_validate(wanted), limit=10)
        return [stored.id for stored in page.lines]

    assert await ids(level=LogLevel.WARN) == ["2", "3"]
    assert await ids(step="build") == ["2"]
    assert await ids(source="deploy") == ["3"]
    assert await ids(query="0% DONE_") == ["2"]
    assert await ids(since=lines[0].timestamp) == ["1", "2", "3"]
    assert [stored.id for stored in (await logs.page(deployment_id, LogFilter(), limit=10, tail=2)).lines] == ["2", "3"]
    assert [stored.id for stored in (await logs.page(deployment_id, LogFilter(), limit=10, after=1)).lines] == [
        "2",
        "3",
    ]
    assert [stored.id for stored in (await logs.page(deployment_id, LogFilter(), limit=1, offset=1)).lines] == ["2"]


async def test_a_nul_in_a_line_is_left_out(logs: LogStore, deployment_id: str) -> None:
    await logs.append(deployment_id, LogBatch(stream="build", after="", cursor="1", lines=[line("a\x00b")]))
    assert (await logs.page(deployment_id, LogFilter(), limit=1)).lines[0].message == "ab"
