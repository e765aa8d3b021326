"""Readers and writers of streams, for the tests of logs and events."""

import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx

from domain.log import LogBatch, LogLevel, LogLine
from tests.api.conftest import FIRST_TOKEN, Api

NDJSON = {"Accept": "application/x-ndjson"}


async def write(api: Api, deployment_id: str, first: int, last: int, text: str = "line {}\u2028") -> None:
    """Lines `first` to `last`; `{}` in their text is the number. Of level info, and every tenth an error."""
    lines = [
        LogLine(
            timestamp=datetime(2026, 1, 1, tzinfo=UTC),
            message=text.format(number),
            level=LogLevel.INFO if number % 10 else LogLevel.ERROR,
        )
        for number in range(first, last + 1)
    ]
    after = str(first - 1) if first > 1 else ""
    await api.services.logs.append(deployment_id, LogBatch(stream="build", after=after, cursor=str(last), lines=lines))


@contextlib.asynccontextmanager
async def opened(
    api: Api, address: str, headers: dict[str, str] | None = None, token: str = FIRST_TOKEN
) -> AsyncIterator[httpx.Response]:
    carried = {"Authorization": f"Bearer {token}", **(headers or {})}
    async with api.client.stream("GET", address, headers=carried) as answer:
        assert answer.status_code == 200
        yield answer


async def events(answer: httpx.Response) -> AsyncIterator[dict[str, str]]:
    """Server-sent events as they come; comments are left out."""
    event: dict[str, str] = {}
    async for line in answer.aiter_lines():
        name, _, value = line.partition(": ")
        if line and name:
            event[name] = value
        elif event:
            yield event
            event = {}


async def whole(api: Api, address: str, headers: dict[str, str] | None = None) -> list[dict[str, str]]:
    async with opened(api, address, headers) as answer:
        return [event async for event in events(answer)]


async def numbers_of(api: Api, address: str) -> list[int]:
    """The lines of a log's stream, to its end."""
    read = await whole(api, address)
    assert read[-1]["event"] == "end"
    return [int(event["id"]) for event in read[:-1]]


async def open_streams(api: Api, kind: str) -> int:
    page = (await api.client.get("/metrics")).text
    counts = [line for line in page.splitlines() if line.startswith(f'headway_open_streams{{kind="{kind}"}} ')]
    return int(float(counts[0].split()[1])) if counts else 0
