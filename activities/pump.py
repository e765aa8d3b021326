"""Takes a build's lines over into the log, masked, each once. A heartbeat shows where it stands and the last lines."""

from typing import TYPE_CHECKING

from temporalio import activity

from activities.mask import Mask
from domain.log import LogBatch
from domain.result import Failure
from providers.base import BuildNews

if TYPE_CHECKING:
    from store.logs import LogStore

STREAM = "build"
SHOWN_LINES = 3
SHOWN_LENGTH = 200


class LogPump:
    def __init__(self, logs: "LogStore", deployment_id: str, mask: Mask) -> None:
        self._logs = logs
        self._deployment_id = deployment_id
        self._mask = mask
        self._cursor = ""
        self._shown: list[str] = []

    async def cursor(self) -> str:
        """How far the log has been stored, by whoever did it."""
        self._cursor = (await self._logs.position(self._deployment_id, STREAM)).cursor
        return self._cursor

    async def take_over(self, news: BuildNews) -> bool:
        """Stores the lines and beats. False when the log does not stand where these lines begin."""
        lines = self._mask.lines(news.lines)
        if news.cursor != self._cursor:
            batch = LogBatch(stream=STREAM, after=self._cursor, cursor=news.cursor, lines=lines)
            if (await self._logs.append(self._deployment_id, batch)).cursor != news.cursor:
                return False
            self._cursor = news.cursor
        self._shown = [*self._shown, *(line.message[:SHOWN_LENGTH] for line in lines)][-SHOWN_LINES:]
        activity.heartbeat({"stage": news.stage, "step": news.step, "cursor": self._cursor, "lastLines": self._shown})
        return True

    def masked(self, failure: Failure | None) -> Failure | None:
        """The failure without secrets: its message and its excerpt come from the build's output."""
        if failure is None:
            return None
        excerpt = [self._mask.text(line) for line in failure.log_excerpt]
        return failure.model_copy(update={"message": self._mask.text(failure.message), "log_excerpt": excerpt})
