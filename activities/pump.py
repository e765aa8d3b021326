"""Takes a build's lines over into the log: readable, masked, each once. A heartbeat shows where it stands.

Rules:
1. Where the log stands is said by the store alone. Whoever was slower goes on from there.
2. Nothing about a log fails a build: lines that cannot be handled are replaced by a marker, a store that is away is
   waited for.
3. A log beyond its budget keeps its end in memory, and its cursor stays where its beginning ends: whoever takes over
   reads the rest again.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from temporalio import activity

from activities.ahead import read_ahead
from activities.heartbeat import BEAT_SECONDS
from domain.errors import DeploymentError, ErrorCode
from domain.fence import Overtaken
from domain.log import LogBatch, LogLevel, LogLine, StreamPosition
from domain.log_budget import Budget, LogBudget
from domain.log_meaning import Meaning
from domain.log_text import lines_of, plain
from domain.masking import Mask
from providers.base import FINAL_STAGES, BuildNews

if TYPE_CHECKING:
    from store.logs import LogStore

BUILD_STREAM = "build"
PUBLISH_STREAM = "publish"
CHECK_STREAM = "check"
ASIDE_STREAM = "aside"
SHOWN_LINES = 3
SHOWN_LENGTH = 200
MANY_LINES = 1000
"""From so many on they are read in a thread: others in this process want to go on meanwhile."""

PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0)
"""While the store is away; the last one again and again."""

Answer = TypeVar("Answer")
Follow = Callable[[str], AsyncGenerator[BuildNews, None]]


class LogPump:
    """One deployment's log. `secrets` are the values that must not be in it."""

    def __init__(
        self, logs: "LogStore", deployment_id: str, secrets: Iterable[str], budget: Budget | None = None
    ) -> None:
        self._logs = logs
        self._deployment_id = deployment_id
        self._secrets = [*secrets]
        self._most = budget or Budget()
        self._told: dict[str, Any] = {"stage": None, "step": None}
        self._shown: list[str] = []
        self._begin(StreamPosition())

    async def stored(self, follow: Follow) -> AsyncGenerator[BuildNews, None]:
        """What `follow` tells from a cursor on, to the final stage. All lines before and of it are in the log then."""
        beating = asyncio.create_task(self._keep_beating())
        try:
            while True:
                self._begin(await _patiently(lambda: self._position(BUILD_STREAM)))
                async with aclosing(read_ahead(follow(self._cursor))) as batches:
                    async for batch in batches:
                        if not await self._store(batch):
                            break  # somebody else was quicker
                        for news in batch:
                            yield self._without_lines(news)
                            if news.stage in FINAL_STAGES:
                                return
                await asyncio.sleep(PAUSES_SECONDS[0])
        finally:
            beating.cancel()
            await asyncio.wait([beating])

    async def publish(self, lines: list[LogLine], stream: str = PUBLISH_STREAM) -> None:
        """Stores what publishing said; when it was stored before, nothing."""
        asked = (await self._position(BUILD_STREAM)).memory.get("masks", [])
        self._begin(await self._position(stream))
        for value in asked:
            self._mask.add(value)
        if not self._cursor:
            news = BuildNews(cursor="published", lines=lines, stage="built")
            await self._append(self._batch(stream, [news]))

    def _begin(self, position: StreamPosition) -> None:
        self._cursor = position.cursor
        self._mask = Mask(self._secrets)
        self._meaning = Meaning(self._mask, position.memory)
        self._budget: LogBudget[LogLine] = LogBudget(self._most, position.lines, position.bytes)

    async def _position(self, stream: str) -> StreamPosition:
        return await self._logs.position(self._deployment_id, stream)

    async def _store(self, all_news: list[BuildNews]) -> bool:
        """Stores their lines and beats. False when the log does not stand where these lines begin."""
        if sum(len(news.lines) for news in all_news) < MANY_LINES:
            batch = self._batch(BUILD_STREAM, all_news)
        else:
            batch = await asyncio.to_thread(self._batch, BUILD_STREAM, all_news)
        if batch.cursor != self._cursor:
            if (await _patiently(lambda: self._append(batch))).cursor != batch.cursor:
                return False
            self._cursor = batch.cursor
        self._told = {"stage": all_news[-1].stage, "step": all_news[-1].step}
        last = [plain(line.message)[:SHOWN_LENGTH] for line in batch.lines[-SHOWN_LINES:]]
        self._shown = [*self._shown, *last][-SHOWN_LINES:]
        self._beat()
        return True

    def _batch(self, stream: str, all_news: list[BuildNews]) -> LogBatch:
        """Their lines as far as they are to be stored now."""
        lines: list[LogLine] = []
        cursor, memory = self._cursor, self._meaning.memory
        for news in all_news:
            read = self._read(news.lines)
            size = len("".join([line.message for line in read]).encode())
            if self._budget.has_room(len(read), size):
                self._budget.count(len(read), size)
                lines += read
                cursor, memory = news.cursor, self._meaning.memory
            else:
                for line in read:
                    self._budget.keep(line, len(line.message.encode()))
            if news.stage in FINAL_STAGES:
                lines += self._end()
                # Nobody goes on after that; but what publishing says is masked likewise.
                cursor, memory = news.cursor, {"masks": self._mask.added} if self._mask.added else {}
        return LogBatch(stream=stream, after=self._cursor, cursor=cursor, lines=lines, memory=memory)

    def _without_lines(self, news: BuildNews) -> BuildNews:
        """The rest of it, masked: a failure and a commit's message are somebody's words, too."""
        changed: dict[str, Any] = {"lines": []}
        if news.failure is not None:
            failure = news.failure
            said = {"message": self._words(failure.message), "hint": failure.hint and self._words(failure.hint)}
            excerpt = [self._words(line) for line in failure.log_excerpt]
            changed["failure"] = failure.model_copy(update={**said, "log_excerpt": excerpt})
        if news.repository is not None and news.repository.message is not None:
            said = {"message": self._words(news.repository.message)}
            changed["repository"] = news.repository.model_copy(update=said)
        return news.model_copy(update=changed)

    def _words(self, text: str) -> str:
        return "\n".join(self._mask.texts([plain(line) for line in lines_of(text)]))

    def _end(self) -> list[LogLine]:
        missing = self._budget.missing
        tail = self._budget.take_tail()
        return [_marker(missing.message, missing.metadata), *tail] if missing else tail

    def _read(self, lines: list[LogLine]) -> list[LogLine]:
        try:
            return self._meaning.read(lines)
        except Exception as error:  # noqa: BLE001 - rule 2: whatever it is that this line has
            if len(lines) > 1:
                return [read for line in lines for read in self._read([line])]
            activity.logger.warning("a line of the log cannot be read: %r", type(error))
            return [_marker("… a line that cannot be read was left out here")]

    async def _append(self, batch: LogBatch) -> StreamPosition:
        """Stores the lines; those that the store does not take, in a simpler form.

        Raises:
            DeploymentError: unavailable.
            Overtaken: when a later attempt writes the log.
        """
        for form in (_as_it_is, _simplified, _left_out):
            try:
                return await self._logs.append(self._deployment_id, form(batch))
            except (DeploymentError, Overtaken):
                raise
            except Exception as error:  # noqa: BLE001 - rule 2: whatever it is that these lines have
                activity.logger.warning("lines of the log cannot be stored: %r", type(error))
        raise DeploymentError(ErrorCode.UNAVAILABLE, "the log cannot be stored now")

    async def _keep_beating(self) -> None:
        while True:
            self._beat()
            await asyncio.sleep(BEAT_SECONDS)

    def _beat(self) -> None:
        activity.heartbeat({**self._told, "cursor": self._cursor, "lastLines": self._shown})


async def _patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """The store's answer, however long it is away: who waits is ended by a cancel or by the deadline."""
    pauses = iter(PAUSES_SECONDS)
    while True:
        try:
            return await ask()
        except DeploymentError as error:
            if error.code != ErrorCode.UNAVAILABLE:
                raise
        await asyncio.sleep(next(pauses, PAUSES_SECONDS[-1]))


def _as_it_is(batch: LogBatch) -> LogBatch:
    return batch


def _simplified(batch: LogBatch) -> LogBatch:
    now = datetime.now(UTC)
    lines = [
        LogLine(timestamp=now, message=ascii(line.message)[1:-1], level=line.level, source=line.source)
        for line in batch.lines
    ]
    return batch.model_copy(update={"lines": lines})


def _left_out(batch: LogBatch) -> LogBatch:
    marker = _marker(f"… {len(batch.lines)} lines that cannot be stored were left out here")
    return batch.model_copy(update={"lines": [marker]})


def _marker(message: str, metadata: dict[str, Any] | None = None) -> LogLine:
    return LogLine(
        timestamp=datetime.now(UTC), message=message, level=LogLevel.WARN, source="system", metadata=metadata
    )
