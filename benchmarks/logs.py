"""`python -m benchmarks.logs [LINES]`: figures of the log, each beside its floor in one run, on real build output.

Rows: lines a second through the real path (provider → follow_build → store, forty secrets to mask), through the store
alone, as bare chunks, and row by row as the service description has it; bytes a line on disk; pages, searches, the end
of a log. PostgreSQL is the tests' (fsync off, for all rows alike). Absolute figures are this machine's.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import orjson
import psycopg
import zstandard
from rich.console import Console
from rich.table import Table
from temporalio.testing import ActivityEnvironment

from activities.builds import BuildActivities
from activities.steps import BuildStep, StartBuild
from benchmarks.corpus import build_output
from domain.build import Build, BuildRequest
from domain.deployment import TriggerDeploymentRequest
from domain.log import LogBatch, LogFilter, LogLine
from domain.project import CreateProjectRequest
from domain.result import BuildReport
from providers.base import BuildNews, Capability, Provider, Publication
from providers.health import AddressChecks
from store.database import Database, migrate
from store.deployments import DeploymentStore
from store.limits import TriggerLimiter
from store.logs import LogStore
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.servers import postgres_server

ROUNDS = 3
ROUND_LINES = 100_000
ROWS = 2_000
CHUNK = 1_000
AT_ONCE = 5_000
TABLES = ("logs", "log_streams", "log_chunks_live", "log_chunks")
SECRETS = {f"TOKEN_{number}": f"benchmark-secret-{number:04}" for number in range(40)}

Figures = dict[str, list[float]]


class Recorded(Provider):
    """Tells lines as fast as they are taken."""

    name = "recorded"
    capabilities: ClassVar[frozenset[Capability]] = frozenset()

    def __init__(self) -> None:
        self.lines: list[LogLine] = []

    async def start_build(self, request: BuildRequest) -> Build:
        return Build(
            deployment_id=request.deployment_id, project_id=request.project_id, environment="production", build_id="b"
        )

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        for start in range(int(cursor or 0), len(self.lines), AT_ONCE):
            part = self.lines[start : start + AT_ONCE]
            yield BuildNews(cursor=str(start + len(part)), lines=part, stage="building")
        yield BuildNews(cursor=str(len(self.lines)), stage="built")

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        """Nothing runs."""

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        return Publication()

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        return BuildReport()


class Bench:
    def __init__(self, database: Database, connection: psycopg.AsyncConnection) -> None:
        sealer = Sealer(SECRET_KEYS)
        self.database = database
        self.connection = connection
        self.logs = LogStore(database, sealer)
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 1000))
        self.projects = ProjectStore(database, sealer)
        self.provider = Recorded()
        progress = ProgressStore(database, sealer)
        self.steps = BuildActivities({"recorded": self.provider}, progress, self.logs, AddressChecks())

    async def prepare(self) -> None:
        project = {"id": "shop", "provider": "recorded", "concurrency": "parallel"}
        asked = CreateProjectRequest.model_validate({**project, "configuration": {"secrets": SECRETS}})
        await self.projects.create_project(asked, "bench")
        await self.connection.execute(
            "create table bare (id uuid, first bigint, data bytea, primary key (id, first));"
            "alter table bare alter column data set storage external;"
            "create table by_row (id uuid primary key default gen_random_uuid(), deployment_id uuid not null,"
            " timestamp timestamptz not null default now(), level text not null, message text not null, step text,"
            " source text, metadata jsonb);"
            "create index on by_row (deployment_id, timestamp)"
        )

    async def deployment(self) -> str:
        asked = TriggerDeploymentRequest(project_id="shop", source_ref="main")
        return (await self.deployments.trigger(asked, "bench")).answer.id

    async def follow(self, deployment_id: str, lines: list[LogLine]) -> float:
        """Seconds of the activity, from its start to its outcome."""
        self.provider.lines = lines
        started = StartBuild(deployment_id=deployment_id, provider="recorded", build_timeout_seconds=3600)
        build = await ActivityEnvironment().run(self.steps.start_build, started)
        step = BuildStep(build=build, provider="recorded", build_timeout_seconds=3600)
        began = time.perf_counter()
        outcome = await ActivityEnvironment().run(self.steps.follow_build, step)
        if outcome.stage != "built":
            raise RuntimeError(f"the build ended as {outcome}")
        return time.perf_counter() - began

    async def append(self, deployment_id: str, lines: list[LogLine]) -> float:
        began = time.perf_counter()
        for start in range(0, len(lines), AT_ONCE):
            part = lines[start : start + AT_ONCE]
            batch = LogBatch(stream="build", after=str(start or ""), cursor=str(start + len(part)), lines=part)
            await self.logs.append(deployment_id, batch)
        return time.perf_counter() - began

    async def bare(self, deployment_id: str, lines: list[LogLine]) -> float:
        """The floor: a thousand lines as one compressed row, and a commit."""
        began = time.perf_counter()
        for start in range(0, len(lines), CHUNK):
            part = lines[start : start + CHUNK]
            told = [(line.timestamp.timestamp(), line.level, line.step, line.message) for line in part]
            data = zstandard.ZstdCompressor(level=3).compress(orjson.dumps(told))
            await self.connection.execute("insert into bare values (%s, %s, %s)", (deployment_id, start, data))
        return time.perf_counter() - began

    async def by_row(self, deployment_id: str, lines: list[LogLine]) -> float:
        """The service description's way: an insert and a commit a line."""
        began = time.perf_counter()
        for line in lines[:ROWS]:
            await self.connection.execute(
                "insert into by_row (deployment_id, level, message, step) values (%s, %s, %s, %s)",
                (deployment_id, line.level or "info", line.message, line.step),
            )
        return time.perf_counter() - began

    async def bytes_on_disk(self) -> int:
        row = await self.database.fetch_one(
            "select sum(pg_total_relation_size(relid))::bigint as bytes from unnest(%(tables)s::regclass[]) as named,"
            " pg_partition_tree(named) where isleaf or level = 0",
            {"tables": list(TABLES)},
        )
        return int(row["bytes"]) if row else 0


