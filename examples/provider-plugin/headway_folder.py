"""The provider `folder`: what somebody has put into a drop folder is copied into a release, and a link makes it live.

    HEADWAY_FOLDER_ROOT  where drop folders, releases and live sites are
    HEADWAY_FOLDER_URL   where a web server shows ROOT/live

A deployment of the ref `v2` to the project `shop` takes ROOT/drop/shop/v2. It waits until the file `.complete` lies in
it, so that nothing is taken that is still being uploaded, and fails when there is no `index.html`.

Rules:
1. All that is known stands on disk, so that any worker on this host goes on where another stopped.
2. How a deployment ends is decided by whoever first writes it down (`_decide`); everybody else accepts that.
"""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar
from uuid import uuid4

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLine
from domain.result import BuildReport, DeploymentMetrics, Failure
from providers.base import Build, BuildNews, BuildRequest, Capability, Provider, Publication

LOOK_SECONDS = 0.25
LINES_AT_ONCE = 100
CODES = {"failed": ErrorCode.BUILD_FAILED, "canceled": ErrorCode.CANCELED}


class Folder(Provider):
    name: ClassVar[str] = "folder"
    capabilities: ClassVar[frozenset[Capability]] = frozenset({Capability.CANCEL, Capability.REPOINT})

    def __init__(self) -> None:
        self._root = Path(os.environ["HEADWAY_FOLDER_ROOT"])
        self._url = os.environ["HEADWAY_FOLDER_URL"].rstrip("/")
        for name in ("releases", "ends", "live"):
            (self._root / name).mkdir(parents=True, exist_ok=True)

    @classmethod
    def check_settings(cls, settings: dict[str, Any], repository_url: str | None) -> None:
        del repository_url
        wrong = [(f"/providerSettings/{name}", "is not known: this provider has no settings") for name in settings]
        if wrong:
            raise DeploymentError(ErrorCode.INVALID_REQUEST, "folder takes no providerSettings", fields=wrong)

    async def start_build(self, request: BuildRequest) -> Build:
        """Nothing has to be made: a build has the id of our deployment, and what it takes lies there already."""
        self._drop(request)
        return Build(
            deployment_id=request.deployment_id,
            project_id=request.project_id,
            environment=request.environment,
            build_id=request.deployment_id,
        )

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        """Whoever follows does the work. The cursor counts the lines that were told."""
        told = int(cursor or 0)
        while (end := await asyncio.to_thread(self._end, request, build)) is None:
            yield BuildNews(cursor=cursor, stage="initializing", waiting="the drop folder is not complete yet")
            await asyncio.sleep(LOOK_SECONDS)
        lines = [LogLine(timestamp=end["at"], message=text) for text in end["lines"]]
        for start in range(told, len(lines), LINES_AT_ONCE):
            some = lines[start : start + LINES_AT_ONCE]
            yield BuildNews(cursor=str(start + len(some)), lines=some, stage="building", step="copy")
        failure = None
        if end["stage"] in CODES:
            failure = Failure(code=CODES[end["stage"]], message=end["reason"])
        yield BuildNews(cursor=str(len(lines)), stage=end["stage"], failure=failure)

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        del request
        self._decide(build.build_id, "canceled", [], "canceled before its drop folder was complete")

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        return await self.repoint(request, build)

    async def repoint(self, request: BuildRequest, build: Build) -> Publication:
        """Turns the link in one step."""
        release = self._release(build.build_id)
        if not release.is_dir():
            raise DeploymentError(ErrorCode.DEPLOY_FAILED, f"there is no release {build.build_id}; deploy again")
        site = f"{_name(request.project_id)}-{_name(request.environment)}"
        new = self._root / "live" / f".{uuid4()}"
        new.symlink_to(release)
        new.replace(self._root / "live" / site)
        line = LogLine(timestamp=datetime.now(UTC), message=f"{site} is {build.build_id}", source="deploy")
        return Publication(deployment_url=f"{self._url}/{site}/", lines=[line])

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        del request
        release = self._release(build.build_id)
        files = [path for path in release.rglob("*") if path.is_file()] if release.is_dir() else []
        if not files:
            return BuildReport()
        metrics = DeploymentMetrics(build_size=sum(path.stat().st_size for path in files), file_count=len(files))
        return BuildReport(metrics=metrics, artifact_id=build.build_id)

    def _end(self, request: BuildRequest, build: Build) -> dict[str, Any] | None:
        """How it ended; None while the folder is not complete."""
        decided = self._decided(build.build_id)
        if decided is not None:
            return decided
        drop = self._drop(request)
        if build.build_id != request.deployment_id or not drop.is_dir():
            return self._decide(build.build_id, "failed", [], f"there is nothing at {drop.relative_to(self._root)}")
        if not (drop / ".complete").exists():
            return None
        if not (drop / "index.html").exists():
            return self._decide(build.build_id, "failed", [], "there is no index.html in it")
        names = sorted(str(path.relative_to(drop)) for path in drop.rglob("*") if path.is_file())
        copy = self._root / "releases" / f".{uuid4()}"
        shutil.copytree(drop, copy, ignore=shutil.ignore_patterns(".complete"))
        with suppress(OSError):  # somebody else was quicker, with the same files
            copy.rename(self._release(build.build_id))
        shutil.rmtree(copy, ignore_errors=True)
        return self._decide(build.build_id, "built", [f"copied {name}" for name in names if name != ".complete"])

    def _decide(self, build_id: str, stage: str, lines: list[str], reason: str = "") -> dict[str, Any]:
        """What was decided, by us or by somebody before: a link is made once."""
        end = {"stage": stage, "lines": lines, "reason": reason, "at": datetime.now(UTC).isoformat()}
        new = self._root / "ends" / f".{uuid4()}"
        new.write_text(json.dumps(end))
        with suppress(FileExistsError):
            os.link(new, self._root / "ends" / _name(build_id))
        new.unlink()
        return self._decided(build_id) or end

    def _decided(self, build_id: str) -> dict[str, Any] | None:
        try:
            end: dict[str, Any] = json.loads((self._root / "ends" / _name(build_id)).read_text())
        except FileNotFoundError:
            return None
        return {**end, "at": datetime.fromisoformat(end["at"])}

    def _drop(self, request: BuildRequest) -> Path:
        return self._root / "drop" / _name(request.project_id) / _name(request.source_ref)

    def _release(self, build_id: str) -> Path:
        return self._root / "releases" / _name(build_id)


def _name(text: str) -> str:
    """One part of a path."""
    if not text or text.startswith(".") or "/" in text or "\0" in text:
        message = f"{text[:80]!r} is refused: accepted are names without slashes that do not begin with a dot"
        raise DeploymentError(ErrorCode.INVALID_REQUEST, message)
    return text
