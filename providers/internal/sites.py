"""Which host serves which release: the truth, on disk. `Hosts` has of it what the edge looks up.

Rules: who changes a site holds the lock from before the edge sees it until it is written down here. The number of a
site's publication only grows.
"""

import asyncio
import contextlib
import fcntl
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from domain.errors import DeploymentError, ErrorCode
from domain.fence import Overtaken
from domain.wire import Wire
from providers.internal.builds import replace
from providers.internal.hosts import HOST

_HOST = re.compile(r"(?=.{1,253}$)" + HOST)


class Site(Wire):
    host: str
    kind: Literal["production", "preview"]
    deployment_id: str
    project_id: str
    environment: str
    publication: int = Field(default=0, description="the number under which it went out; 0 for those of old")


class Sites:
    def __init__(self, root: Path) -> None:
        self.root = root

    def get(self, host: str) -> Site | None:
        try:
            return Site.model_validate_json(self._file(host).read_bytes())
        except FileNotFoundError:
            return None

    def all(self) -> list[Site]:
        files = sorted(self.root.glob("[a-z0-9]*.json"))
        return [Site.model_validate_json(file.read_bytes()) for file in files]

    def put(self, site: Site) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        replace(self._file(site.host), site.model_dump_json(by_alias=True))

    def refuse_overtaken(self, site: Site) -> None:
        """Raises Overtaken when the host serves a later publication. Asked under the lock."""
        known = self.get(site.host)
        if known is not None and known.publication > site.publication:
            message = f"{site.host} serves publication {known.publication}, which came after {site.publication}"
            raise Overtaken(message)

    def remove(self, host: str) -> None:
        self._file(host).unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """One at a time, over all processes of this host; released by a death too."""
        self.root.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            while not _taken(descriptor):  # noqa: ASYNC110  # a lock between processes tells nobody when it is free
                await asyncio.sleep(0.02)
            yield
        finally:
            os.close(descriptor)

    def _file(self, host: str) -> Path:
        return self.root / f"{safe_host(host)}.json"


def safe_host(host: str) -> str:
    """`host` when it is a host name of labels, in lower case.

    Raises:
        DeploymentError: invalid-request.
    """
    if not _HOST.fullmatch(host):
        raise DeploymentError(
            ErrorCode.INVALID_REQUEST, f"{host[:80]!r} is not a host name: accepted are labels of a-z, 0-9 and '-'"
        )
    return host


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