def recorded_lines(count: int) -> list[LogLine]:
    at = datetime.now(UTC) - timedelta(hours=1)
    return [
        LogLine(at + timedelta(milliseconds=number * 3), text, "build")
        for number, text in enumerate(build_output(count))
    ]


async def ingest(bench: Bench, lines: list[LogLine]) -> Figures:
    """Lines a second of each way, in turns."""
    figures: Figures = {}
    ways: dict[str, tuple[Callable[[str, list[LogLine]], Awaitable[float]], int]] = {
        "provider → activity → store": (bench.follow, len(lines)),
        "store alone": (bench.append, len(lines)),
        "bare chunks of 1,000": (bench.bare, len(lines)),
        "a row and a commit a line": (bench.by_row, ROWS),
    }
    for _ in range(ROUNDS):
        for name, (way, count) in ways.items():
            seconds = await way(await bench.deployment(), lines)
            figures.setdefault(f"{name} (lines/s)", []).append(count / seconds)
    return figures


async def reads(bench: Bench, deployment_id: str, count: int) -> Figures:
    """Milliseconds of each kind of reading."""
    page, search = bench.logs.page, bench.logs.search
    absent, common = LogFilter(query="nowhere to be found"), LogFilter(query="error")
    ways: dict[str, Callable[[], Awaitable[object]]] = {
        "1,000 lines at offset 0": lambda: page(deployment_id, LogFilter(), limit=1000),
        "1,000 lines in the middle": lambda: page(deployment_id, LogFilter(), limit=1000, offset=count // 2),
        "1,000 lines near the end": lambda: page(deployment_id, LogFilter(), limit=1000, offset=count - 1000),
        "the last 20": lambda: page(deployment_id, LogFilter(), limit=20, tail=20),
        "substring that is nowhere": lambda: page(deployment_id, absent, limit=100),
        "substring that is common": lambda: page(deployment_id, common, limit=100),
        "search of the project, first page": lambda: search("shop", common, limit=20),
        "search of the project, nowhere": lambda: search("shop", absent, limit=20),
    }
    figures: Figures = {}
    for name, way in ways.items():
        for _ in range(7):
            began = time.perf_counter()
            await way()
            figures.setdefault(f"{name} (ms)", []).append(1000 * (time.perf_counter() - began))
    return figures


async def measure(count: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as directory:
        Path(directory).chmod(0o755)
        async with postgres_server(Path(directory)) as server:
            url = server.url("postgres")
            await migrate(url)
            async with Database(url) as database, await psycopg.AsyncConnection.connect(url, autocommit=True) as one:
                bench = Bench(database, one)
                await bench.prepare()
                figures = await ingest(bench, recorded_lines(min(ROUND_LINES, count)))
                empty = await bench.bytes_on_disk()
                lines = recorded_lines(count)
                large = await bench.deployment()
                figures[f"{count:,} lines, provider → activity → store (s)"] = [await bench.follow(large, lines)]
                began = time.perf_counter()
                await bench.logs.merge(large)
                figures["merge (s)"] = [time.perf_counter() - began]
                figures["on disk after the merge (bytes/line)"] = [(await bench.bytes_on_disk() - empty) / count]
                figures["said (bytes/line)"] = [sum(len(line.message.encode()) for line in lines) / count]
                return figures | await reads(bench, large, count)


def show(figures: Figures) -> None:
    table = Table("figure", "minimum", "median", "maximum", "n")
    for name, values in figures.items():
        row = (min(values), statistics.median(values), max(values))
        table.add_row(name, *(f"{value:,.1f}" for value in row), str(len(values)))
    console = Console()
    console.print(table)
    path, _, floor, row_by_row = (statistics.median(values) for values in list(figures.values())[:4])
    console.print(f"the real path: {path / floor:.2f} × bare chunks, {path / row_by_row:.0f} × a row a line (medians)")


if __name__ == "__main__":
    show(asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)))
