"""Follows a build from a branch. It has no log: GitHub tells how it ended, and of a failure a message."""

from contextlib import aclosing

from domain.build import Build
from domain.log import LogLevel
from domain.source import is_commit
from providers.github_pages.builds import BranchBuilds
from providers.github_pages.calls import PagesBuild
from providers.github_pages.follow import PAGES_STEP, End, Follower, Following, News, line
from providers.github_pages.source import described
from providers.github_pages.words import BUILD_WAITS, BUILDS, why_waiting
from providers.http import plain

_NO_LOG = "GitHub has no log of builds from a branch: it tells how they end"


class BuildFollower(Follower):
    def __init__(self, following: Following, builds: BranchBuilds, build: Build, cursor: str) -> None:
        super().__init__(following, cursor)
        self._builds = builds
        self._commit = build.build_id

    async def look(self) -> News:
        build = await self._builds.find(self._commit)
        if build is None:
            if not is_commit(self._commit) or self.told.waited_too_long("build", self.pace.find):
                yield self.gone(f"GitHub does not show a build of commit {self._commit[:12]!r}")
            self.waiting = "GitHub does not show the build yet"
            return
        self.told.found("build")
        self.source = described(self.repository, self.request, self._commit, None)
        self.stage = "initializing" if build.status == "queued" else "building"
        ended = build.status in BUILDS
        self.waiting = None if ended else why_waiting(BUILD_WAITS, build.status, "GitHub Pages")
        if not self.told.attempt:
            self.told.attempt = 1
            begun = f"GitHub Pages builds commit {self._commit[:12]} of {plain(self.request.source_ref, 80)}"
            yield self.now([line(_NO_LOG, at=build.created_at), line(begun, at=build.created_at)])
        yield self.now(await self.write_beginning(self._commit))
        async with aclosing(self._end(build)) as end:
            async for news in end:
                yield news

    async def _end(self, build: PagesBuild) -> News:
        verdict = BUILDS.get(build.status or "")
        if verdict is None:
            return
        reason = plain(build.error.message) if build.error and build.error.message else ""
        said = f"{verdict.said}: {reason}" if reason and verdict.stage != "built" else verdict.said
        if not self.told.ended:
            self.told.ended = 1
            level = None if verdict.stage == "built" else LogLevel.ERROR
            yield self.now([line(said, at=build.updated_at, step=PAGES_STEP, level=level)])
        async with aclosing(self.finish(End(verdict.stage, verdict.failure(said)), self._commit)) as ended:
            async for news in ended:
                yield news
