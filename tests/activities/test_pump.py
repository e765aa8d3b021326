"""From a provider into the log, on a real database: each line once, whoever dies, however much and whatever comes."""

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from temporalio.testing import ActivityEnvironment

from activities import ahead
from activities.pump import BUILD_STREAM, Follow, LogPump
from domain.deployment import TriggerDeploymentRequest
from domain.log import DeploymentLog, LogFilter, LogLevel, LogLine
from domain.log_budget import Budget
from domain.project import CreateProjectRequest
from domain.result import Failure
from providers.base import BuildNews, BuildStage
from store.database import Database
from store.deployments import DeploymentStore
from store.limits import TriggerLimiter
from store.logs import LogStore
from store.projects import ProjectStore
from store.seal import Sealer
from tests.servers import eventually

SECRET = "correct-horse-battery"
NOW = datetime.now(UTC)


class Script:
    """A provider's side of a build that says `messages`, from any cursor on."""

    def __init__(self, messages: Sequence[str | LogLine], at_a_time: int = 7, stage: BuildStage = "built") -> None:
        self.messages = messages
        self.at_a_time = at_a_time
        self.stage = stage
        self.told = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def follow(self, cursor: str) -> AsyncGenerator[BuildNews, None]:
        at = int(cursor or 0)
        while at < len(self.messages):
            part = self.messages[at : at + self.at_a_time]
            at += len(part)
            self.told = max(self.told, at)
            yield BuildNews(cursor=str(at), lines=[self.line(said) for said in part], stage="building")
            await asyncio.sleep(0)
        await self.go_on.wait()
        yield BuildNews(cursor=str(at), stage=self.stage)

    def line(self, said: str | LogLine) -> LogLine:
        return said if isinstance(said, LogLine) else LogLine(timestamp=NOW, message=said, step="build")


class Log:
    """The log of one deployment, and pumps into it."""

    def __init__(self, logs: LogStore, deployment_id: str) -> None:
        self.logs = logs
        self.deployment_id = deployment_id
        self.beats: list[dict[str, Any]] = []

    async def pump(self, follow: Follow, budget: Budget | None = None) -> list[BuildNews]:
        environment = ActivityEnvironment()
        environment.on_heartbeat = lambda *details: self.beats.append(details[0])

        async def take_over() -> list[BuildNews]:
            pump = LogPump(self.logs, self.deployment_id, [SECRET], budget)
            async with aclosing(pump.stored(follow)) as told:
                return [news async for news in told]

        return await environment.run(take_over)

    async def lines(self) -> list[DeploymentLog]:
        found: list[DeploymentLog] = []
        after: int | None = 0
        while after is not None:
            page = await self.logs.page(self.deployment_id, LogFilter(), limit=1000, after=after)
            found += page.lines
            after = page.cursor
        return found

    async def messages(self) -> list[str]:
        lines = await self.lines()
        assert [line.id for line in lines] == [str(n) for n in range(1, len(lines) + 1)]
        return [line.message for line in lines]


@pytest.fixture
async def log(database: Database, sealer: Sealer) -> Log:
    project = CreateProjectRequest.model_validate({"id": "shop", "provider": "scripted"})
    await ProjectStore(database, sealer).create_project(project, "ada")
    deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 10))
    request = TriggerDeploymentRequest(project_id="shop", source_ref="main")
    return Log(LogStore(database, sealer), (await deployments.trigger(request, "ada")).answer.id)


def numbered(count: int) -> list[str]:
    return [f"line {number}" for number in range(count)]


async def test_news_are_told_once_their_lines_are_in_the_log(log: Log) -> None:
    script = Script(numbered(50))

    async def follow() -> None:
        async with aclosing(LogPump(log.logs, log.deployment_id, []).stored(script.follow)) as told:
            async for news in told:
                assert news.lines == []
                assert len(await log.messages()) >= int(news.cursor)

    await ActivityEnvironment().run(follow)
    assert await log.messages() == numbered(50)


async def test_a_lone_line_is_readable_while_the_build_says_nothing_more(log: Log) -> None:
    script = Script(["lone"])
    script.go_on.clear()
    pumping = asyncio.create_task(log.pump(script.follow))

    async def readable() -> bool:
        return await log.messages() == ["lone"]

    await eventually(readable)
    assert not pumping.done()
    script.go_on.set()
    await pumping


async def test_a_pump_that_is_killed_fifty_times_leaves_no_gap_and_no_double(log: Log) -> None:
    chance = random.Random(7)
    script = Script(numbered(3000))
    kills = 0
    while kills < 50:
        script.at_a_time = chance.randrange(1, 40)
        pumping = asyncio.create_task(log.pump(script.follow))
        for _ in range(chance.randrange(1, 300)):
            await asyncio.sleep(0)
        await asyncio.sleep(chance.random() * 0.02)
        kills += pumping.cancel()
        await asyncio.wait([pumping])
    survived = len(await log.messages())
    assert survived > 100
    script.at_a_time = 500
    await log.pump(script.follow)
    assert await log.messages() == numbered(3000)


