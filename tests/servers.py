"""Real servers for tests: PostgreSQL and Temporal on loopback, ended with the test run."""

import asyncio
import contextlib
import ctypes
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from store.server import LocalPostgres

TEMPORAL = str(Path(sys.executable).with_name("temporal"))
PATIENCE_SECONDS = 90
"""For what takes a second or two: on a crowded machine it may take a minute, and who waits in vain fails anyway."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)

POSTGRES_SETTINGS = [
    "max_connections=300",
    *("fsync=off", "full_page_writes=off"),  # a test run that loses power has nothing to keep
    *("wal_level=minimal", "max_wal_senders=0"),  # else each new database is written twice
    "autovacuum=off",  # it would go round all the databases that tests have left, several a second
]
TEMPORAL_FLAGS = [
    "history.transferProcessorMaxPollRPS=1000",
    "history.timerProcessorMaxPollRPS=1000",
    'history.timerProcessorMaxTimeShift="10ms"',
    "limit.historyCount.suggestContinueAsNew=200",  # else 4,096
    'matching.wv.VersionDrainageStatusVisibilityGracePeriod="1s"',  # else 3 min
    'matching.wv.VersionDrainageStatusRefreshInterval="1s"',  # else 3 min
]
SEARCH_ATTRIBUTES = ["HeadwayProject", "HeadwayEnvironment", "HeadwayProvider", "HeadwayStatus", "HeadwayTrigger"]


def free_port() -> int:
    """A port that no other call gets, in no test run of this host, for as long as this process lives.

    A name among abstract sockets is the claim: one may have it, and it goes with us. Below the ports of `headway up
    --port 0` and of outgoing connections, so that nobody takes it before its server listens.
    """
    for port in random.sample(range(10000, 20000), 10000):
        claim = socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), socket.socket() as probe:
            claim.bind(f"\0headway-test-port-{port}")
            probe.bind(("127.0.0.1", port))
            claim.detach()
            return port
        claim.close()
    raise AssertionError("no port is free")


async def eventually(condition: Callable[[], Awaitable[bool]], seconds: float = PATIENCE_SECONDS) -> None:
    """Waits for a condition; raises AssertionError when it does not come true in time."""
    until = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < until, f"not within {seconds} s: {condition}"
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running(
    *argv: str, ready: Callable[[], Awaitable[bool]], log: Path, user: str | None = None, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process for as long as the block, or until the test run dies."""
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdout=output,
            stderr=output,
            user=user,
            cwd="/",
            start_new_session=True,
            env={**os.environ, **environment},
            preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL),
        )
    try:
        await eventually(ready)
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 10)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


@contextlib.asynccontextmanager
async def postgres_server(directory: Path) -> AsyncIterator[LocalPostgres]:
    server = LocalPostgres.at(directory / "postgres", "test", free_port())
    await server.prepare()
    argv = [*server.argv(), *(word for setting in POSTGRES_SETTINGS for word in ("-c", setting))]
    async with running(*argv, ready=server.ready, log=directory / "postgres.log", user=server.user):
        yield server


@contextlib.asynccontextmanager
async def temporal_server(directory: Path) -> AsyncIterator[str]:
    """The address of a Temporal dev server that keeps nothing."""
    port, ui = free_port(), free_port()
    flags = [word for flag in TEMPORAL_FLAGS for word in ("--dynamic-config-value", flag)]
    names = [word for name in SEARCH_ATTRIBUTES for word in ("--search-attribute", f"{name}=Keyword")]
    start = [
        "server",
        "start-dev",
        "--ip",
        "127.0.0.1",
        "--port",
        str(port),
        "--ui-port",
        str(ui),
        "--log-level",
        "error",
    ]

    async def ready() -> bool:
        ask = ["operator", "cluster", "health", "--address", f"127.0.0.1:{port}"]
        quiet = asyncio.subprocess.DEVNULL
        process = await asyncio.create_subprocess_exec(TEMPORAL, *ask, stdout=quiet, stderr=quiet)
        return await process.wait() == 0

    argv = [TEMPORAL, *start, *flags, *names]
    log = directory / "temporal.log"
    async with running(*argv, ready=ready, log=log, TEMPORAL_VERSION_CHECK_DISABLED="1"):
        yield f"127.0.0.1:{port}"
