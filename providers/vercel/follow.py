"""Follows a deployment: reads its log as it comes and looks at its state beside it, and tells both as news.

Rules:
1. The state is what the deployment itself says; the log only says when to look.
2. The log is read to its end after the state has become final, and before that is told.
3. An outage is waited for, and said in `waiting`; what cannot be read of the log is said in the log.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from domain.build import BuildRequest
from domain.deployment import Repository
from domain.errors import DeploymentError
from domain.log import LogLevel, LogLine
from domain.source import is_commit
from providers.base import BuildNews
from providers.http import Params, plain
from providers.vercel.api import Api
from providers.vercel.calls import EVENTS, Deployment
from providers.vercel.events import NEWS_OF_STATE, Entry, Place, entry_of, records_of, short
from providers.vercel.words import gone, verdict
from providers.verdict import Verdict
from providers.wake import Wake

BEAT_SECONDS = 0.8
LINGER_SECONDS = 0.05
"""Lines that come within it are told together."""
MOST_LINES = 1000
LONGEST_LINE = 8 * 1024 * 1024
"""A log may come as one array on one line."""
EXCERPT_LINES = 20
GONE_LOOKS = 3
"""A new deployment may not be found at first."""
REST_TRIES = 3
"""Those of an outage do not count."""
REST_SECONDS = 60
LONGEST_RECONNECT = 10.0

LOOKS = ((15, 1.0), (60, 2.0), (300, 5.0), (float("inf"), 10.0))
"""Up to which age of following (seconds) the state is looked at how often. Vercel's client: 1, 5, 15, then 30 s."""


class Mark(Enum):
    STATE = auto()
    END = auto()


@dataclass(frozen=True)
class Pace:
    look: float | None = None  # seconds between looks; None: by `LOOKS`
    soonest: float = 0.3  # between two looks, whatever calls for one
    settle: float = 1.0  # what the log is given to catch up with the state
    reconnect: float = 1.0