async def test_pumps_that_work_at_once_store_each_line_once(log: Log) -> None:
    scripts = [Script(numbered(2000), at_a_time).follow for at_a_time in (3, 50, 999)]
    endings = await asyncio.wait_for(asyncio.gather(*map(log.pump, scripts)), 60)
    assert {news[-1].stage for news in endings} == {"built"}
    assert await log.messages() == numbered(2000)


async def test_a_flood_is_stored_by_thousands(log: Log, database: Database) -> None:
    await log.pump(Script(numbered(30_000), at_a_time=1000).follow)
    (row,) = await database.fetch_all("select count(*) as chunks from log_chunks_live")
    assert row["chunks"] < 30
    assert (await log.messages())[-1] == "line 29999"


async def test_a_slow_store_stops_the_reading_of_the_provider(log: Log, database_url: str) -> None:
    """Somebody holds the log's row; however long that takes, no more is read ahead than there is room for."""
    script = Script(numbered(60_000), at_a_time=1000)
    async with await psycopg.AsyncConnection.connect(database_url) as holder:
        await log.pump(Script(["line 0"]).follow)
        await holder.execute("select * from logs for update")
        pumping = asyncio.create_task(log.pump(script.follow))

        async def stands_still() -> bool:
            before = script.told
            await asyncio.sleep(0.3)
            return 0 < before == script.told

        await eventually(stands_still)
        assert script.told <= 2 * (ahead.MOST_LINES + 1000)
        assert not pumping.done()
    await pumping
    assert await log.messages() == numbered(60_000)


async def test_long_lines_are_read_ahead_by_their_length(log: Log, database_url: str) -> None:
    script = Script(["first", *["x" * 60_000] * 2000], at_a_time=1)
    async with await psycopg.AsyncConnection.connect(database_url) as holder:
        await log.pump(Script(["first"]).follow)
        await holder.execute("select * from logs for update")
        pumping = asyncio.create_task(log.pump(script.follow))

        async def full() -> bool:
            before = script.told
            await asyncio.sleep(0.3)
            return 100 < before == script.told

        await eventually(full)
        assert script.told <= 2 * ahead.MOST_CHARACTERS // 60_000 + 3
        pumping.cancel()
        await asyncio.wait([pumping])


