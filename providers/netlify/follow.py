"""Follows a deploy: looks at it again and again, hands over files that it wants, and tells its log once it has ended.

Rules:
1. Lines come in an order that can be told again: what was passed on the way, then the log as Netlify keeps it.
2. What is ready for production counts once the site serves it, or once it is seen that Netlify will not do that.
3. An outage is waited for, and said in `waiting`; what cannot be had of the log is said in the log.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from pydantic import Field

from domain.build import BuildRequest
from domain.deployment import Repository
from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLevel, LogLine
from domain.result import Failure
from domain.source import is_commit
from providers.base import BuildNews
from providers.http import plain
from providers.netlify.api import Api
from providers.netlify.calls import CANCEL, Deploy
from providers.netlify.files import upload
from providers.netlify.live import locked
from providers.netlify.log import note, read_log
from providers.netlify.pace import Pace
from providers.netlify.variables import NOT_HANDED_OVER, are_left_out
from providers.netlify.words import gone, page_of, passed, verdict
from providers.told import ToldSoFar
from providers.verdict import Verdict
from providers.wake import Wake

GONE_LOOKS = 3
"""A new deploy may not be found at first."""
LINES_AT_ONCE = 1000
EXCERPT_LINES = 20

News = AsyncGenerator[BuildNews, None]


class Told(ToldSoFar):
    """What has been told: the cursor. `notes` are lines of ours, `log` is how many there were of Netlify's log."""

    notes: list[str] = Field(default_factory=list)
    log: int = 0

    def first(self, name: str) -> bool:
        """Whether it is new; from now on it is not."""
        if name in self.notes:
            return False
        self.notes.append(name)
        return True