class Follower:
    def __init__(self, api: Api, request: BuildRequest, build_id: str, cursor: str, pace: Pace) -> None:
        self._api = api
        self._request = request
        self._build_id = build_id
        self._pace = pace
        self._told = Place.read(cursor)
        self._read = Place.read(cursor)
        self._coming: asyncio.Queue[Entry | Mark] = asyncio.Queue(MOST_LINES)
        self._look_now = asyncio.Event()
        self._final = asyncio.Event()
        self._verdict = Verdict()
        self._repository: Repository | None = None
        self._trouble: str | None = None
        self._found = False
        self._unreadable = 0
        self._last: deque[str] = deque(maxlen=EXCERPT_LINES)

    async def news(self, wake: Wake) -> AsyncGenerator[BuildNews, None]:
        following = asyncio.create_task(self._follow_log())
        tasks = [following, asyncio.create_task(self._watch(wake)), asyncio.create_task(self._finish_log(following))]
        try:
            coming: list[Entry | Mark] = []
            while Mark.END not in coming:
                coming = await self._next()
                for task in tasks:
                    if task.done() and not task.cancelled():
                        task.result()  # what stopped it
                entries = [entry for entry in coming if isinstance(entry, Entry)]
                yield self._news(entries, ended=Mark.END in coming)
        finally:
            await _end(*tasks)

    def _news(self, entries: list[Entry], *, ended: bool) -> BuildNews:
        for entry in entries:
            self._told.pass_by(entry)
            self._last.append(entry.line.message)
        known = self._verdict
        if known.final and not ended:
            known = Verdict("building", known.step)
        failure = known.failure
        if failure and known.stage == "failed":
            failure = failure.model_copy(update={"log_excerpt": list(self._last)})
        return BuildNews(
            cursor=str(self._told),
            lines=[entry.line for entry in entries],
            stage=known.stage,
            step=known.step,
            waiting=self._trouble or known.waiting,
            repository=self._repository,
            failure=failure,
        )

    async def _next(self) -> list[Entry | Mark]:
        """What comes within a beat, and the lines that come soon after one."""
        try:
            coming = [await asyncio.wait_for(self._coming.get(), BEAT_SECONDS)]
        except TimeoutError:
            return []
        if isinstance(coming[0], Entry) and not self._coming.full():
            await asyncio.sleep(LINGER_SECONDS)
        while len(coming) < MOST_LINES and not self._coming.empty():
            coming.append(self._coming.get_nowait())
        return coming

    async def _watch(self, wake: Wake) -> None:
        """Looks at the state until it is final."""
        started = time.monotonic()
        missing = 0
        while not self._final.is_set():
            age = time.monotonic() - started
            pause = self._pace.look or next(every for until, every in LOOKS if age < until)
            try:
                deployment = await self._api.deployment(self._build_id)
            except DeploymentError as error:
                await self._coming.put(Mark.STATE)
                if not error.retryable:
                    raise
                self._trouble = str(self._api.trouble or plain(error.message))
                pause = max(pause, error.retry_after_seconds or 0)
            else:
                self._trouble = None
                missing = 0 if deployment else missing + 1
                if self._learn(deployment, missing):
                    await self._coming.put(Mark.STATE)
            await self._pause(wake, pause)

    def _learn(self, deployment: Deployment | None, missing: int) -> bool:
        """Whether it says something new."""
        before = self._verdict
        if deployment is not None:
            self._found = True
            self._verdict = verdict(deployment)
            self._repository = _repository(self._request, deployment) or self._repository
        elif missing >= GONE_LOOKS:
            self._verdict = gone(self._build_id)
        if self._verdict.final:
            self._final.set()
        return self._verdict != before

    async def _pause(self, wake: Wake, seconds: float) -> None:
        """Until it is time to look again, or somebody says that there may be news."""
        if self._final.is_set():
            return
        await asyncio.sleep(min(seconds, self._pace.soonest))
        reasons: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(wake.wait(seconds)),
            asyncio.ensure_future(self._look_now.wait()),
        ]
        try:
            await asyncio.wait(reasons, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await _end(*reasons)
        self._look_now.clear()

    async def _follow_log(self) -> None:
        """Reads on and on; a stream that ends or breaks is opened again where it stood."""
        pause = self._pace.reconnect
        while True:
            place = str(self._read)
            with contextlib.suppress(DeploymentError):  # the state says why, if it is in trouble, too
                await self._read_records(follow=1)
            pause = self._pace.reconnect if str(self._read) != place else min(2 * pause, LONGEST_RECONNECT)
            await asyncio.sleep(pause)

    async def _finish_log(self, following: "asyncio.Task[None]") -> None:
        """Once the state is final: what is left of the log, then the end."""
        await self._final.wait()
        await _end(following)
        if self._found:
            await asyncio.sleep(self._pace.settle)
            await self._read_rest()
        if self._unreadable:
            await self._remark(f"{self._unreadable} records of vercel's log could not be read")
        await self._coming.put(Mark.END)

    async def _read_rest(self) -> None:
        tries, why = 0, ""
        while tries < REST_TRIES:
            try:
                async with asyncio.timeout(REST_SECONDS):
                    await self._read_records(follow=0)
            except TimeoutError:
                why = f"it did not end within {REST_SECONDS} s"
            except DeploymentError as error:
                why = plain(error.message)
            else:
                return
            tries += await self._is_there()
            await asyncio.sleep(self._pace.reconnect)
        await self._remark(f"the rest of vercel's log could not be read: {why}")

    async def _is_there(self) -> bool:
        """Whether vercel answers at all, when its log does not."""
        try:
            await self._api.deployment(self._build_id)
        except DeploymentError as error:
            self._trouble = str(self._api.trouble or plain(error.message)) if error.retryable else None
        else:
            self._trouble = None
        return self._trouble is None

    async def _read_records(self, *, follow: int) -> None:
        self._read.floor = self._read.at
        params: Params = {"follow": follow, "direction": "forward", "limit": -1, "since": self._read.at or None}
        async with self._api.stream(EVENTS, params, id=self._build_id, max_line_bytes=LONGEST_LINE) as lines:
            async for line in lines:
                records, wrong = records_of(line)
                self._unreadable += wrong
                for record in records:
                    if record.type in NEWS_OF_STATE:
                        self._look_now.set()
                    entry = entry_of(record)
                    if entry is not None and self._read.is_new(entry):
                        await self._coming.put(entry)
                        self._read.pass_by(entry)

    async def _remark(self, message: str) -> None:
        """A line of ours, at the end of the log; known again by whoever resumes after it."""
        line = LogLine(timestamp=datetime.now(UTC), level=LogLevel.WARN, message=message, source="system")
        entry = Entry(max(1, self._read.at), short(message), line)
        if self._read.is_new(entry):
            await self._coming.put(entry)


def _repository(request: BuildRequest, deployment: Deployment) -> Repository | None:
    """Vercel writes the commit into `meta`, under the name of who hosts it: githubCommitSha, gitlabCommitSha …"""
    host = str(deployment.git_source.get("type", "")).partition("-")[0]
    commit = deployment.meta.get(f"{host}CommitSha") or deployment.git_source.get("sha")
    if not isinstance(commit, str) or not is_commit(commit) or request.repository_url is None:
        return None
    return Repository(
        url=request.repository_url,
        branch=request.source_ref,
        commit=commit,
        message=deployment.meta.get(f"{host}CommitMessage"),
        author=deployment.meta.get(f"{host}CommitAuthorName"),
    )


async def _end(*tasks: "asyncio.Future[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
