"""Starts one command of a build, reads what it says, and leaves no process of it behind.

Rules:
1. A supervisor is one thread and adopts orphans (PR_SET_CHILD_SUBREAPER), so all that a build starts, daemons too,
   stays below it in the tree and is found there.
2. A command has ended when its whole tree is gone; its exit code is that of the process we started.
3. Reading blocks nobody: what is not read fills the pipe, and the writer waits.
"""

import contextlib
import ctypes
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from providers.internal.limits import Limits

MARKER = "HEADWAY_BUILD_ID"
"""A variable of every process of a build, by which it is found when its supervisor has died."""

_TICK_SECONDS = 0.1
_PATIENCE_SECONDS = 10
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PAGE = os.sysconf("SC_PAGE_SIZE")
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Command:
    """`descriptors` stay open in it."""

    argv: list[str]
    environment: Mapping[str, str]
    directory: Path
    descriptors: tuple[int, ...] = ()


@dataclass(frozen=True)
class Process:
    """A row of the process table."""

    pid: int
    parent: int
    resident_bytes: int = field(compare=False)


def adopt_orphans() -> None:
    """From now on, a descendant whose parent dies becomes our child."""
    if _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "cannot become a subreaper")


def run(command: Command, limits: Limits, read: Callable[[bytes], None], watch: Callable[[], None]) -> int:
    """Runs `command` and gives its exit code; 128 and the signal's number for one that was killed.

    `read` gets its output in the order in which it came, `b""` when there was none for a tick. `watch` is called every
    tick; what it raises ends the command.
    """
    child = subprocess.Popen(
        command.argv,
        env=dict(command.environment),
        cwd=command.directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        pass_fds=command.descriptors,
        start_new_session=True,
        preexec_fn=lambda: _confine(limits),  # noqa: PLW1509  # safe: the supervisor is a single thread (rule 1)
    )
    output = cast("IO[bytes]", child.stdout)
    try:
        _pump(child, output.fileno(), read, watch)
    finally:
        kill_descendants(child)
        with output, contextlib.suppress(BlockingIOError):  # who still holds it open says no more
            _drain(output.fileno(), read)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


def _pump(
    child: "subprocess.Popen[bytes]", pipe: int, read: Callable[[bytes], None], watch: Callable[[], None]
) -> None:
    """Reads until the child has ended; its daemons may hold the pipe open for longer."""
    os.set_blocking(pipe, False)
    ended = os.pidfd_open(child.pid)
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        selector.register(ended, selectors.EVENT_READ)
        try:
            while child.poll() is None:
                ready = {key.fd for key, _ in selector.select(_TICK_SECONDS)}
                chunk = os.read(pipe, 65536) if pipe in ready else b""
                if pipe in ready and not chunk:
                    selector.unregister(pipe)
                read(chunk)
                watch()
        finally:
            os.close(ended)


def _drain(pipe: int, read: Callable[[bytes], None]) -> None:
    while chunk := os.read(pipe, 65536):
        read(chunk)


def _confine(limits: Limits) -> None:
    """Runs in the child before its program."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    for kind, bound in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_DATA, limits.memory_bytes),  # not RLIMIT_AS: Node reserves far more addresses than it uses
    ):
        _, hard = resource.getrlimit(kind)
        within = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (within, within))
    os.nice(5)
    Path("/proc/self/oom_score_adj").write_text("900", encoding="ascii")  # a build goes before the database does


def kill_descendants(child: "subprocess.Popen[bytes] | None" = None) -> None:
    """Kills all below us until there is none; `child` is waited for by its own object, which keeps its exit code."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        for pid in descendants(os.getpid()):
            _kill(pid)
        if child is not None and child.returncode is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(_TICK_SECONDS)
        elif not _reap():
            return


def _reap() -> bool:
    """Whether we still have children, after the dead ones have been waited for."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            continue
    except ChildProcessError:
        return False
    time.sleep(0.005)
    return True


def kill_marked(build_id: str, workspace: Path) -> None:
    """Kills what a dead supervisor left behind: by its variable, or by where it works when it has dropped that."""
    until = time.monotonic() + _PATIENCE_SECONDS
    while time.monotonic() < until:
        left = [process.pid for process in process_table() if _belongs(process.pid, build_id, workspace)]
        if not left:
            return
        for pid in left:
            _kill(pid)
        time.sleep(0.01)


def _belongs(pid: int, build_id: str, workspace: Path) -> bool:
    here = Path(f"/proc/{pid}")
    try:
        if here.joinpath("cwd").readlink().is_relative_to(workspace):
            return True
        return f"{MARKER}={build_id}".encode() in here.joinpath("environ").read_bytes().split(b"\0")
    except OSError:  # gone, or another user's
        return False


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def descendants(ancestor: int) -> dict[int, Process]:
    """All below `ancestor`, zombies too."""
    below: dict[int, list[Process]] = {}
    for process in process_table():
        below.setdefault(process.parent, []).append(process)
    found: dict[int, Process] = {}
    rest = [ancestor]
    while rest:
        for process in below.get(rest.pop(), []):
            if process.pid not in found:
                found[process.pid] = process
                rest.append(process.pid)
    return found


def process_table() -> Iterable[Process]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it ended meanwhile
                # The name of the program, in parentheses, may hold anything: what follows the last one is parsed.
                fields = Path(entry.path, "stat").read_text(encoding="latin-1").rpartition(")")[2].split()
                yield Process(int(entry.name), int(fields[1]), int(fields[21]) * _PAGE)