async def test_a_database_that_is_away_is_waited_for_while_the_heart_beats(
    log: Log, database_url: str, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("activities.pump.BEAT_SECONDS", 0.05)
    name = database_url.rpartition("/")[2].partition("?")[0]
    script = Script(numbered(500), at_a_time=5)
    async with await psycopg.AsyncConnection.connect(postgres.url("postgres"), autocommit=True) as admin:
        await admin.execute(f"alter database {name} with allow_connections false".encode())
        await admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", (name,))
        pumping = asyncio.create_task(log.pump(script.follow))

        async def beats_on() -> bool:
            return len(log.beats) > 20

        await eventually(beats_on)
        assert not pumping.done()
        await admin.execute(f"alter database {name} with allow_connections true".encode())
    await asyncio.wait_for(pumping, 60)
    assert await log.messages() == numbered(500)


async def test_a_log_beyond_its_budget_keeps_beginning_and_end_whoever_dies_meanwhile(log: Log) -> None:
    budget = Budget(lines=1000, bytes=1_000_000)
    script = Script(numbered(5000), at_a_time=30)
    script.go_on.clear()
    pumping = asyncio.create_task(log.pump(script.follow, budget))

    async def beginning_is_stored() -> bool:
        stands = (await log.logs.position(log.deployment_id, BUILD_STREAM)).cursor
        return (stands, script.told) == ("480", 5000)

    await eventually(beginning_is_stored)
    pumping.cancel()
    await asyncio.wait([pumping])
    head = await log.messages()
    assert head == numbered(480)

    script.told = 0
    script.go_on.set()
    for _ in range(2):
        await log.pump(script.follow, budget)
    lines = await log.lines()
    assert [line.message for line in lines[:480]] == head
    assert [line.message for line in lines[481:]] == numbered(5000)[-519:]
    assert (lines[480].level, lines[480].source) == (LogLevel.WARN, "system")
    missing = numbered(5000)[480:-519]
    assert lines[480].metadata == {"missingLines": len(missing), "missingBytes": len("".join(missing))}


async def test_what_a_line_means_for_later_ones_survives_a_death(log: Log) -> None:
    said = ["::group::Install", "::add-mask::hunter2-hunter2", "::stop-commands::tok", "in"]
    script = Script(said, at_a_time=1)
    script.go_on.clear()
    pumping = asyncio.create_task(log.pump(script.follow))

    async def stored() -> bool:
        return len(await log.messages()) == 4

    await eventually(stored)
    pumping.cancel()
    await asyncio.wait([pumping])
    script.go_on.set()
    script.messages = [*said, "hunter2-hunter2 ::error::no", "::endgroup::", "::tok::", "::endgroup::", "::error::yes"]
    await log.pump(script.follow)
    lines = await log.lines()
    assert [(line.message, line.step) for line in lines] == [
        ("::group::Install", "Install"),
        ("::add-mask::***", "Install"),
        ("::stop-commands::tok", "Install"),
        ("in", "Install"),
        ("*** ::error::no", "Install"),
        ("::endgroup::", "Install"),
        ("::tok::", "Install"),
        ("::endgroup::", "Install"),
        ("yes", "build"),
    ]
    assert lines[0].metadata == {"outerStep": "build"}
    assert lines[-1].level == LogLevel.ERROR


class Unspeakable:
    def __str__(self) -> str:
        raise RuntimeError("nobody can say this")


UNREADABLE = LogLine(timestamp=NOW, message="odd", metadata={"a": Unspeakable()})
UNSTORABLE = LogLine(timestamp=datetime.fromisoformat("9999-12-31T23:59:59.999999-12:00"), message="late é")


async def test_a_line_that_cannot_be_read_is_replaced_by_a_marker(log: Log) -> None:
    news = await log.pump(Script(["before", UNREADABLE, "after"]).follow)
    assert news[-1].stage == "built"
    assert await log.messages() == ["before", "… a line that cannot be read was left out here", "after"]


async def test_lines_that_cannot_be_stored_are_stored_in_a_simpler_form(log: Log) -> None:
    news = await log.pump(Script(["before", UNSTORABLE, f"{SECRET} after"]).follow)
    assert news[-1].stage == "built"
    assert await log.messages() == ["before", "late \\xe9", "*** after"]


async def test_an_error_of_the_provider_comes_after_the_lines_before_it(log: Log) -> None:
    script = Script(numbered(3))

    async def breaks(cursor: str) -> AsyncGenerator[BuildNews, None]:
        yield BuildNews(cursor="3", lines=[script.line(said) for said in script.messages], stage="building")
        raise RuntimeError("the provider is gone")

    with pytest.raises(RuntimeError, match="the provider is gone"):
        await log.pump(breaks)
    assert await log.messages() == numbered(3)


async def test_a_provider_that_ends_without_an_ending_is_asked_again(log: Log) -> None:
    script = Script(numbered(10), at_a_time=2)
    asked: list[str] = []

    async def stutters(cursor: str) -> AsyncGenerator[BuildNews, None]:
        asked.append(cursor)
        async with aclosing(script.follow(cursor)) as told:
            async for news in told:
                yield news
                if len(asked) < 3:
                    return

    await log.pump(stutters)
    assert asked == ["", "2", "4"]
    assert await log.messages() == numbered(10)


async def test_a_failure_is_told_plainly_and_without_secrets(log: Log) -> None:
    failure = Failure(
        code="deployment/build-failed",
        message=f"\x1b[31m{SECRET}\x1b[0m is wrong",
        hint=f"not {SECRET}",
        log_excerpt=[f"\x1b[1mx {SECRET}", "hunter2-hunter2"],
    )

    async def fails(cursor: str) -> AsyncGenerator[BuildNews, None]:
        line = LogLine(timestamp=NOW, message="::add-mask::hunter2-hunter2")
        yield BuildNews(cursor="1", lines=[line], stage="failed", failure=failure)

    (news,) = await log.pump(fails)
    assert news.failure is not None
    assert (news.failure.message, news.failure.hint) == ("*** is wrong", "not ***")
    assert news.failure.log_excerpt == ["x ***", "***"]


async def test_what_publishing_says_is_masked_with_what_the_build_asked_for_and_stored_once(log: Log) -> None:
    await log.pump(Script(["::add-mask::hunter2-hunter2"]).follow)
    said = ["::warning::old hunter2-hunter2", f"with {SECRET}"]
    lines = [LogLine(timestamp=NOW, message=message, source="deploy") for message in said]
    for _ in range(2):
        await LogPump(log.logs, log.deployment_id, [SECRET]).publish(lines)
    stored = (await log.lines())[1:]
    assert [(line.message, line.level, line.source) for line in stored] == [
        ("old ***", LogLevel.WARN, "deploy"),
        ("with ***", LogLevel.INFO, "deploy"),
    ]
