"""What following has in common, whatever it is that GitHub does: looking again and again, telling what is new.

Rules:
1. News with lines have a cursor of their own: `told` says of each line that it was told.
2. An outage is waited for, and said in `waiting`; only what cannot get better ends the following.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

from domain.build import BuildRequest
from domain.deployment import Repository as Source
from domain.errors import DeploymentError, ErrorCode
from domain.log import LogLevel, LogLine
from domain.result import Failure
from providers.base import FINAL_STAGES, BuildNews, BuildStage
from providers.github_pages.calls import READ_PAGE, Page
from providers.github_pages.pace import Pace
from providers.github_pages.record import Record
from providers.github_pages.repository import Repository
from providers.github_pages.told import GIVEN_UP, Told
from providers.http import link, plain
from providers.wake import Wake

RECORD_TRIES = 3
PAGES_STEP = "pages"

News = AsyncGenerator[BuildNews, None]


@dataclass(frozen=True)
class Following:
    """What is followed, for whom, and how."""

    repository: Repository
    request: BuildRequest
    record: Record
    pace: Pace
    wake: Wake


@dataclass(frozen=True)
class End:
    stage: BuildStage
    failure: Failure | None = None


class Follower(ABC):
    def __init__(self, following: Following, cursor: str) -> None:
        self.repository = following.repository
        self.request = following.request
        self.pace = following.pace
        self.told = Told.read(cursor)
        self.stage: BuildStage = "initializing"
        self.step: str | None = None
        self.waiting: str | None = None
        self.source: Source | None = None
        self._record = following.record
        self._wake = following.wake
        self._next_try = 0.0

    async def news(self) -> News:
        while True:
            pause = self.pace.poll
            try:
                async with aclosing(self.look()) as found:
                    async for news in found:
                        yield news
                        if news.stage in FINAL_STAGES:
                            return
            except DeploymentError as error:
                if not error.retryable:
                    raise
                self.waiting = plain(error.message)
                self.told.missing.clear()  # what GitHub did not show meanwhile, it could not
                pause = max(pause, error.retry_after_seconds or 0)
            yield self.now()
            await self._wake.wait(pause)

    @abstractmethod
    def look(self) -> News:
        """What one look at GitHub shows to be new; with a final stage, where it has ended."""

    def now(self, lines: list[LogLine] | None = None) -> BuildNews:
        return BuildNews(
            cursor=self.told.cursor(),
            lines=lines or [],
            stage=self.stage,
            step=self.step,
            waiting=self.waiting,
            repository=self.source,
        )

    async def write_beginning(self, commit: str) -> list[LogLine]:
        """The GitHub Deployment, unless it is there or has been given up, which is said once."""
        if self.told.record or time.monotonic() < self._next_try:
            return []
        try:
            self.told.record = await self._record.begin(commit)
        except DeploymentError as error:
            self._next_try = time.monotonic() + 2 * self.pace.poll  # GitHub's list lags behind
            self.told.record_tries += 1
            if error.retryable and self.told.record_tries < RECORD_TRIES:
                return []
            self.told.record = GIVEN_UP
            return [_not_written(error)]
        return []

    async def finish(self, end: End, commit: str) -> News:
        """The end, and before it the last status of the GitHub Deployment."""
        while not self.told.record:
            await asyncio.sleep(max(0, self._next_try - time.monotonic()))
            yield self.now(await self.write_beginning(commit))
        if self.told.record > 0 and (why := await self._write_end(end.stage)) is not None:
            self.told.record = GIVEN_UP
            yield self.now([_not_written(why)])
        self.waiting = None
        yield self.now().model_copy(update={"stage": end.stage, "failure": end.failure})

    async def _write_end(self, stage: BuildStage) -> DeploymentError | None:
        """Why it could not be written, in the end."""
        for tries_left in reversed(range(RECORD_TRIES)):
            try:
                url = await page_url(self.repository) if stage == "built" else None
                await self._record.end(self.told.record, stage, url)
            except DeploymentError as error:
                if not (error.retryable and tries_left):
                    return error
                await asyncio.sleep(self.pace.poll)
            else:
                break
        return None

    def gone(self, what: str) -> BuildNews:
        message = f"{what}: it is not in {self.repository}, or the credential may not see it any more"
        failure = Failure(code=ErrorCode.BUILD_FAILED, message=message, retryable=True, hint="deploy again")
        return self.now().model_copy(update={"stage": "failed", "failure": failure})


async def page_url(repository: Repository) -> str | None:
    """Where the page is reached; None where GitHub does not say so."""
    page = await repository.look(READ_PAGE, Page)
    return link(page.html_url) if page else None


def line(
    message: str,
    *,
    at: datetime | None = None,
    step: str | None = None,
    level: LogLevel | None = None,
) -> LogLine:
    """A line about the deployment, not of it."""
    return LogLine(timestamp=at or datetime.now(UTC), message=message, step=step, source="deploy", level=level)


def _not_written(why: DeploymentError) -> LogLine:
    return line(f"the repository's page does not show this deployment: {why.message}", level=LogLevel.WARN)
