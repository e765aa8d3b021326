"""Follows a build by looking again and again: how it stands, then what is new in its log; and tells both as news.

Rules:
1. The state is what the answer to `status` says; the log decides nothing, and what cannot be read of it fails nothing.
2. The log is read to its end after the state has become final, and before that is told.
3. An outage is waited for, and said in `waiting`.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

from domain.deployment import Repository
from domain.errors import DeploymentError
from domain.log import LogLevel, LogLine
from domain.source import is_commit
from providers.base import BuildNews
from providers.custom.api import GONE, Api, document_of
from providers.custom.logs import KINDS, Log, Piece, Place, Seen
from providers.custom.pointers import text_at
from providers.custom.words import gone, verdict
from providers.http import plain
from providers.verdict import Verdict
from providers.wake import Wake

EXCERPT_LINES = 20
GONE_LOOKS = 3
"""A new build may not be found at first."""
PAGES_AT_ONCE = 20
"""Of a log; then the state is looked at, too."""
SLOWER = 1.5
SOONEST_SECONDS = 0.2
"""Between two looks, however many webhooks come."""
SETTLE_SECONDS = 1.0
"""What a log is given to catch up with the state, at most."""
REST_TRIES = 3
REST_SECONDS = 60


class Follower:
    def __init__(self, api: Api, build_id: str, cursor: str) -> None:
        self._api = api
        self._build_id = build_id
        self._log: Log = KINDS[api.settings.logs.kind](api, build_id)
        self._place = Place.read(cursor)
        self._status: Any = None
        self._verdict = Verdict()
        self._repository: Repository | None = None
        self._trouble: str | None = None
        self._log_trouble: str | None = None
        self._log_tries = 0
        self._retry_after = 0
        self._missing = 0
        self._last: deque[str] = deque(maxlen=EXCERPT_LINES)

    async def news(self, wake: Wake) -> AsyncGenerator[BuildNews, None]:
        poll = self._api.settings.poll
        pause = poll.shortest_seconds
        ended_at: float | None = None
        while True:
            before = (self._verdict, self._place)
            await self._look()
            for _ in range(PAGES_AT_ONCE):
                pieces = await self._read_log()
                for piece in pieces:
                    self._place = piece.place
                    yield self._news(piece.lines)
                if not pieces or not pieces[-1].more:
                    break
            changed = (self._verdict, self._place) != before
            if self._verdict.final:
                ended_at = ended_at or time.monotonic()
                if not self._may_have_more(changed=changed, since=ended_at):
                    break
                yield self._news([])
                await asyncio.sleep(max(min(poll.shortest_seconds, SETTLE_SECONDS), self._retry_after))
            else:
                yield self._news([])
                pause = poll.shortest_seconds if changed else min(pause * SLOWER, poll.longest_seconds)
                await self._wait(wake, max(pause, self._retry_after))
        if remark := self._remark():
            self._place = self._place.moved(remarked=True)
            yield self._news([remark])
        yield self._end()

    async def _look(self) -> None:
        """How the build stands. Once it has ended that is known: then whether it can be asked, for its log, too."""
        if not self._verdict.final:
            self._verdict = await self._ask() or self._verdict
        elif self._log_trouble or self._api.settings.logs.kind == "status":
            with contextlib.suppress(DeploymentError):
                await self._ask()

    async def _ask(self) -> Verdict | None:
        self._trouble, self._retry_after = None, 0
        try:
            answer = await self._api.ask("status", buildId=self._build_id)
            if answer.status in GONE:
                self._missing += 1
                return gone(self._build_id) if self._missing >= GONE_LOOKS else None
            self._missing = 0
            self._status = document_of(answer)
            self._repository = self._source() or self._repository
            return verdict(self._api.settings, answer, self._status)
        except DeploymentError as error:
            if not error.retryable:
                raise
            self._trouble = str(self._api.trouble or plain(error.message))
            self._retry_after = error.retry_after_seconds or 0
            return None

    async def _read_log(self) -> list[Piece]:
        self._log_trouble = None
        try:
            return await self._log.read(self._place, Seen(self._status, self._verdict.final))
        except DeploymentError as error:
            self._log_trouble = plain(error.message)
            return []

    def _may_have_more(self, *, changed: bool, since: float) -> bool:
        """Whether the log of a build that has ended is looked at again. Tries in an outage do not count."""
        if self._log_trouble:
            self._log_tries += self._trouble is None
            return self._log_tries < REST_TRIES
        if changed and time.monotonic() > since + REST_SECONDS:
            self._log_trouble = f"it did not end within {REST_SECONDS} s"
        return changed and self._log_trouble is None

    def _remark(self) -> LogLine | None:
        said = []
        if self._log_trouble:
            said.append(f"the rest of the log could not be read: {self._log_trouble}")
        if self._log.unreadable:
            said.append("some of the log could not be read: it is not as the description says")
        if not said or self._place.remarked:
            return None
        return LogLine(timestamp=datetime.now(UTC), level=LogLevel.WARN, message="; ".join(said), source="system")

    def _news(self, lines: list[LogLine]) -> BuildNews:
        self._last.extend(line.message for line in lines)
        known = Verdict("building", self._verdict.step) if self._verdict.final else self._verdict
        return BuildNews(
            cursor=str(self._place),
            lines=lines,
            stage=known.stage,
            step=known.step,
            waiting=self._trouble or known.waiting,
            repository=self._repository,
        )

    def _end(self) -> BuildNews:
        known, failure = self._verdict, self._verdict.failure
        if failure is not None and known.stage == "failed":
            failure = failure.model_copy(update={"log_excerpt": list(self._last)})
        return self._news([]).model_copy(update={"stage": known.stage, "failure": failure, "waiting": None})

    async def _wait(self, wake: Wake, seconds: float) -> None:
        """Until it is time to look again, or somebody says that there may be news."""
        await asyncio.sleep(min(seconds, SOONEST_SECONDS))
        await wake.wait(max(0, seconds - SOONEST_SECONDS))

    def _source(self) -> Repository | None:
        request = self._api.request
        commit = text_at(self._status, self._api.settings.requests.status.answer.commit)
        if commit is None or not is_commit(commit) or request.repository_url is None:
            return None
        return Repository(url=request.repository_url, branch=request.source_ref, commit=commit)
