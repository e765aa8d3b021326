"""Releases: what was built, copied away from where it was built, and never changed again.

Rules:
1. Only plain files and directories below the output get in. A symbolic link inside is copied as what it leads to; one
   that leads out is refused, as are devices, pipes and sockets. Names with a leading dot stay out, but `.well-known`.
2. A release appears whole, by renaming.
3. Its digest is of names and contents alone: the same site has the same one.
"""

import contextlib
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from domain.configuration import outside
from domain.errors import DeploymentError, ErrorCode
from domain.wire import Timestamp, Wire
from providers.base import BuildRequest
from providers.internal.builds import remove_tree
from providers.internal.limits import Limits
from providers.internal.source import Source, directories

INDEX = "index.html"
_USUAL = ("dist", "build", "out", "public", "_site", "site", "output", "docs", "www")
_VISIBLE = ".well-known"
_NEVER = frozenset({"node_modules"})
_CHUNK = 1024 * 1024


class Release(Wire):
    deployment_id: str
    project_id: str
    environment: str
    created_at: Timestamp
    files: int
    bytes: int
    digest: str


class Releases:
    def __init__(self, root: Path) -> None:
        self.root = root

    def files(self, deployment_id: str) -> Path:
        """What the edge serves."""
        return self.root / deployment_id / "files"

    def get(self, deployment_id: str) -> Release | None:
        try:
            return Release.model_validate_json((self.root / deployment_id / "release.json").read_bytes())
        except FileNotFoundError:
            return None

    def all(self) -> list[Release]:
        names = sorted(entry.name for entry in self.root.iterdir()) if self.root.exists() else []
        return [release for name in names if not name.startswith(".") and (release := self.get(name))]

    def add(self, request: BuildRequest, output: Path, limits: Limits, watch: Callable[[], None]) -> Release:
        """Copies what was built; `watch` is called for each file, and ends it by what it raises.

        Raises:
            DeploymentError: build-failed for what cannot be published.
        """
        new = self.root / f".new-{request.deployment_id}"
        remove_tree(new)
        new.mkdir(parents=True)
        try:
            copied = _Copy(output, limits, watch)
            copied.directory(output.resolve(), new / "files", "")
            release = Release(
                deployment_id=request.deployment_id,
                project_id=request.project_id,
                environment=request.environment,
                created_at=datetime.now(UTC),
                files=copied.files,
                bytes=copied.bytes,
                digest=copied.digest(),
            )
            (new / "release.json").write_text(release.model_dump_json(by_alias=True), encoding="utf-8")
            new.rename(self.root / request.deployment_id)
        finally:
            remove_tree(new)
        return release

    def remove(self, deployment_id: str) -> None:
        """Out of sight first, so that a half-removed one is never served. One that is gone stays so."""
        going = self.root / f".old-{deployment_id}"
        with contextlib.suppress(FileNotFoundError):
            (self.root / deployment_id).rename(going)
        remove_tree(going)


class _Copy:
    def __init__(self, output: Path, limits: Limits, watch: Callable[[], None]) -> None:
        self.output = output.resolve()
        self.watch = watch
        self.limits = limits
        self.files = 0
        self.bytes = 0
        self._digests: list[bytes] = []

    def digest(self) -> str:
        return "sha256:" + hashlib.sha256(b"".join(sorted(self._digests))).hexdigest()

    def directory(self, source: Path, target: Path, name: str, above: frozenset[Path] = frozenset()) -> None:
        if source in above:
            raise _refused(name, "is a symbolic link to a directory that it lies in")
        target.mkdir(mode=0o755)
        for entry in sorted(source.iterdir()):
            if entry.name in _NEVER or (entry.name.startswith(".") and entry.name != _VISIBLE):
                continue
            self._entry(entry, target / entry.name, f"{name}/{entry.name}".lstrip("/"), above | {source})
        target.chmod(0o555)

    def _entry(self, entry: Path, target: Path, name: str, above: frozenset[Path]) -> None:
        real = entry.resolve() if entry.is_symlink() else entry
        if not real.is_relative_to(self.output):
            raise _refused(name, "is a symbolic link that leads out of the output")
        if not real.exists():
            return
        mode = real.lstat().st_mode
        if stat.S_ISDIR(mode):
            self.directory(real, target, name, above)
        elif stat.S_ISREG(mode):
            self._file(real, target, name)
        else:
            raise _refused(name, "is no file: a site has plain files and directories")

    def _file(self, source: Path, target: Path, name: str) -> None:
        self.watch()
        self.files += 1
        if self.files > self.limits.output_files:
            raise _too_much("files", self.limits.output_files)
        digest = hashlib.sha256()
        descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as reader, target.open("xb") as writer:
            while chunk := reader.read(_CHUNK):
                self.bytes += len(chunk)
                if self.bytes > self.limits.output_bytes:
                    raise _too_much("bytes", self.limits.output_bytes)
                digest.update(chunk)
                writer.write(chunk)
            os.fchmod(writer.fileno(), 0o444)
        self._digests.append(os.fsencode(name) + b"\0" + digest.digest() + b"\n")


@dataclass(frozen=True)
class OutputPlaces:
    """Where an output may be. `before` are the usual places that held a site before anything was built."""

    source: Source
    outputs: tuple[str, ...]
    before: frozenset[str]
    hint: str | None

    def find(self, configured: str | None) -> Path:
        """The directory to publish.

        Raises:
            DeploymentError: invalid-request or build-failed.
        """
        if configured is not None:
            return self._configured(configured)
        sites = usual_sites(self.source)
        wanted = [path for pattern in self.outputs if pattern != "." for path in sorted(self.source.root.glob(pattern))]
        found = next((path for path in wanted if (path / INDEX).exists()), None)
        found = found or next((path for path in wanted if path.is_dir()), None)
        found = found or next((self.source.root / name for name in sites if name not in self.before), None)
        if found is None and "." in self.outputs and (self.source.has(INDEX) or not sites):
            found = self.source.root
        found = found or next((self.source.root / name for name in sites), None)
        if found is None:
            places = ", ".join(self.outputs) or ", ".join(_USUAL)
            raise self._missing(f"the build left no output in {places}")
        return self._checked(found, str(found.relative_to(self.source.root)))

    def _configured(self, path: str) -> Path:
        if outside(path):
            raise DeploymentError(
                ErrorCode.INVALID_REQUEST,
                f"outputDirectory {path!r} is refused: accepted is a path below the root directory",
            )
        return self._checked(self.source.root / path, path)

    def _checked(self, found: Path, name: str) -> Path:
        real = found.resolve()
        if not real.is_relative_to(self.source.top):
            raise _refused(name, "leads out of the repository")
        if not real.is_dir():
            raise self._missing(f"the output directory {name!r} is not there after the build")
        return real

    def _missing(self, message: str) -> DeploymentError:
        there = directories(self.source.root)
        details = {"hint": self.hint or "set outputDirectory to the directory that the build writes"}
        return DeploymentError(ErrorCode.BUILD_FAILED, f"{message}; directories there: {there}", details=details)


def usual_sites(source: Source) -> list[str]:
    """Of the places where tools put a site, those that hold one."""
    return [name for name in _USUAL if source.has(f"{name}/{INDEX}")]


def _refused(name: str, why: str) -> DeploymentError:
    return DeploymentError(ErrorCode.BUILD_FAILED, f"the output cannot be published: {name[:200]!r} {why}")


def _too_much(what: str, limit: int) -> DeploymentError:
    return DeploymentError(ErrorCode.BUILD_FAILED, f"the output cannot be published: it has more than {limit:,} {what}")
