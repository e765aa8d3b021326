"""`python -m benchmarks.live`: from a line's append to each viewer's socket, and what an idle viewer costs.

One API process under uvicorn, a writer of its own, and viewers that only look for the moment written into each line:
one, and a thousand on one deployment. The clients share the machine with the servers. Absolute figures are this
machine's.
"""

import asyncio
import os
import re
import resource
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import httpx
from rich.console import Console
from rich.table import Table

from domain.log import LogBatch, LogLine
from store.database import Database, migrate
from store.logs import LogStore
from store.seal import Sealer
from tests.api.conftest import FIRST_TOKEN
from tests.conftest import SECRET_KEYS
from tests.servers import free_port, postgres_server, running

ROOT = Path(__file__).parents[1]
LINES, LINES_PER_SECOND = 200, 20
MANY = 1000
AT_ONCE = 50
PATIENCE_SECONDS = 30
_STAMP = re.compile(rb"stamp=(\d+) ")


class Viewer(asyncio.Protocol):
    """Reads a stream and notes how long each line was on its way."""

    def __init__(self, path: str, taken: list[float]) -> None:
        self._path = path
        self._taken = taken
        self._rest = b""
        self.open: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(f"GET {self._path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {FIRST_TOKEN}\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if not self.open.done():
            self.open.set_result(data[:15])
        data, end = self._rest + data, 0
        for found in _STAMP.finditer(data):
            self._taken.append((now - int(found[1])) / 1e6)
            end = found.end()
        self._rest = data[max(end, len(data) - 40) :]


async def write(url: str, deployment_id: str) -> None:
    """The writer: a process of its own, as a worker is."""
    async with Database(url) as database:
        logs = LogStore(database, Sealer(SECRET_KEYS))
        began = time.monotonic()
        for number in range(LINES):
            said = f"line {number} of a build, as long as lines are, stamp={time.monotonic_ns()} "
            line = LogLine(datetime.now(UTC), said, "build")
            after = str(number or "")
            await logs.append(
                deployment_id, LogBatch(stream="build", after=after, cursor=str(number + 1), lines=[line])
            )
            await asyncio.sleep(max(0.0, began + (number + 1) / LINES_PER_SECOND - time.monotonic()))


def resident_kib(pid: int) -> int:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) if found else 0


async def connect(port: int, path: str, count: int, taken: list[float]) -> list[Viewer]:
    viewers: list[Viewer] = []
    for _ in range(0, count, AT_ONCE):
        part = [Viewer(path, taken) for _ in range(min(AT_ONCE, count - len(viewers)))]
        for viewer in part:
            await asyncio.get_running_loop().create_connection(lambda viewer=viewer: viewer, "127.0.0.1", port)  # type: ignore[misc]
        if not all([b" 200 " in await viewer.open for viewer in part]):
            raise RuntimeError("a viewer was refused")
        viewers += part
    return viewers


async def measure(viewers: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as directory:
        Path(directory).chmod(0o755)
        async with postgres_server(Path(directory)) as server:
            url, port = server.url("postgres"), free_port()
            await migrate(url)
            settings = {
                "HEADWAY_DATABASE_URL": url,
                "HEADWAY_SECRET_KEYS": SECRET_KEYS,
                "HEADWAY_FIRST_TOKEN": FIRST_TOKEN,
                "HEADWAY_TEMPORAL_ADDRESS": "127.0.0.1:1",
                "HEADWAY_LOG_LEVEL": "error",
                "PYTHONPATH": str(ROOT),
            }
            argv = [sys.executable, "-m", "uvicorn", "api.app:from_environment", "--factory", "--port", str(port)]
            quiet = ["--no-access-log", "--log-level", "error"]
            headers = {"Authorization": f"Bearer {FIRST_TOKEN}"}
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as http:

                async def ready() -> bool:
                    try:
                        return (await http.get("/healthz")).status_code == 200
                    except httpx.TransportError:
                        return False

                log = Path(directory) / "api.log"
                async with running(*argv, *quiet, ready=ready, log=log, **settings) as process:
                    return await _watched(http, process.pid, port, url, viewers)


async def _watched(http: httpx.AsyncClient, pid: int, port: int, url: str, viewers: int) -> dict[str, float]:
    (await http.post("/v1/projects", json={"id": "site", "provider": "internal"})).raise_for_status()
    made = (await http.post("/v1/deployments", json={"projectId": "site", "sourceRef": "main"})).json()["id"]
    path = f"/v1/deployments/{made}/logs/stream"
    for viewer in await connect(port, path, AT_ONCE, []):
        viewer.transport.abort()  # what the first ones cost is the process's, not a viewer's
    await asyncio.sleep(1)
    before, taken = resident_kib(pid), list[float]()
    watching = await connect(port, path, viewers, taken)
    await asyncio.sleep(3)
    each = (resident_kib(pid) - before) / viewers
    argv = [sys.executable, "-m", "benchmarks.live", url, made]
    writer = await asyncio.create_subprocess_exec(*argv, cwd=ROOT)
    await writer.wait()
    until = time.monotonic() + PATIENCE_SECONDS
    while len(taken) < LINES * viewers and time.monotonic() < until:
        await asyncio.sleep(0.05)
    for viewer in watching:
        viewer.transport.abort()
    cuts = statistics.quantiles(taken, n=100)
    return {
        "lines that came": len(taken),
        "lines that were due": LINES * viewers,
        "p50 (ms)": cuts[49],
        "p99 (ms)": cuts[98],
        "most (ms)": max(taken),
        "memory of an idle viewer (KiB)": each,
    }


async def main() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 20_000), most))
    one, many = await measure(1), await measure(MANY)
    table = Table("figure", "1 viewer", f"{MANY:,} viewers")
    for name, value in one.items():
        table.add_row(name, "–" if "memory" in name else f"{value:,.1f}", f"{many[name]:,.1f}")
    Console().print(table)
    Console().print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], sys.argv[2]) if len(sys.argv) == 3 else main())
