"""The live log under those who read it badly: slow ones, ones that leave, many at once, and three processes."""

import asyncio
import contextlib
import random
import re
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from api.app import create_app
from api.log_ring import BLOCK_BYTES, Ring, taken
from api.streams import EVENTS, LINES
from domain.ending import Ending
from domain.errors import DeploymentError
from domain.log import DeploymentLog
from domain.states import Status
from store.database import Database
from store.logs import LogStore
from store.progress import ProgressStore
from store.seal import Sealer
from tests.api.conftest import FIRST_TOKEN, PROJECT, Api, served, serving, settings_for
from tests.api.reading import NDJSON, numbers_of, open_streams, opened, whole, write
from tests.servers import eventually

LONG = "{} " + "x" * 4000


@dataclass(frozen=True)
class Build:
    """A deployment whose log a test writes."""

    api: Api
    deployment_id: str
    progress: ProgressStore

    @property
    def address(self) -> str:
        return f"/v1/deployments/{self.deployment_id}/logs/stream"

    async def write(self, first: int, last: int, text: str = "line {}") -> None:
        await write(self.api, self.deployment_id, first, last, text)

    async def end(self) -> None:
        await self.progress.finish(self.deployment_id, Ending(status=Status.FAILED))


@pytest.fixture
async def build(live: Api, database: Database, sealer: Sealer) -> Build:
    await live.make("/v1/projects", PROJECT)
    made = await live.make("/v1/deployments", {"projectId": "site", "sourceRef": "main"})
    return Build(live, made["id"], ProgressStore(database, sealer))


class Raw:
    """A reader at the socket, which reads when it is told to and not before."""

    def __init__(self, api: Api, address: str, resume: Sequence[int] = ()) -> None:
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 262_144)
        self.socket.connect(("127.0.0.1", api.client.base_url.port))
        headers = ["Host: x", f"Authorization: Bearer {FIRST_TOKEN}", *(f"Last-Event-ID: {last}" for last in resume)]
        self.socket.sendall("\r\n".join([f"GET {address} HTTP/1.1", *headers, "", ""]).encode())
        self.socket.setblocking(False)
        self.read = bytearray()

    async def more(self) -> bool:
        """Reads a little; False when the connection is gone."""
        try:
            chunk = await asyncio.get_running_loop().sock_recv(self.socket, 65_536)
        except ConnectionResetError:
            return False
        self.read += chunk
        return bool(chunk)

    async def until(self, words: bytes) -> None:
        while words not in self.read:
            assert await self.more(), self.read[-200:]

    async def until_gone(self) -> None:
        while await self.more():
            pass

    def ids(self) -> list[int]:
        """Of the lines that came whole."""
        return [int(number) for number in re.findall(rb"\nid: (\d+)\n\n", self.read)]

    def leave_at_once(self) -> None:
        """By a reset, whatever is under way."""
        if self.socket.fileno() >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.socket.close()


Dial = Callable[..., Raw]


@pytest.fixture
def dial() -> Iterator[Dial]:
    readers: list[Raw] = []

    def one(*arguments: Any, **options: Any) -> Raw:
        readers.append(Raw(*arguments, **options))
        return readers[-1]

    yield one
    for reader in readers:
        reader.leave_at_once()


def log(number: int, message: str = "some words") -> DeploymentLog:
    return DeploymentLog.model_validate(
        {"id": str(number), "deployment_id": "d", "timestamp": "2026-01-01T00:00:00Z", "message": message}
    )


def test_a_ring_holds_the_newest_lines_and_no_more_than_it_may() -> None:
    ring = Ring(7)
    for number in range(8, 5000):
        ring.add([log(number)])
    assert 7 < ring.start < ring.head == 4999
    assert ring.head - ring.start <= 1000
    assert ring.after(ring.start - 1) is None
    assert [block.last for block in ring.after(4997) or []] == [4998, 4999]
    assert ring.after(4999) == []
    ring.add([log(number, "x" * 10_000) for number in range(5000, 5400)])
    assert sum(block.bytes for block in ring.after(ring.start) or []) <= 16 * BLOCK_BYTES
    ring.forget(float("inf"))
    assert (ring.after(5398), ring.after(5399)) == (None, [])


