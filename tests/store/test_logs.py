"""The log: numbers without gap or double, whoever stores a batch and however often, and the same lines before a merge,
after it and during it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.deployment import TriggerDeploymentRequest
from domain.errors import DeploymentError, ErrorCode
from domain.log import DeploymentLog, LogBatch, LogFilter, LogLevel, LogLine, LogMatch
from domain.project import Project
from store.chunks import Choice, Chunk
from store.database import Database
from store.deployments import DeploymentStore
from store.log_match import Budget, Matcher
from store.log_search import Reader
from store.log_tables import StoredChunks
from store.logs import LogStore
from store.seal import Sealer
from tests.store.conftest import line

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ALL = LogFilter()
ERRORS = LogFilter(query="error", level=LogLevel.WARN)
MANY = 12_345


@pytest.fixture
async def deployment_id(deployments: DeploymentStore, shop: Project) -> str:
    return await triggered(deployments)


async def triggered(deployments: DeploymentStore) -> str:
    request = TriggerDeploymentRequest(project_id="shop", source_ref="main", force=True)
    return (await deployments.trigger(request, "ada")).answer.id


def batch(after: int, count: int, stream: str = "build") -> LogBatch:
    lines = [line(f"{stream} {after + number}") for number in range(1, count + 1)]
    return LogBatch(stream=stream, after=str(after or ""), cursor=str(after + count), lines=lines)


def told(number: int) -> LogLine:
    """A line of a long log. Each hundredth is an error, each tenth belongs to a group inside the step."""
    return LogLine(
        timestamp=NOON + timedelta(milliseconds=3 * number),
        message=f"line {number} " + ("\x1b[31mER\x1b[1mROR\x1b[0m" if number % 100 == 0 else "fine"),
        level=LogLevel.ERROR if number % 100 == 0 else None,
        step="group" if number % 10 == 0 else "build",
        metadata={"outerStep": "build"} if number % 10 == 0 else None,
    )


async def tell(logs: LogStore, deployment_id: str, count: int, size: int = 700) -> None:
    """So many lines more, in batches."""
    stands = await logs.position(deployment_id, "build")
    for start in range(stands.lines, stands.lines + count, size):
        stop = min(start + size, stands.lines + count)
        lines = [told(number) for number in range(start + 1, stop + 1)]
        batch = LogBatch(stream="build", after=str(start or ""), cursor=str(stop), lines=lines)
        assert (await logs.append(deployment_id, batch)).cursor == str(stop)


async def numbers(logs: LogStore, deployment_id: str, wanted: LogFilter = ALL, **where: Any) -> list[int]:
    return [int(stored.id) for stored in (await logs.page(deployment_id, wanted, **{"limit": 1000, **where})).lines]


async def walked(logs: LogStore, deployment_id: str, wanted: LogFilter = ALL, limit: int = 1000) -> list[DeploymentLog]:
    """All lines that pass, page by page."""
    found, after = [], 0
    while True:
        page = await logs.page(deployment_id, wanted, limit=limit, after=after)
        found += page.lines
        if page.cursor is None:
            return found
        assert page.cursor > after
        after = page.cursor


async def chunk_counts(database: Database) -> tuple[int, int]:
    row = await database.fetch_one(
        "select (select count(*) from log_chunks_live) as live, (select count(*) from log_chunks) as merged"
    )
    assert row is not None
    return row["live"], row["merged"]


async def test_a_batch_that_is_stored_twice_is_there_once(logs: LogStore, deployment_id: str) -> None:
    for _ in range(3):
        assert (await logs.append(deployment_id, batch(0, 2))).cursor == "2"
    assert (await logs.append(deployment_id, batch(2, 1))).cursor == "3"
    assert await numbers(logs, deployment_id) == [1, 2, 3]


async def test_a_batch_that_begins_elsewhere_is_not_stored(logs: LogStore, deployment_id: str) -> None:
    assert (await logs.append(deployment_id, batch(2, 1))).cursor == ""
    await logs.append(deployment_id, batch(0, 2))
    assert (await logs.append(deployment_id, batch(5, 1))).cursor == "2"
    assert await numbers(logs, deployment_id) == [1, 2]


async def test_a_stream_keeps_what_has_to_be_known_to_go_on(
    logs: LogStore, deployment_id: str, database: Database
) -> None:
    memory = {"open": ["a group"], "mask": "hunter2"}
    first = batch(0, 3).model_copy(update={"memory": memory})
    assert await logs.append(deployment_id, first) == await logs.position(deployment_id, "build")
    stands = await logs.position(deployment_id, "build")
    assert (stands.cursor, stands.lines, stands.bytes, stands.memory) == ("3", 3, 21, memory)
    stored = await database.fetch_one("select memory from log_streams")
    assert stored is not None
    assert b"hunter2" not in stored["memory"]
    nothing = LogBatch(stream="build", after="3", cursor="4", lines=[])
    assert (await logs.append(deployment_id, nothing)).lines == 3
    assert (await logs.position(deployment_id, "publish")).cursor == ""


async def test_writers_at_once_neither_lose_nor_double_a_line(logs: LogStore, deployment_id: str) -> None:
    async def pump(stream: str) -> None:
        for start in range(0, 50, 5):
            await logs.append(deployment_id, batch(start, 5, stream))

    # Two workers that both believe that they follow the build, and a third stream beside.
    await asyncio.gather(pump("build"), pump("build"), pump("publish"))
    stored = (await logs.page(deployment_id, ALL, limit=1000)).lines
    assert [int(entry.id) for entry in stored] == list(range(1, len(stored) + 1))
    for stream in ("build", "publish"):
        messages = [entry.message for entry in stored if entry.message.startswith(stream)]
        assert messages == [f"{stream} {number}" for number in range(1, 51)]


async def test_a_large_batch_is_several_chunks(logs: LogStore, deployment_id: str, database: Database) -> None:
    stands = await logs.append(deployment_id, batch(0, 4_500))
    assert (stands.lines, (await chunk_counts(database))[0]) == (4_500, 3)
    assert [entry.message for entry in await walked(logs, deployment_id)] == [f"build {n}" for n in range(1, 4_501)]


async def test_readers_choose_lines(logs: LogStore, deployment_id: str) -> None:
    lines = [
        line("plain"),
        line("100% done_", step="build", level=LogLevel.WARN),
        line("boom", source="deploy", level=LogLevel.ERROR, metadata={"file": "a.c"}),
    ]
    await logs.append(deployment_id, LogBatch(stream="build", after="", cursor="3", lines=lines))

    async def ids(**wanted: object) -> list[int]:
        return await numbers(logs, deployment_id, LogFilter.model_validate(wanted))

    assert await ids(level=LogLevel.WARN) == [2, 3]
    assert await ids(step="build") == [2]
    assert await ids(source="deploy") == [3]
    assert await ids(query="0% DONE_") == [2]
    assert await ids(query="0% DONE_", case_sensitive=True) == []
    assert await ids(since=lines[0].timestamp) == [1, 2, 3]
    assert await ids(until=lines[0].timestamp) == []
    assert await numbers(logs, deployment_id, tail=2) == [2, 3]
    assert await numbers(logs, deployment_id, after=1) == [2, 3]
    assert await numbers(logs, deployment_id, limit=1, offset=1) == [2]


async def test_a_nul_in_a_line_is_left_out(logs: LogStore, deployment_id: str) -> None:
    await logs.append(deployment_id, LogBatch(stream="build", after="", cursor="1", lines=[line("a\x00b")]))
    assert (await logs.page(deployment_id, ALL, limit=1)).lines[0].message == "ab"


@pytest.fixture(params=["live", "merged", "merged, then live", "in halves"])
async def long_log(request: pytest.FixtureRequest, logs: LogStore, deployment_id: str) -> str:
    """A deployment with many lines, in each way in which they may be stored."""
    first = {"live": 0, "merged": MANY, "merged, then live": 9_000, "in halves": 6_000}[request.param]
    await tell(logs, deployment_id, first)
    await logs.merge(deployment_id)
    await tell(logs, deployment_id, MANY - first)
    if request.param == "in halves":
        await logs.merge(deployment_id)
    return deployment_id


async def test_a_page_is_the_same_however_its_lines_are_stored(logs: LogStore, long_log: str) -> None:
    for start in (0, 1, 699, 700, 4_999, 5_000, 8_990, MANY - 3):
        assert await numbers(logs, long_log, after=start, limit=20) == [*range(start + 1, min(start + 20, MANY) + 1)]
        assert await numbers(logs, long_log, offset=start, limit=20) == [*range(start + 1, min(start + 20, MANY) + 1)]
    assert await numbers(logs, long_log, tail=20) == [*range(MANY - 19, MANY + 1)]
    assert await numbers(logs, long_log, tail=20, after=MANY - 3) == [MANY - 2, MANY - 1, MANY]
    assert await numbers(logs, long_log, after=MANY) == await numbers(logs, long_log, offset=MANY) == []
    assert (await logs.page(long_log, ALL, limit=10, after=MANY - 10)).cursor is None
    assert (await logs.page(long_log, ALL, limit=10, after=MANY - 11)).cursor == MANY - 1
    lines = await walked(logs, long_log)
    assert [(entry.timestamp, entry.message, entry.step) for entry in lines] == [
        (it.timestamp, it.message, it.step) for it in map(told, range(1, MANY + 1))
    ]


async def test_a_filter_finds_the_same_however_lines_are_stored(logs: LogStore, long_log: str) -> None:
    errors = list(range(100, MANY, 100))
    assert [int(entry.id) for entry in await walked(logs, long_log, ERRORS, limit=7)] == errors
    assert await numbers(logs, long_log, ERRORS, offset=5, limit=3) == errors[5:8]
    assert await numbers(logs, long_log, ERRORS, after=5_000, limit=3) == [5_100, 5_200, 5_300]
    assert await numbers(logs, long_log, ERRORS, tail=4) == errors[-4:]
    assert await numbers(logs, long_log, ERRORS, tail=4, after=errors[-3]) == errors[-2:]
    assert await numbers(logs, long_log, LogFilter(query="no such thing")) == []
    assert (await logs.page(long_log, ERRORS, limit=1, after=errors[-2])).cursor is None
    assert (await logs.page(long_log, ERRORS, limit=1, after=errors[-3])).cursor == errors[-2]
    assert await numbers(logs, long_log, LogFilter(step="group"), tail=2) == [12_330, 12_340]
    assert await numbers(logs, long_log, LogFilter(step="build", query="line 4990 "), limit=2) == [4_990]
    two = LogFilter(since=told(7_001).timestamp, until=told(7_003).timestamp)
    assert await numbers(logs, long_log, two) == [7_001, 7_002]
    assert await numbers(logs, long_log, LogFilter(query=r"^line \d+00 ERROR$", regex=True), tail=1) == errors[-1:]


async def test_the_merge_leaves_few_large_chunks_and_changes_nothing_when_repeated(
    logs: LogStore, deployment_id: str, database: Database
) -> None:
    await tell(logs, deployment_id, 11_000)
    for _ in range(2):
        await logs.merge(deployment_id)
        assert await chunk_counts(database) == (0, 3)
    await logs.merge("00000000-0000-0000-0000-000000000000")
    partitions = await database.fetch_all("select inhrelid::regclass::text as name from pg_inherits")
    assert {"name": f"log_chunks_{datetime.now(UTC):%Y%m%d}"} in partitions


async def test_merges_on_a_new_day_at_once_make_one_partition(
    logs: LogStore, deployments: DeploymentStore, shop: Project, database: Database
) -> None:
    ids = [await triggered(deployments) for _ in range(4)]
    for deployment_id in ids:
        await tell(logs, deployment_id, 10)
    await asyncio.gather(*(logs.merge(deployment_id) for deployment_id in [*ids, *ids]))
    assert await chunk_counts(database) == (0, 4)


async def test_who_reads_during_merges_and_appends_sees_each_line_once(logs: LogStore, deployment_id: str) -> None:
    done = asyncio.Event()

    async def write() -> None:
        for _ in range(30):
            await tell(logs, deployment_id, 150)
        done.set()

    async def merge() -> None:
        while not done.is_set():
            await logs.merge(deployment_id)

    async def read() -> None:
        seen = 0
        while not done.is_set():
            found = [int(entry.id) for entry in await walked(logs, deployment_id)]
            assert found == list(range(1, len(found) + 1))
            assert len(found) >= seen
            seen = len(found)
            errors = [int(entry.id) for entry in await walked(logs, deployment_id, ERRORS)]
            assert errors == list(range(100, 100 * len(errors) + 1, 100))
            last = await numbers(logs, deployment_id, tail=3)
            assert last == list(range(last[0], last[0] + len(last))) if last else True

    await asyncio.gather(write(), merge(), read(), read())
    assert len(await walked(logs, deployment_id)) == 4_500


class MergedMeanwhile:
    """A log whose chunks are merged after a reader has had the first of them."""

    def __init__(self, logs: LogStore, database: Database, deployment_id: str) -> None:
        self._logs = logs
        self._chunks = StoredChunks(database, deployment_id, datetime.now(UTC).date(), lambda _: self)
        self._deployment_id = deployment_id

    async def chunks(self, choice: Choice) -> AsyncIterator[Sequence[Chunk]]:
        async for chunks in self._chunks.chunks(choice):
            yield chunks
            await self._logs.merge(self._deployment_id)


@pytest.mark.parametrize("last", [False, True])
async def test_a_reader_between_whose_batches_is_a_merge_sees_each_line_once(
    logs: LogStore, deployment_id: str, database: Database, last: bool
) -> None:
    await tell(logs, deployment_id, 3_000)
    reader = Reader(deployment_id, MergedMeanwhile(logs, database, deployment_id), 3_000)
    matcher, budget = Matcher(LogFilter(query="line")), Budget(60)
    if last:
        page = await reader.last_page(matcher, budget, 2_900, 0)
    else:
        page = await reader.page(matcher, budget, limit=2_900, offset=100, after=0)
    assert [int(entry.id) for entry in page.lines] == list(range(101, 3_001))
    assert await chunk_counts(database) == (0, 1)


async def test_the_last_lines_of_many_logs_come_at_once(
    logs: LogStore, deployments: DeploymentStore, shop: Project
) -> None:
    empty, short, live, merged, both = [await triggered(deployments) for _ in range(5)]
    await tell(logs, short, 3)
    await tell(logs, live, 50, size=1)
    await tell(logs, merged, 6_005)
    await logs.merge(merged)
    await tell(logs, both, 5_000)
    await logs.merge(both)
    await tell(logs, both, 7, size=2)
    tails = await logs.tails([empty, short, live, merged, both], 20)
    expected = {empty: (1, 0), short: (1, 3), live: (31, 50), merged: (5_986, 6_005), both: (4_988, 5_007)}
    assert {key: [int(entry.id) for entry in lines] for key, lines in tails.items()} == {
        key: list(range(first, last + 1)) for key, (first, last) in expected.items()
    }
    assert all(entry.deployment_id == key for key, lines in tails.items() for entry in lines)


async def found_by_pages(logs: LogStore, wanted: LogFilter, limit: int, context: int = 0) -> list[LogMatch]:
    found: list[LogMatch] = []
    cursor = None
    for _ in range(1_000):
        matches, cursor = await logs.search("shop", wanted, limit=limit, cursor=cursor, context=context)
        assert len(matches) <= limit
        found += matches
        if cursor is None:
            return found
    raise AssertionError("a search without an end")


async def test_a_search_goes_from_the_newest_deployment_to_the_oldest(
    logs: LogStore, deployments: DeploymentStore, shop: Project
) -> None:
    ids = [await triggered(deployments) for _ in range(4)]
    for deployment_id in ids[:3]:
        await tell(logs, deployment_id, 350)
    await logs.merge(ids[1])
    expected = [(deployment_id, number) for deployment_id in reversed(ids[:3]) for number in (100, 200, 300)]
    for limit in (1, 2, 3, 4, 9, 50):
        found = await found_by_pages(logs, ERRORS, limit)
        assert [(match.deployment_id, int(match.id)) for match in found] == expected
    assert (await logs.search("shop", ERRORS, limit=9))[1] is None
    assert await logs.search("shop", LogFilter(query="nowhere"), limit=9) == ([], None)
    assert await logs.search("other", ERRORS, limit=9) == ([], None)
    with pytest.raises(DeploymentError) as refused:
        await logs.search("shop", ERRORS, limit=9, cursor="first")
    assert refused.value.code is ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("size", [3, 100, 700])
async def test_a_match_shows_the_lines_around_it_from_other_chunks_too(
    logs: LogStore, deployment_id: str, size: int
) -> None:
    await tell(logs, deployment_id, 302, size=size)
    matches, cursor = await logs.search("shop", LogFilter(query="ERROR"), limit=5, context=3)
    assert cursor is None
    assert [
        ([int(entry.id) for entry in match.before], int(match.id), [int(entry.id) for entry in match.after])
        for match in matches
    ] == [
        ([97, 98, 99], 100, [101, 102, 103]),
        ([197, 198, 199], 200, [201, 202, 203]),
        ([297, 298, 299], 300, [301, 302]),
    ]
    assert matches[0].before[0].message == told(97).message
    beginning, _ = await logs.search("shop", LogFilter(query="line 2 "), limit=5, context=2)
    assert [[int(entry.id) for entry in around] for around in (beginning[0].before, beginning[0].after)] == [
        [1],
        [3, 4],
    ]


async def test_who_has_no_time_to_look_is_told_where_to_go_on(
    database: Database, sealer: Sealer, deployments: DeploymentStore, shop: Project
) -> None:
    hasty = LogStore(database, sealer, scan_seconds=0)
    ids = [await triggered(deployments) for _ in range(3)]
    for deployment_id in ids:
        await tell(hasty, deployment_id, 3_000)
    first = await hasty.page(ids[0], LogFilter(query="line 2999"), limit=5)
    assert first.lines == []
    assert first.cursor is not None
    assert first.cursor < 2_999
    assert [int(entry.id) for entry in await walked(hasty, ids[0], LogFilter(query="line 2999"))] == [2_999]
    assert [int(entry.id) for entry in await walked(hasty, ids[0], ERRORS)] == list(range(100, 3_001, 100))
    found = await found_by_pages(hasty, LogFilter(query="line 2999"), limit=5)
    assert [match.deployment_id for match in found] == ids[::-1]
    with pytest.raises(DeploymentError) as refused:
        await hasty.page(ids[0], LogFilter(query="line"), limit=5, offset=2_500)
    assert refused.value.fields[0][0] == "/query/offset"


def evil() -> list[str]:
    """Patterns that are slow, large or unknown to some engine."""
    parts = ["a", ".", r"\w", "[a-z]", r"[^\n]", "(a|b)", r"\pL", "line", "e.*r", r"\s?"]
    shapes = [
        *(
            "({0}+)+$",
            "({0}*)*x",
            "({0}|{0}{0})+q",
            "(({0}+)+)+!",
            "{0}{{1000}}",
            "({0}{{30}}){{30}}",
            "({0}{{0,500}}){{2}}z",
        ),
        *("({0}?){{300}}{0}{{300}}", "^({0}+)*$", ".*{0}.*{0}.*{0}.*=$", "{0}{{1001}}", "(({0}{{100}}){{100}}){{100}}"),
        *(r"({0})\1", "(?={0})x", "(?<!{0})x", "(?>{0}+)x", "{0}++", "({0}"),
    ]
    words = "|".join(f"word{number}.*{number}" for number in range(2_000))
    others = [
        *(
            words,
            f"({words})+",
            f"(?i){words[:9_000]})",
            "x" * 20_000,
            "(" * 5_000 + ")" * 5_000,
            "(((a{99}){99}){99})",
        ),
        *(
            "[^a]{900}[^b]{900}",
            r"(\pL{2,20}\s?){40}",
            "(?:a?){1000}a{1000}",
            r"(\b\w+\b.*){30}!",
            "(.*)(.*)(.*)(.*)(.*)9x",
        ),
        *(
            "[[:bad:]]",
            r"\Q",
            "*",
            "a**",
            "(?P<n>a)(?P<n>b)",
            "\x00",
            "(?z)",
            "[",
            r"\8",
            "{,5}",
            "|" * 3_000,
            "^*$" * 500,
        ),
    ]
    return [shape.format(part) for shape in shapes for part in parts] + others


async def test_evil_patterns_are_answered_or_refused_while_others_are_answered(
    database: Database, sealer: Sealer, deployment_id: str
) -> None:
    logs = LogStore(database, sealer, scan_seconds=0.1)
    await tell(logs, deployment_id, 5_000)
    await logs.merge(deployment_id)
    patterns, answered, refused, others = evil(), 0, 0, 0
    assert len(patterns) >= 200
    done = asyncio.Event()

    async def another() -> None:
        nonlocal others
        while not done.is_set():
            others += len(await numbers(logs, deployment_id, limit=1))

    beside = asyncio.create_task(another())
    for pattern in patterns:
        async with asyncio.timeout(20):
            try:
                await logs.page(deployment_id, LogFilter(query=pattern, regex=True), limit=10)
                answered += 1
            except DeploymentError as error:
                refused += error.code is ErrorCode.INVALID_REQUEST
    done.set()
    await beside
    assert answered + refused == len(patterns)
    assert min(answered, refused, others) > 50
