"""A build's directory: what is asked for, what became of it, and the lock that says whether somebody is on it.

Rules:
1. `state.json` is replaced by renaming, so that a reader sees the old or the new one.
2. The lock is held by the supervisor as long as it lives. A state that is not final under a free lock is a death.
3. Secrets are not written here: they go to the supervisor over its standard input.
"""

import contextlib
import fcntl
import os
import re
import shutil
import stat
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from pydantic import Field

from domain.deployment import Repository
from domain.errors import DeploymentError, ErrorCode
from domain.result import BuildReport, Failure
from domain.wire import Timestamp, Wire
from providers.base import FINAL_STAGES, BuildRequest, BuildStage
from providers.internal.limits import Limits

_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


class BuildState(Wire):
    """What a supervisor tells about its build."""

    stage: BuildStage
    pid: int
    step: str | None = None
    waiting: str | None = None
    started_at: Timestamp
    finished_at: Timestamp | None = None
    repository: Repository | None = None
    failure: Failure | None = None
    report: BuildReport = Field(default_factory=BuildReport)

    @property
    def ended(self) -> bool:
        return self.stage in FINAL_STAGES


class Instructions(Wire):
    """All that a supervisor is handed."""

    request: BuildRequest
    limits: Limits
    cache: Path
    releases: Path
    tools: tuple[Path, ...] = ()
    environment: dict[str, str] = Field(default_factory=dict, repr=False)
    allow_private_addresses: bool
    bubblewrap: bool


class BuildDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.build_id = path.name
        self.spec = path / "spec.json"
        self.state_file = path / "state.json"
        self.log = path / "log.jsonl"
        self.cancel_file = path / "cancel"
        self.workspace = path / "workspace"
        self.home = path / "home"
        self.temporary = path / "tmp"
        self.accounts = path / "accounts"

    @property
    def scratch(self) -> tuple[Path, ...]:
        """What a build's own processes write to; removed some time after its end."""
        return (self.workspace, self.home, self.temporary)

    def create(self, request: BuildRequest) -> None:
        """Makes the directory, unless it is there: of many that try at once one renames first, and all find its."""
        made = self.path.with_name(f".new-{self.build_id}-{os.getpid()}-{os.urandom(4).hex()}")
        made.mkdir(mode=0o700, parents=True)
        spec = request.model_dump_json(by_alias=True, exclude={"secrets"}, indent=2)
        (made / self.spec.name).write_text(spec, encoding="utf-8")
        try:
            made.rename(self.path)
        except OSError:  # not empty: it was there before
            shutil.rmtree(made)
            if not self.spec.exists():
                raise

    def request(self) -> BuildRequest:
        return BuildRequest.model_validate_json(self.spec.read_bytes())

    def state(self) -> BuildState | None:
        """None before the supervisor has begun, and where there is no such build."""
        try:
            return BuildState.model_validate_json(self.state_file.read_bytes())
        except FileNotFoundError:
            return None

    def write_state(self, state: BuildState) -> None:
        replace(self.state_file, state.model_dump_json(by_alias=True))

    @contextlib.contextmanager
    def lock(self) -> Iterator[bool]:
        """Whether we have it; given back at the end, or by the death of whoever holds it."""
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
        finally:
            os.close(descriptor)

    def remove(self) -> None:
        """One that is gone stays so.

        Raises:
            DeploymentError: provider-error, while a supervisor is on it.
        """
        if not self.path.exists():
            return
        with self.lock() as ours:
            if not ours:
                raise DeploymentError(ErrorCode.PROVIDER_ERROR, f"the build {self.build_id} still runs")
            remove_tree(self.path)

    def supervised(self) -> bool:
        """Whether a supervisor lives."""
        if not self.path.exists():
            return False
        with self.lock() as free:
            return not free


def all_builds(directory: Path) -> list[BuildDirectory]:
    """Those that have been made completely. A file among them is somebody else's."""
    return [BuildDirectory(path) for path in sorted(directory.glob("[!.]*")) if path.is_dir()]


def replace(path: Path, text: str) -> None:
    """Writes a file so that a reader sees the old or the new one."""
    new = path.with_name(f".{path.name}-{os.getpid()}-{os.urandom(4).hex()}")
    new.write_text(text, encoding="utf-8")
    new.replace(path)


def safe_name(name: str) -> str:
    """`name` when it can be a directory of ours.

    Raises:
        DeploymentError: invalid-request.
    """
    if not _SAFE_NAME.fullmatch(name):
        raise DeploymentError(
            ErrorCode.INVALID_REQUEST, f"{name[:80]!r} is not an id: accepted are 1 to 128 letters, digits, '-' and '_'"
        )
    return name


def remove_tree(path: Path) -> None:
    """Removes a directory that may hold directories nobody may write to (a release, a Go module cache)."""
    for directory, _, _ in os.walk(path):
        with contextlib.suppress(OSError):
            os.chmod(directory, stat.S_IRWXU)
    shutil.rmtree(path, ignore_errors=True)


def age_seconds(path: Path, now: datetime) -> float:
    """Since it was last changed; 0 when it is gone."""
    try:
        return now.timestamp() - path.stat().st_mtime
    except FileNotFoundError:
        return 0
