"""Logs of earlier days, and all that readers can ask of them, for tests of what becomes of old logs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import chain

from domain.deployment import TriggerDeploymentRequest
from domain.ending import Ending
from domain.log import LogBatch, LogFilter, LogLevel, LogLine
from domain.states import Status
from domain.wire import Wire
from store.database import Database
from store.deployments import DeploymentStore
from store.logs import LogStore
from store.progress import ProgressStore

TODAY = datetime.now(UTC).date()
LONG_AGO = TODAY - timedelta(days=40)

_NOON = datetime(LONG_AGO.year, LONG_AGO.month, LONG_AGO.day, 12, tzinfo=UTC)
_PLACES: tuple[dict[str, int], ...] = ({}, {"offset": 11}, {"tail": 5}, {"after": 17, "tail": 3}, {"after": 4998})
_FILTERS = (
    LogFilter(level=LogLevel.WARN),
    LogFilter(step="test", source="deploy"),
    LogFilter(query="LINE 1", since=_NOON + timedelta(seconds=5), until=_NOON + timedelta(seconds=30)),
    LogFilter(query=r"line \d*77$", regex=True, case_sensitive=True),
    LogFilter(query="is not there"),
)


@dataclass(frozen=True)
class OldLogs:
    database: Database
    deployments: DeploymentStore
    progress: ProgressStore
    logs: LogStore

    async def make(self, count: int = 30, day: date = LONG_AGO, *, ended: bool = True) -> str:
        """The id of a deployment of project `shop` with so many lines, of that day."""
        request = TriggerDeploymentRequest(project_id="shop", source_ref="main", force=True)
        deployment_id = (await self.deployments.trigger(request, "ada")).answer.id
        await self.add(deployment_id, count, day)
        await self.database.fetch_all(
            "update logs set day = %(day)s where deployment_id = %(id)s returning day",
            {"day": day, "id": deployment_id},
        )
        if ended:
            await self.progress.finish(deployment_id, Ending(status=Status.FAILED))
        return deployment_id

    async def add(self, deployment_id: str, count: int, day: date = LONG_AGO) -> None:
        stands = await self.logs.position(deployment_id, "build")
        lines = [_line(number, day) for number in range(stands.lines + 1, stands.lines + count + 1)]
        batch = LogBatch(stream="build", after=stands.cursor, cursor=str(stands.lines + count), lines=lines)
        await self.logs.append(deployment_id, batch)

    async def numbers(self, deployment_id: str) -> list[int]:
        """Of all its lines, page by page."""
        found: list[int] = []
        after: int | None = 0
        while after is not None:
            page = await self.logs.page(deployment_id, LogFilter(), limit=400, after=after)
            found += [int(line.id) for line in page.lines]
            after = page.cursor
        return found

    async def answers(self, deployment_ids: Sequence[str]) -> list[str]:
        """What readers get, word for word."""
        said: list[Wire] = []
        for deployment_id in deployment_ids:
            said.append(await self.logs.position(deployment_id, "build"))
            said += [await self.logs.page(deployment_id, LogFilter(), limit=7, **where) for where in _PLACES]
            for wanted in _FILTERS:
                said.append(await self.logs.page(deployment_id, wanted, limit=9, offset=2))
                said.append(await self.logs.page(deployment_id, wanted, limit=9, tail=4, after=3))
        for wanted in _FILTERS:
            cursor: str | None = ""
            while cursor is not None:
                matches, cursor = await self.logs.search("shop", wanted, limit=50, cursor=cursor or None, context=2)
                said += matches
        tails = await self.logs.tails(deployment_ids, 20)
        said += chain.from_iterable(tails.values())
        return [one.model_dump_json() for one in said]


def _line(number: int, day: date) -> LogLine:
    return LogLine(
        timestamp=_NOON + (day - LONG_AGO) + timedelta(seconds=number),
        message=f"line {number}",
        level=LogLevel.ERROR if number % 100 == 3 else None,
        step="test" if number % 7 == 0 else "build",
        source="deploy" if number % 11 == 0 else "build",
        metadata={"file": f"src/{number}.c"} if number % 50 == 0 else None,
    )
