"""The stack under test: real processes of `headway up`, and a door on each way between two of them.

Rules: a process that is killed or stopped is one of this stack's own, by its number in `stack.json`; what is stopped
is continued when the harness ends, however it does.
"""

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psycopg
from psycopg.rows import dict_row
from temporalio.client import Client

import stack
from providers.internal.processes import descendants
from store.seal import Sealer
from tests.doors import Door
from tests.servers import eventually
from tests.test_stack import Up
from workflows.control import connect

Kind = Literal["kill", "stop", "cut"]
KINDS: tuple[Kind, ...] = ("kill", "stop", "cut")

CUTS = {
    "api": ("client-api",),
    "edge": ("worker-edge", "worker-admin"),
    "postgres": ("api-postgres", "worker-postgres"),
    "temporal": ("api-temporal", "worker-temporal"),
    "worker": ("worker-postgres", "worker-temporal", "worker-edge", "worker-admin"),
}
"""Which ways a cut of a part closes."""

_TO = {"admin": "edge_admin"}
"""Where the name of a way's end is not the name of its port."""


class _Up(Up):
    entry = "tests.chaos.detoured"


@dataclass
class Target:
    up: Up
    doors: dict[str, Door]
    temporal: Client

    @property
    def data_dir(self) -> Path:
        return self.up.data_dir

    @property
    def token(self) -> str:
        return str(self.up.said["apiToken"])

    @property
    def api_url(self) -> str:
        """By its door."""
        return f"http://127.0.0.1:{self.doors['client-api'].port}"

    @property
    def edge_port(self) -> int:
        return int(self.up.said["edgeUrl"].rsplit(":", 1)[1])

    def pid(self, part: str) -> int:
        return int(self.up.said["pids"][part])

    async def rows(self, statement: str, **parameters: Any) -> list[dict[str, Any]]:
        """What the database says, asked without a door."""
        url = self.up.said["databaseUrl"]
        async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as connection:
            return await (await connection.execute(statement.encode(), parameters)).fetchall()

    # --- faults ---

    async def kill(self, *parts: str) -> None:
        """At once. Returns when the stack has started them again."""
        before = {part: self.pid(part) for part in parts}
        signal_all([*before.values()], signal.SIGKILL)

        async def started_again() -> bool:
            return all(self.pid(part) != pid for part, pid in before.items())

        await eventually(started_again, 60)

    @contextlib.contextmanager
    def stopped(self, part: str) -> Any:
        """All its processes hold still for as long as the block."""
        pids = [self.pid(part)]
        signal_all(pids, signal.SIGSTOP)
        if part == "postgres":  # a connection there is a process; a worker's children are builds, which are not it
            below = list(descendants(pids[0]))
            signal_all(below, signal.SIGSTOP)
            pids += below
        try:
            yield
        finally:
            signal_all(pids, signal.SIGCONT)

    @contextlib.asynccontextmanager
    async def cut(self, *ways: str) -> AsyncIterator[None]:
        for way in ways:
            self.doors[way].shut()
        try:
            yield
        finally:
            for way in ways:
                await self.doors[way].open()


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.asynccontextmanager
async def target(directory: Path) -> AsyncIterator[Target]:
    """A stack in `directory`, ready, and stopped afterwards."""
    data_dir = directory / "data"
    data_dir.mkdir(parents=True)
    ports, secrets = stack.Ports.of(data_dir, 0), stack.Secrets.of(data_dir)
    ways = [("client", "api"), *((one, to) for one in ("api", "worker") for to in ("postgres", "temporal"))]
    ways += [("worker", "edge"), ("worker", "admin")]
    doors = {f"{one}-{to}": Door(f"127.0.0.1:{getattr(ports, _TO.get(to, to))}") for one, to in ways}
    for door in doors.values():
        await door.open()
    (directory / "detours.json").write_text(json.dumps(_detours(doors, secrets.database_password)))
    up = _Up(data_dir)
    try:

        async def ready() -> bool:
            return up.is_ready()

        await eventually(ready, 60)
        client = await connect(up.said["temporalAddress"], "default", Sealer(secrets.secret_keys))
        yield Target(up, doors, client)
        await asyncio.to_thread(up.stop)
    finally:
        if up.process.poll() is None:
            up.process.kill()
            up.process.wait()
        for door in doors.values():
            door.shut()


def _detours(doors: dict[str, Door], password: str) -> dict[str, dict[str, str]]:
    more = {"HEADWAY_TRIGGER_LIMIT": "1000000"}
    detours = {
        part: {
            "HEADWAY_DATABASE_URL": f"postgresql://headway:{password}@127.0.0.1:{doors[f'{part}-postgres'].port}/headway",
            "HEADWAY_TEMPORAL_ADDRESS": f"127.0.0.1:{doors[f'{part}-temporal'].port}",
            **more,
        }
        for part in ("api", "worker")
    }
    detours["worker"] |= {
        "HEADWAY_EDGE_ADMIN_URL": f"http://127.0.0.1:{doors['worker-admin'].port}",
        "HEADWAY_EDGE_URL": f"http://localhost:{doors['worker-edge'].port}",
    }
    return detours
