"""The `internal` provider: builds on this host in a sandbox, publishes by pointing the edge at a release.

Rules:
1. A build belongs to its supervisor, not to the worker: a worker starts it, reads what it writes, asks it to end.
2. All that is known is in files under `root`, so that any worker of this host goes on where another one died.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

from domain.configuration import outside
from domain.errors import RETRYABLE, DeploymentError, ErrorCode
from domain.log import LogLine
from domain.result import BuildReport
from domain.source import check_repository_url, check_source_ref, split_credentials
from providers.base import (
    FINAL_STAGES,
    Build,
    BuildNews,
    BuildRequest,
    Capability,
    Provider,
    Publication,
    RemovedEnvironment,
)
from providers.internal.ancestry import has_in_history
from providers.internal.builds import BuildDirectory, Instructions, all_builds, safe_name
from providers.internal.deaths import gone, kill_supervisor, settle
from providers.internal.edge import Edge
from providers.internal.follow import Follower
from providers.internal.git import Remote, remote_of
from providers.internal.hosts import Hosts
from providers.internal.limits import Limits, Retention
from providers.internal.refs import commit_of
from providers.internal.releases import Releases
from providers.internal.retention import clean_builds, clean_caches, clean_leftovers, now_utc, releases_to_remove
from providers.internal.sites import Site, Sites

_POLL_SECONDS = 0.05
_CANCEL_SECONDS = 15
_SOURCES = Path(__file__).parents[2]


class Internal(Provider):
    """`tools` are directories of further programs, `environment` variables of every build (a mirror's address).

    `bubblewrap=False` does without it even where it works.
    """

    name: ClassVar[str] = "internal"
    capabilities: ClassVar[frozenset[Capability]] = frozenset(
        {Capability.CANCEL, Capability.LIVE_LOGS, Capability.REPOINT}
    )

    def __init__(
        self,
        root: Path,
        edge: Edge,
        *,
        task_queue: str,
        allow_private_addresses: bool = False,
        keep: Retention | None = None,
        limits: Limits | None = None,
        python: str = sys.executable,
        bubblewrap: bool = True,
        tools: Iterable[Path] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root.resolve()
        self.edge = edge
        self.task_queue = task_queue
        self.allow_private_addresses = allow_private_addresses
        self.keep = keep or Retention()
        self.limits = limits or Limits()
        self.python = python
        self.bubblewrap = bubblewrap
        self.tools = tuple(tools)
        self.environment = dict(environment or {})
        self.sites = Sites(self.root / "sites")
        self.releases = Releases(self.root / "releases")
        self.hosts = Hosts(self.releases.root)

    async def start_build(self, request: BuildRequest) -> Build:
        self._check(request)
        directory = self._directory(request.deployment_id)
        kept = request.model_copy(
            update={"secrets": {}, "repository_url": split_credentials(request.repository_url or "")[0]}
        )
        await asyncio.to_thread(directory.create, kept)
        if directory.state() is None:
            await self._start_supervisor(directory, request)
        return self._build(request)

    async def find_build(self, request: BuildRequest) -> Build | None:
        return None if self._directory(request.deployment_id).state() is None else self._build(request)

    async def follow_build(self, request: BuildRequest, build: Build, cursor: str) -> AsyncGenerator[BuildNews, None]:
        del request
        directory = self._directory(build.deployment_id)
        follower = Follower(directory, cursor)
        looked_at = 0.0
        while True:
            if time.monotonic() - looked_at >= 1:
                await asyncio.to_thread(settle, directory)
                looked_at = time.monotonic()
            news = await asyncio.to_thread(follower.news, directory.state() or gone(directory))
            if news is not None:
                yield news
                if news.stage in FINAL_STAGES:
                    return
            if news is None or not news.lines:
                await asyncio.sleep(_POLL_SECONDS)

    async def cancel_build(self, request: BuildRequest, build: Build) -> None:
        del request
        await self.stop(build.deployment_id)

    async def publish_build(self, request: BuildRequest, build: Build) -> Publication:
        """First the preview's host, then the environment's, so that what production gets has been seen answering."""
        preview, production = self._sites_of(build, request.publication)
        lines = []
        async with self.sites.lock():
            if self.releases.get(safe_name(build.deployment_id)) is None:
                raise DeploymentError(
                    ErrorCode.DEPLOY_FAILED,
                    f"the release of deployment {build.deployment_id} is not kept any more; deploy its commit again",
                )
            self.sites.refuse_overtaken(production)
            await self._restore()
            for site in (preview, production):
                await self._publish(site)
                lines.append(_publish_line(f"{self.edge.url_of(site.host)} serves {site.deployment_id}"))
        urls = [self.edge.url_of(site.host) for site in (production, preview)]
        return Publication(deployment_url=urls[0], preview_urls=urls[1:], reached_at=self.edge.public_url, lines=lines)

    async def publish_aside(self, request: BuildRequest, build: Build) -> Publication:
        del request
        preview, _ = self._sites_of(build, publication=0)
        async with self.sites.lock():
            await self._restore()
            await self._publish(preview)
        url = self.edge.url_of(preview.host)
        lines = [_publish_line(f"{url} serves {preview.deployment_id}")]
        return Publication(deployment_url=url, preview_urls=[url], lines=lines)

    async def repoint(self, request: BuildRequest, build: Build) -> Publication:
        return await self.publish_build(request, build)

    async def collect_report(self, request: BuildRequest, build: Build) -> BuildReport:
        del request
        state = self._directory(build.deployment_id).state()
        if state is not None:
            return state.report
        release = self.releases.get(build.deployment_id)
        return BuildReport(artifact_id=release.digest if release else None)

    async def resolve_commit(self, request: BuildRequest) -> str | None:
        if request.repository_url is None:
            return None
        return await commit_of(await self._remote(request.repository_url, request), request.source_ref)

    async def has_in_history(self, request: BuildRequest, commit: str) -> bool | None:
        if request.repository_url is None or request.commit_sha is None:
            message = f"it is not known which commit {request.source_ref[:100]} means"
            raise DeploymentError(ErrorCode.PROVIDER_ERROR, message)
        remote = await self._remote(request.repository_url, request)
        return await has_in_history(remote, request.source_ref, request.commit_sha, commit, self.root / "histories")

    def running_builds(self) -> list[str]:
        """Deployments that have a build under way on this disk."""
        return [build.build_id for build in all_builds(self._builds) if _runs(build)]

    async def stop(self, deployment_id: str) -> bool:
        """Whether there was something to stop. Returns when nothing of the build runs any more."""
        directory = self._directory(deployment_id)
        if not _runs(directory):
            return False
        directory.cancel_file.touch()
        until = time.monotonic() + _CANCEL_SECONDS
        while not await asyncio.to_thread(settle, directory):
            if time.monotonic() >= until:
                kill_supervisor(directory)
            await asyncio.sleep(_POLL_SECONDS)
        return True

    async def restore_sites(self) -> bool:
        """Brings hosts and edge in line with the sites, as for an edge or a disk of before; whether they were not."""
        async with self.sites.lock():
            return await self._restore()

    def release_of(self, deployment_id: str) -> Path | None:
        """What was built for a deployment, for others to publish; None where it is not kept here."""
        name = safe_name(deployment_id)
        return self.releases.files(name) if self.releases.get(name) is not None else None

    async def take_down(self, removed: RemovedEnvironment) -> None:
        """Its hosts first, so that none points to what is gone. What another environment serves of it stays."""
        ids = {safe_name(deployment_id) for deployment_id in removed.deployment_ids}
        for deployment_id in ids:
            await asyncio.to_thread(self._directory(deployment_id).remove)
        async with self.sites.lock():
            for site in self.sites.all():
                if site.deployment_id in ids and site.environment == removed.environment:
                    self.sites.remove(site.host)
            await self._restore()
            for deployment_id in ids - {site.deployment_id for site in self.sites.all()}:
                await asyncio.to_thread(self.releases.remove, deployment_id)

    async def clean_up(self) -> None:
        await self._clean_releases()
        for directory in (self._builds, self.releases.root):
            await asyncio.to_thread(clean_leftovers, directory, now_utc())
        await asyncio.to_thread(clean_builds, self._builds, self.keep, now_utc())
        await asyncio.to_thread(clean_caches, self.root / "cache", self.keep, now_utc())

    @classmethod
    def check_settings(cls, settings: dict[str, Any], repository_url: str | None) -> None:
        """A project may be without its repository until something is to be built."""
        del repository_url
        unknown = [(f"/providerSettings/{name}", "the internal provider has no settings") for name in settings]
        if unknown:
            message = "the internal provider takes no providerSettings"
            raise DeploymentError(ErrorCode.INVALID_REQUEST, message, fields=unknown)

    @property
    def _builds(self) -> Path:
        return self.root / "builds"

    async def _remote(self, url: str, request: BuildRequest) -> Remote:
        allowed = self.allow_private_addresses
        return await asyncio.to_thread(remote_of, url, request.secrets, allow_private_addresses=allowed)

    def _directory(self, deployment_id: str) -> BuildDirectory:
        return BuildDirectory(self._builds / safe_name(deployment_id))

    def _build(self, request: BuildRequest) -> Build:
        return Build(
            deployment_id=request.deployment_id,
            project_id=request.project_id,
            environment=request.environment,
            build_id=request.deployment_id,
            task_queue=self.task_queue,
        )

    def _check(self, request: BuildRequest) -> None:
        """Refuses what cannot be built, before anything is made."""
        self.check_settings(request.provider_settings, request.repository_url)
        if request.repository_url is None:
            message = "the internal provider needs the project's repositoryUrl to build from"
            raise DeploymentError(
                ErrorCode.INVALID_REQUEST, message, fields=[("/repositoryUrl", "is needed to build from")]
            )
        check_repository_url(request.repository_url)
        check_source_ref(request.source_ref)
        safe_name(request.project_id)
        for name in ("root_directory", "output_directory"):
            path = getattr(request.configuration, name)
            if path is not None and (outside(path) or "\0" in path):
                raise DeploymentError(
                    ErrorCode.INVALID_REQUEST,
                    f"{name} {path[:80]!r} is refused: accepted is a path below the repository",
                )

    async def _start_supervisor(self, directory: BuildDirectory, request: BuildRequest) -> None:
        """Many may be started: one of them builds, the others leave. Returns when one has begun."""
        cache = self.root / "cache" / request.project_id
        cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(cache)  # used now, says its age
        instructions = Instructions(
            request=request,
            limits=self.limits,
            cache=cache,
            releases=self.releases.root,
            tools=self.tools,
            environment=self.environment,
            allow_private_addresses=self.allow_private_addresses,
            bubblewrap=self.bubblewrap,
        )
        process = await asyncio.create_subprocess_exec(
            *(self.python, "-m", "providers.internal.supervisor", str(directory.path)),
            env={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(_SOURCES), "HOME": str(Path.home())},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        _, said = await process.communicate(instructions.model_dump_json(by_alias=True).encode())
        if directory.state() is None:
            last = said.decode(errors="replace").strip().rpartition("\n")[2]
            raise DeploymentError(ErrorCode.PROVIDER_ERROR, f"the builder does not start: {last[:300]}")

    def _sites_of(self, build: Build, publication: int) -> tuple[Site, Site]:
        of = {**build.model_dump(include={"deployment_id", "project_id", "environment"}), "publication": publication}
        preview = f"{build.deployment_id}.{self.edge.sites_domain}".lower()
        production = f"{build.environment}.{build.project_id}.{self.edge.sites_domain}"
        return Site(host=preview, kind="preview", **of), Site(host=production, kind="production", **of)

    async def _publish(self, site: Site) -> None:
        """Written down once it has been seen; until then, the host is brought back to what was."""
        try:
            self.hosts.point(site.host, site.deployment_id)
            await self.edge.check(site.host, site.deployment_id)
        except DeploymentError as error:
            if error.code not in RETRYABLE:
                await self._restore()
            raise
        self.sites.put(site)

    async def _restore(self) -> bool:
        known = [site for site in self.sites.all() if self.releases.get(site.deployment_id) is not None]
        told = self.hosts.tell({site.host: site.deployment_id for site in known})
        return await self.edge.ensure(self.releases.root) or told

    async def _clean_releases(self) -> None:
        """Previews are withdrawn before their release goes."""
        async with self.sites.lock():
            sites = self.sites.all()
            going = releases_to_remove(self.releases.all(), sites, self.keep, now_utc())
            ids = {release.deployment_id for release in going}
            for site in sites:
                if site.deployment_id in ids:
                    self.sites.remove(site.host)
            if ids:
                await self._restore()
            for deployment_id in ids:
                await asyncio.to_thread(self.releases.remove, deployment_id)


def _runs(build: BuildDirectory) -> bool:
    state = build.state()
    return state is not None and not state.ended


def _publish_line(message: str) -> LogLine:
    return LogLine(timestamp=datetime.now(UTC), message=message, step="publish", source="deploy")