@pytest.mark.parametrize("form", [EVENTS, LINES])
def test_a_viewer_inside_a_block_takes_the_lines_after_its_own(form: Any) -> None:
    ring = Ring(0)
    ring.add([log(1), log(2), log(3)])
    ring.add([log(4)])
    [part], position, _ = taken(ring.after(2) or [], 2, form)
    assert position == 4
    assert re.findall(rb'"id":"(\d)"', part) == [b"3", b"4"]


def test_small_blocks_are_sent_together_and_a_long_line_alone() -> None:
    ring = Ring(0)
    for line in (log(1), log(2, "x" * 2 * BLOCK_BYTES), log(3), *(log(n, "x" * 1000) for n in range(4, 100))):
        ring.add([line])
    position, sent = 0, []
    while blocks := ring.after(position):
        (part,), position, _ = taken(blocks, position, LINES)
        sent.append(part)
    assert b"".join(sent).count(b"\n") == 99
    assert [part.count(b"\n") for part in sent[:2]] == [1, 1]
    assert len(sent) == 4


async def test_viewers_that_drop_off_and_resume_anywhere_read_every_line_once(
    live: Api, database_url: str, build: Build, dial: Dial
) -> None:
    lines, drops = 3000, 100
    dice = random.Random(7)
    reached = [0, 0, 0]

    async def grow() -> None:
        """Never much further than the first of the viewers is."""
        first = 1

        async def one_is_near() -> bool:
            return first <= max(reached) + 100

        while first <= lines:
            await eventually(one_is_near)
            last = min(lines, first + dice.choice((0, 3, 40, 250)))
            await build.write(first, last)
            first = last + 1
        await build.end()

    async def view(number: int, processes: list[Api]) -> list[int]:
        met: list[int] = []
        for left in range(drops, 0, -1):
            reader = dial(dice.choice(processes), build.address, resume=met[-1:])
            stay = min(dice.randint(1, 2 * lines // drops), lines - len(met) - left)
            while len(reader.ids()) < stay:
                assert await reader.more()
            met += reader.ids()[:stay]
            reached[number] = met[-1]
            reader.leave_at_once()
        reached[number] = lines
        last = dial(dice.choice(processes), build.address, resume=met[-1:])
        await last.until(b"event: end")
        return met + last.ids()

    async with served(database_url) as second, served(database_url) as third:
        viewers = [asyncio.create_task(view(number, [live, second, third])) for number in range(3)]
        await grow()
        for met in await asyncio.gather(*viewers):
            assert met == list(range(1, lines + 1))


async def test_a_viewer_that_takes_nothing_is_dropped_and_slows_nobody(
    live: Api, build: Build, monkeypatch: pytest.MonkeyPatch, dial: Dial
) -> None:
    monkeypatch.setattr("api.streams.SEND_SECONDS", 1.0)
    lazy = [dial(live, build.address) for _ in range(5)]
    eager = asyncio.create_task(numbers_of(live, build.address))
    for first in range(1, 3001, 100):
        await build.write(first, first + 99, LONG)
    await build.end()
    assert await eager == list(range(1, 3001))

    async def dropped() -> bool:
        return await open_streams(live, "logs") == 0

    await eventually(dropped)
    await lazy[0].until_gone()
    last = lazy[0].ids()[-1]
    assert 0 < last < 3000
    rest = await whole(live, build.address, {"Last-Event-ID": str(last)})
    assert [int(event["id"]) for event in rest[:-1]] == list(range(last + 1, 3001))


async def test_a_viewer_that_falls_behind_the_ring_still_reads_every_line(live: Api, build: Build, dial: Dial) -> None:
    late = dial(live, build.address)
    await build.write(1, 1)
    await late.until(b"\nid: 1\n")
    for first in range(2, 3002, 100):
        await build.write(first, first + 99, LONG)
    await build.end()
    await late.until(b"event: end")
    assert late.ids() == list(range(1, 3002))


async def test_viewers_that_leave_in_the_middle_leave_nothing_behind(live: Api, build: Build, dial: Dial) -> None:
    stays = asyncio.create_task(numbers_of(live, build.address))
    for first in range(1, 3001, 100):
        leaving = [dial(live, build.address) for _ in range(5)]
        await build.write(first, first + 99, LONG)
        for one in leaving[:3]:
            await one.more()
        for one in leaving:
            one.leave_at_once()
    await build.end()
    assert await stays == list(range(1, 3001))

    async def all_gone() -> bool:
        return await open_streams(live, "logs") == 0

    await eventually(all_gone)


async def test_long_lines_of_the_past_come_in_small_pages(live: Api, build: Build) -> None:
    for first in range(1, 61, 20):
        await build.write(first, first + 19, "{} " + "x" * 60_000)
    assert await numbers_of(live, f"{build.address}?follow=false") == list(range(1, 61))


async def test_what_is_new_is_read_once_whatever_the_number_of_viewers(
    live: Api, build: Build, monkeypatch: pytest.MonkeyPatch, dial: Dial
) -> None:
    reads = 0
    page = LogStore.page

    async def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal reads
        reads += 1
        return await page(*arguments, **options)

    queries = ("", "level=error", r"q=7\.$&regex=true") * 100
    viewers = [dial(live, f"{build.address}?{query}") for query in queries]
    await build.write(1, 10, "line {}.")
    await asyncio.gather(*(viewer.until(b"\nid: ") for viewer in viewers))
    monkeypatch.setattr(LogStore, "page", counted)
    for first in range(11, 101, 10):
        await build.write(first, first + 9, "line {}.")
    await build.end()
    await asyncio.gather(*(viewer.until(b"event: end") for viewer in viewers))
    assert [viewer.ids() for viewer in viewers] == [
        list(range(1, 101)),
        list(range(10, 101, 10)),
        list(range(7, 101, 10)),
    ] * 100
    assert reads < 100


async def test_a_filter_that_meets_nothing_ends_with_the_log(live: Api, build: Build) -> None:
    await build.write(1, 10)
    async with opened(live, f"{build.address}?q=never", NDJSON) as answer:
        await build.write(11, 20)
        await build.end()
        assert await answer.aread() == b'{"event":"end"}\n'


async def test_a_pattern_that_cannot_be_read_is_refused_before_the_stream_begins(live: Api, build: Build) -> None:
    answer = await live("GET", f"{build.address}?q=(&regex=true")
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/query/q"


async def test_a_stream_outlasts_a_database_that_is_away(
    live: Api, database_url: str, build: Build, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.streams.HEARTBEAT_SECONDS", 0.1)
    viewer = dial(live, build.address)
    await build.write(1, 1)
    await viewer.until(b"\nid: 1\n")
    elsewhere, _, name = database_url.rpartition("/")
    async with await psycopg.AsyncConnection.connect(f"{elsewhere}/postgres", autocommit=True) as connection:
        await connection.execute(f"alter database {name} allow_connections false".encode())
        await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        viewer.read.clear()
        await viewer.until(b": \n\n")
        await connection.execute(f"alter database {name} allow_connections true".encode())

    async def written() -> bool:
        with contextlib.suppress(DeploymentError):
            await build.write(2, 2)
            await build.end()
            return True
        return False

    await eventually(written)
    await viewer.until(b"event: end")
    assert viewer.ids() == [2]


async def test_a_server_that_stops_ends_its_streams_but_not_the_log(
    database_url: str, build: Build, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for open answers, if need be for longer than the test: one that nobody takes must not hold it."""
    monkeypatch.setattr("api.streams.SEND_SECONDS", 1.0)
    for first in range(1, 3001, 100):
        await build.write(first, first + 99, LONG)
    async with asyncio.timeout(60), serving(create_app(settings_for(database_url)), patience=600) as stops:
        dial(stops, build.address)
        changes = build.address.replace("logs/stream", "events")
        readers = [dial(stops, f"{build.address}?after=2999"), dial(stops, changes)]
        for reader in readers:
            await reader.until(b"data: ")
    for reader in readers:
        await reader.until_gone()
        assert reader.read.endswith(b"\r\n0\r\n\r\n")
        assert b"event: end" not in reader.read