class Follower:
    def __init__(
        self, api: Api, request: BuildRequest, build_id: str, cursor: str, *, pace: Pace, directory: Path | None
    ) -> None:
        self._api = api
        self._request = request
        self._build_id = build_id
        self._pace = pace
        self._directory = directory
        self._told = Told.read(cursor)
        self._verdict = Verdict()
        self._repository: Repository | None = None
        self._trouble: str | None = None
        self._missing = 0
        self._ready_since: float | None = None
        self._handed_over: set[str] = set()
        self._last: deque[str] = deque(maxlen=EXCERPT_LINES)

    async def news(self, wake: Wake) -> News:
        started = time.monotonic()
        while True:
            pause = self._pace.pause(time.monotonic() - started)
            try:
                async with aclosing(self._look()) as all_news:
                    async for news in all_news:
                        yield news
                if self._verdict.final:
                    return
            except DeploymentError as error:
                if not error.retryable:
                    raise
                self._trouble = str(self._api.trouble or plain(error.message))
                pause = max(pause, error.retry_after_seconds or 0)
                yield self._now([])
            await wake.wait(pause)

    async def _look(self) -> News:
        deploy = await self._api.deploy(self._build_id)
        self._missing = 0 if deploy else self._missing + 1
        if deploy is None:
            if self._missing >= GONE_LOOKS:
                self._verdict = gone(self._build_id)
            yield self._now([])
            return
        known = verdict(deploy)
        self._repository = _repository(self._request, deploy) or self._repository
        lines = self._notes(deploy)
        if (wrong := self._wrong_commit(deploy)) is not None and known.stage not in {"failed", "canceled"}:
            known = await self._stopped(known, wrong)
        self._verdict = await self._until_live(known, lines) if known.stage == "built" else known
        self._trouble = None
        if not self._verdict.final:
            yield self._now(lines)
            await self._hand_over(deploy)
            return
        end, self._verdict = self._verdict, Verdict("building", self._verdict.step)
        yield self._now(lines)
        async with aclosing(self._log(deploy)) as log:
            async for news in log:
                yield news
        self._verdict = end
        yield self._now([])

    def _now(self, lines: list[LogLine]) -> BuildNews:
        self._last.extend(line.message for line in lines)
        failure = self._verdict.failure
        if failure and self._verdict.stage == "failed":
            failure = failure.model_copy(update={"log_excerpt": list(self._last)})
        return BuildNews(
            cursor=self._told.model_dump_json(exclude_defaults=True),
            lines=lines,
            stage=self._verdict.stage,
            step=self._verdict.step,
            waiting=self._trouble or self._verdict.waiting,
            repository=self._repository,
            failure=failure,
        )

    def _notes(self, deploy: Deploy) -> list[LogLine]:
        lines = []
        if are_left_out(self._request, self._api.settings) and self._told.first("variables"):
            lines.append(note(NOT_HANDED_OVER, level=LogLevel.WARN))
        return lines + [note(text) for name, text in passed(deploy) if self._told.first(name)]

    def _wrong_commit(self, deploy: Deploy) -> str | None:
        """The commit that is built, where another one was asked for: Netlify builds the newest one of a branch."""
        wanted, built = self._request.commit_sha, deploy.commit_ref
        if self._api.settings.mode == "files" or not wanted or not built or built.startswith(wanted):
            return None
        return plain(built, 64)

    async def _stopped(self, known: Verdict, commit: str) -> Verdict:
        """It must not go live, where that can still be kept."""
        await self._api.call(CANCEL, id=self._build_id)
        published = known.stage == "built" and (await self._api.site()).live == self._build_id
        message = (
            f"netlify builds the newest commit of {self._request.source_ref!r}, which is {commit}; asked for was "
            f"{self._request.commit_sha}" + (". It has published it" if published else "")
        )
        hint = "deploy the branch, or make an earlier deployment live again"
        return Verdict("failed", known.step, failure=Failure(code=ErrorCode.BUILD_FAILED, message=message, hint=hint))

    async def _until_live(self, known: Verdict, lines: list[LogLine]) -> Verdict:
        """A ready deploy for production, while Netlify may still publish it; then it is up to `publish_build`."""
        if not self._api.production or self._request.configuration.skip_deploy:
            return known
        site = await self._api.site()
        if site.live == self._build_id:
            return known
        if site.locked:
            if self._told.first("locked"):
                lines.append(note(locked(site), level=LogLevel.WARN))
            return known
        self._ready_since = self._ready_since or time.monotonic()
        if time.monotonic() >= self._ready_since + self._pace.publish:
            return known
        return Verdict("building", known.step, "netlify has not published it yet")

    async def _hand_over(self, deploy: Deploy) -> None:
        """Files that Netlify wants, each once from here; a resumed follower asks again what is wanted."""
        wanted = set(deploy.required or []) - self._handed_over
        if self._api.settings.mode == "git" or not wanted:
            return
        if self._directory is None:
            raise DeploymentError(ErrorCode.BUILD_FAILED, "what is to be published is no longer on this host")
        await upload(self._api, self._build_id, self._directory, wanted, self._pace)
        self._handed_over |= wanted

    async def _log(self, deploy: Deploy) -> News:
        """What Netlify keeps of the build's log; a build from files has none there."""
        if self._api.settings.mode == "files" or not self._api.settings.logs:
            return
        lines, why = await self._read_log()
        if why is not None:
            page = page_of(deploy)
            where = f"; its page may show it: {page}" if page else ""
            if self._told.log == 0 and self._told.first("no log"):
                yield self._now([note(f"netlify offers no log API: {why}{where}", level=LogLevel.WARN)])
            return
        self._last.extend(line.message for line in lines[: self._told.log])
        while self._told.log < len(lines):
            part = lines[self._told.log : self._told.log + LINES_AT_ONCE]
            self._told.log += len(part)
            yield self._now(part)

    async def _read_log(self) -> tuple[list[LogLine], str | None]:
        """The lines, or why there are none."""
        why = "it has kept none of this build"
        if self._told.log == 0 and "no log" in self._told.notes:
            return [], why
        for pause in (0, *self._pace.log):
            await asyncio.sleep(pause)
            try:
                lines = await read_log(self._api, self._build_id)
            except DeploymentError as error:
                why = plain(error.message)
                if not error.retryable:
                    break
                await self._api.deploy(self._build_id)  # where all of netlify is away, that is waited for
            else:
                if lines:
                    return lines, None
        return [], why


def _repository(request: BuildRequest, deploy: Deploy) -> Repository | None:
    commit = deploy.commit_ref
    if commit is None or not is_commit(commit) or request.repository_url is None:
        return None
    return Repository(url=request.repository_url, branch=request.source_ref, commit=commit)
