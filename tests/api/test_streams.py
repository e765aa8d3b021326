"""Streams over a real connection: history, then what comes, once and in order, until nothing more can come."""

import asyncio
import json
import time
from typing import Any

import pytest

from domain.ending import Ending
from domain.states import Status
from store.database import Database
from store.progress import ProgressStore
from store.seal import Sealer
from tests.api.conftest import PROJECT, Api
from tests.api.reading import NDJSON, events, open_streams, opened, whole, write
from tests.servers import eventually


@pytest.fixture
def progress(database: Database, sealer: Sealer) -> ProgressStore:
    return ProgressStore(database, sealer)


@pytest.fixture
async def deployment_id(live: Api) -> str:
    await live.make("/v1/projects", PROJECT)
    identity: str = (await live.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"}))["id"]
    return identity


async def test_a_log_is_followed_without_gap_or_double_to_its_end(
    live: Api, deployment_id: str, progress: ProgressStore
) -> None:
    await write(live, deployment_id, 1, 1500)

    async def build() -> None:
        for first in range(1501, 2001, 100):
            await write(live, deployment_id, first, first + 99)
        await progress.finish(deployment_id, Ending(status=Status.FAILED))

    address = f"/v1/deployments/{deployment_id}/logs/stream"
    async with opened(live, address) as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        building = asyncio.create_task(build())
        read = [event async for event in events(answer)]
    await building
    assert [int(event["id"]) for event in read[:-1]] == list(range(1, 2001))
    assert {event["event"] for event in read[:-1]} == {"log"}
    assert json.loads(read[0]["data"])["message"] == "line 1\u2028"
    assert read[-1]["event"] == "end"


async def test_a_reader_that_dropped_off_resumes_after_its_last_line(
    live: Api, deployment_id: str, progress: ProgressStore
) -> None:
    await write(live, deployment_id, 1, 10)
    await progress.finish(deployment_id, Ending(status=Status.FAILED))
    address = f"/v1/deployments/{deployment_id}/logs/stream"
    by_header = await whole(live, address, {"Last-Event-ID": "8"})
    by_query = await whole(live, f"{address}?after=9", {"Last-Event-ID": "2"})
    assert [event.get("id") for event in by_header] == ["9", "10", None]
    assert [event.get("id") for event in by_query] == ["10", None]


async def test_without_follow_it_ends_after_what_is_there(live: Api, deployment_id: str) -> None:
    await write(live, deployment_id, 1, 3)
    read = await whole(live, f"/v1/deployments/{deployment_id}/logs/stream?follow=false")
    assert [event["event"] for event in read] == ["log", "log", "log", "end"]


async def test_json_lines_are_the_same_documents(live: Api, deployment_id: str, progress: ProgressStore) -> None:
    await write(live, deployment_id, 1, 3)
    await progress.finish(deployment_id, Ending(status=Status.FAILED))
    address = f"/v1/deployments/{deployment_id}/logs/stream"
    async with opened(live, address, NDJSON) as answer:
        assert answer.headers["Content-Type"].startswith("application/x-ndjson")
        lines = (await answer.aread()).decode().split("\n")
    as_events = await whole(live, address)
    assert lines[:3] == [event["data"] for event in as_events[:3]]
    assert lines[3:] == ['{"event":"end"}', ""]


async def test_each_change_of_a_deployment_is_told_until_it_has_ended(
    live: Api, deployment_id: str, progress: ProgressStore
) -> None:
    async def work() -> None:
        for status in (Status.QUEUED, Status.INITIALIZING, Status.BUILDING):
            await progress.reach(deployment_id, status)
        await progress.finish(deployment_id, Ending(status=Status.FAILED))

    address = f"/v1/deployments/{deployment_id}/events"
    async with opened(live, address) as answer:
        working = asyncio.create_task(work())
        read = [event async for event in events(answer)]
    await working
    documents = [json.loads(event["data"]) for event in read[:-1]]
    assert [document["status"] for document in documents] == [
        "created", "queued", "initializing", "building", "failed",
    ]  # fmt: skip
    assert [int(event["id"]) for event in read[:-1]] == [document["version"] for document in documents]
    assert read[-1]["event"] == "end"
    resumed = await whole(live, address, {"Last-Event-ID": read[2]["id"]})
    assert [event.get("id") for event in resumed] == [event.get("id") for event in read[3:]]


async def test_a_projects_stream_begins_now_unless_told_otherwise(
    live: Api, deployment_id: str, progress: ProgressStore
) -> None:
    address = "/v1/projects/site/events"
    async with opened(live, address) as answer, opened(live, f"{address}?after=0") as complete:
        await progress.reach(deployment_id, Status.QUEUED)
        from_now, from_start = events(answer), events(complete)
        now = await anext(from_now)
        earlier = [await anext(from_start), await anext(from_start)]
    assert json.loads(now["data"])["status"] == "queued"
    assert [json.loads(event["data"])["status"] for event in earlier] == ["created", "queued"]
    assert [event["id"] for event in earlier] == ["1", now["id"]]


async def test_a_revoked_token_ends_its_open_streams(live: Api, deployment_id: str) -> None:
    made = await live.make("/v1/tokens", {"subject": "ci", "scopes": ["read"], "projects": ["site"]})
    await write(live, deployment_id, 1, 1)
    address = f"/v1/deployments/{deployment_id}/logs/stream"
    async with opened(live, address, token=made["token"]) as answer:
        stream = events(answer)
        assert (await anext(stream))["event"] == "log"
        await live("DELETE", f"/v1/tokens/{made['id']}")
        revoked = time.monotonic()
        assert [event async for event in stream] == []
        assert time.monotonic() - revoked < 2.5


async def test_a_silent_stream_sends_heartbeats(live: Api, deployment_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.streams.HEARTBEAT_SECONDS", 0.1)
    address = f"/v1/deployments/{deployment_id}/logs/stream"
    for headers, heartbeat in (({}, ": "), (NDJSON, "")):
        async with opened(live, address, headers) as answer:
            assert await anext(answer.aiter_lines()) == heartbeat


async def test_open_streams_are_counted(live: Api, deployment_id: str) -> None:
    await write(live, deployment_id, 1, 1)
    async with opened(live, f"/v1/deployments/{deployment_id}/logs/stream") as answer:
        stream = events(answer)
        await anext(stream)
        assert await open_streams(live, "logs") == 1

    async def closed() -> bool:
        return await open_streams(live, "logs") == 0

    await eventually(closed)


async def test_many_readers_of_one_log_all_read_all_of_it(
    live: Api, deployment_id: str, progress: ProgressStore
) -> None:
    async def read() -> list[int]:
        got: list[Any] = await whole(live, f"/v1/deployments/{deployment_id}/logs/stream")
        return [int(event["id"]) for event in got if event["event"] == "log"]

    readers = [asyncio.create_task(read()) for _ in range(20)]
    for first in range(1, 101, 10):
        await write(live, deployment_id, first, first + 9)
    await progress.finish(deployment_id, Ending(status=Status.FAILED))
    for lines in await asyncio.gather(*readers):
        assert lines == list(range(1, 101))
