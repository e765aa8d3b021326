"""Builds of a page from a branch, which GitHub does by itself: the older way, without a workflow of one's own.

Rules:
1. GitHub builds the newest commit of the page's branch and nothing else: what else is asked for is refused.
2. A build belongs to a deployment when it is of its commit, and was asked for since, or still goes on. The commit is
   the build's id here: GitHub tells no other before the build is listed.
"""

import asyncio
import time

from domain.build import BuildRequest
from domain.errors import DeploymentError, ErrorCode
from providers.github_pages.calls import (
    LIST_BUILDS,
    READ_COMMIT,
    READ_PAGE,
    REQUEST_BUILD,
    Commit,
    Page,
    PagesBuild,
)
from providers.github_pages.pace import Pace
from providers.github_pages.repository import PER_PAGE, Repository
from providers.github_pages.runs import still_going
from providers.github_pages.source import wanted_since
from providers.github_pages.words import BUILDS, SITE_HINT
from providers.http import Ambiguous


class BranchBuilds:
    def __init__(self, repository: Repository, request: BuildRequest, pace: Pace) -> None:
        self.repository = repository
        self._request = request
        self._pace = pace

    async def start(self) -> str:
        commit = await self._commit()
        if await self.find(commit) is None:
            await self._start(commit)
        return commit

    async def find(self, commit: str) -> PagesBuild | None:
        """The newest build that is this deployment's."""
        since = wanted_since(self._request.deployment_id)
        builds = await self.repository.look(LIST_BUILDS, list[PagesBuild], params={"per_page": PER_PAGE}) or []
        ours = [
            build
            for build in builds
            if build.commit == commit and (build.created_at >= since or build.status not in BUILDS)
        ]
        return max(ours, key=lambda build: build.created_at, default=None)

    async def wait_for_end(self, commit: str) -> None:
        """Also when there is none: what GitHub does not show does not run."""
        since = time.monotonic()
        while True:
            build = await self.find(commit)
            if build is None or build.status in BUILDS:
                return
            if (took := time.monotonic() - since) >= self._pace.cancel:
                raise still_going("build", took)
            await asyncio.sleep(self._pace.poll)

    async def _start(self, commit: str) -> None:
        try:
            await self.repository.ask(REQUEST_BUILD)
        except Ambiguous:
            for pause in self._pace.looks:
                await asyncio.sleep(pause)
                if await self.find(commit) is not None:
                    return
            raise

    async def _commit(self) -> str:
        branch = await self._branch()
        commit = (await self.repository.ask(READ_COMMIT, ref=branch)).read(Commit).sha
        refs = {branch, f"refs/heads/{branch}", commit}
        if self._request.source_ref not in refs or self._request.commit_sha not in {None, commit}:
            raise DeploymentError(
                ErrorCode.INVALID_SOURCE_REF,
                f"GitHub builds this page from the newest commit of its branch {branch[:80]!r} and nothing else:"
                f" accepted is {branch[:80]!r}, now at {commit[:12]}. For other commits there is mode 'workflow'",
                fields=[("/sourceRef", "not the branch that the page is built from")],
            )
        return commit

    async def _branch(self) -> str:
        page = await self.repository.look(READ_PAGE, Page)
        if page is None or page.build_type == "workflow" or page.source is None:
            raise DeploymentError(
                ErrorCode.INVALID_REQUEST,
                f"{self.repository} has no page that is built from a branch, or the credential may not see it",
                details={"hint": SITE_HINT},
            )
        return page.source.branch
