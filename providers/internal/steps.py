"""Runs the commands of a build one after the other: each in the sandbox, watched, and read into the log.

Rule: a command ends by itself, or by what the watch raises (cancel, deadline, a limit); then nothing of it is left.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from domain.errors import DeploymentError, ErrorCode
from providers.internal.builds import BuildDirectory
from providers.internal.limits import Limits
from providers.internal.log_file import LogFile
from providers.internal.processes import descendants, run
from providers.internal.sandbox import Sandbox

_CAPTURED_BYTES = 1024 * 1024
_NOT_FOUND = 127
_PROCESSES_EVERY = 0.5
_DISK_EVERY = 2.0


class Watch:
    """Called many times a second while a command runs; raises when it has to end."""

    def __init__(self, build: BuildDirectory, limits: Limits, deadline: datetime) -> None:
        self.build = build
        self.limits = limits
        self.deadline = deadline
        self._processes_due = 0.0
        self._disk_due = 0.0
        self._cancel_due = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now >= self._cancel_due:
            self._cancel_due = now + 0.05
            self._check_end()
        if now >= self._processes_due:
            self._check_processes()
            self._processes_due = now + _PROCESSES_EVERY
        if now >= self._disk_due:
            self._check_disk()
            # Walking a large workspace takes its time: at most a tenth of it all.
            self._disk_due = time.monotonic() + max(_DISK_EVERY, 10 * (time.monotonic() - now))

    def _check_end(self) -> None:
        if self.build.cancel_file.exists():
            raise DeploymentError(ErrorCode.CANCELED, "the build was canceled")
        if datetime.now(UTC) >= self.deadline:
            raise DeploymentError(ErrorCode.TIMEOUT, "the build ran out of time and was ended")

    def _check_processes(self) -> None:
        running = descendants(os.getpid()).values()
        if len(running) > self.limits.processes:
            raise beyond("processes at once", self.limits.processes)
        if sum(process.resident_bytes for process in running) > self.limits.memory_bytes:
            raise beyond("bytes of memory", self.limits.memory_bytes)

    def _check_disk(self) -> None:
        if sum(map(disk_usage, self.build.scratch)) > self.limits.workspace_bytes:
            raise beyond("bytes on disk", self.limits.workspace_bytes)


class Steps:
    def __init__(self, sandbox: Sandbox, log: LogFile, watch: Watch, limits: Limits) -> None:
        self.sandbox = sandbox
        self.log = log
        self.watch = watch
        self.limits = limits

    def logged(
        self, step: str, argv: list[str], environment: Mapping[str, str], directory: Path, shared: Iterable[Path] = ()
    ) -> int:
        """Runs a command of the build; all that it says is in the log."""
        splitter = self.log.splitter()

        def read(chunk: bytes) -> None:
            self.log.add(step, splitter.feed(chunk))
            self.log.flush()

        exit_code = self._run(argv, environment, directory, shared, read)
        self.log.add(step, splitter.end())
        self.log.flush(at_once=True)
        return exit_code

    def captured(self, argv: list[str], environment: Mapping[str, str], directory: Path) -> tuple[int, str]:
        """Runs a command of ours, and gives the beginning of what it says."""
        said = bytearray()

        def read(chunk: bytes) -> None:
            said.extend(chunk[: _CAPTURED_BYTES - len(said)])

        exit_code = self._run(argv, environment, directory, (), read)
        return exit_code, said.decode("utf-8", "replace")

    def pause(self, seconds: float) -> None:
        """Waits, unless the build has to end."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.watch()
            time.sleep(0.05)

    def _run(
        self,
        argv: list[str],
        environment: Mapping[str, str],
        directory: Path,
        shared: Iterable[Path],
        read: Callable[[bytes], None],
    ) -> int:
        self.watch()
        with self.sandbox.enclose(argv, environment, directory, shared) as command:
            try:
                return run(command, self.limits, read, self.watch)
            except FileNotFoundError:
                read(f"{argv[0]}: not found\n".encode())
                return _NOT_FOUND


def beyond(what: str, limit: int) -> DeploymentError:
    return DeploymentError(ErrorCode.BUILD_FAILED, f"the build was ended: it used more than {limit:,} {what}")


def disk_usage(path: Path) -> int:
    """Bytes of all files below; a file that goes meanwhile does not count."""
    total = 0
    rest = [str(path)]
    while rest:
        try:
            with os.scandir(rest.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        rest.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total
