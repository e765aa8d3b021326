"""Old logs: archived, dropped and read as before; nothing is lost, whatever dies or is away meanwhile."""

import asyncio
import shutil
import signal
import sys
from datetime import date, timedelta
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from domain.ending import Ending
from domain.errors import DeploymentError
from domain.log import LogFilter
from domain.project import Project
from domain.states import Status
from store.archive import LogArchive
from store.chunks import Choice
from store.database import Database
from store.deployments import DeploymentStore
from store.log_tables import MERGED, StoredChunks
from store.log_upkeep import DAYS_AHEAD, Keep, LogUpkeep
from store.logs import LogStore
from store.progress import ProgressStore
from store.seal import Sealer
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from tests.store.dying_sweep import STEPS
from tests.store.old_logs import LONG_AGO, TODAY, OldLogs

AHEAD = {TODAY + timedelta(days=number) for number in range(DAYS_AHEAD + 1)}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    return tmp_path / "archive"


@pytest.fixture
def archive(directory: Path) -> LogArchive:
    return LogArchive(str(directory))


@pytest.fixture
def logs(database: Database, sealer: Sealer, archive: LogArchive) -> LogStore:
    return LogStore(database, sealer, archive)


@pytest.fixture
def old(
    database: Database, deployments: DeploymentStore, progress: ProgressStore, logs: LogStore, shop: Project
) -> OldLogs:
    return OldLogs(database, deployments, progress, logs)


@pytest.fixture
def upkeep(database: Database, logs: LogStore, archive: LogArchive) -> LogUpkeep:
    return LogUpkeep(database, logs, archive, Keep())


async def partitions(database: Database) -> set[date]:
    rows = await database.fetch_all("select tablename as name from pg_tables where tablename like 'log_chunks_2%%'")
    return {date.fromisoformat(row["name"].removeprefix(f"{MERGED}_")) for row in rows}


@pytest.fixture(params=["directory", "bucket"])
def anywhere(archive: LogArchive, request: pytest.FixtureRequest) -> LogArchive:
    if request.param == "directory":
        return archive
    server: S3Server = request.getfixturevalue("s3")
    access = {"endpoint": server.endpoint, "region": "us-east-1", "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    return LogArchive(f"s3://{uuid4().hex}/old", **access)


async def test_an_old_log_is_read_word_for_word_as_before(old: OldLogs, sealer: Sealer, anywhere: LogArchive) -> None:
    logs = LogStore(old.database, sealer, anywhere)
    old = OldLogs(old.database, old.deployments, old.progress, logs)
    ids = [await old.make(count) for count in (5_200, 1, 300)] + [await old.make(50, TODAY)]
    before = await old.answers(ids)
    done = await LogUpkeep(old.database, logs, anywhere, Keep()).sweep()
    assert (done.merged, done.archived, done.dropped, done.waiting) == (4, 3, 1, [])
    assert await partitions(old.database) == AHEAD
    assert await old.answers(ids) == before
    left = await old.database.fetch_all(f"select distinct deployment_id from {MERGED}")
    assert [str(row["deployment_id"]) for row in left] == ids[3:]


@pytest.mark.parametrize("step", STEPS)
async def test_a_round_that_is_killed_loses_nothing_and_the_next_one_ends_it(
    old: OldLogs, upkeep: LogUpkeep, directory: Path, step: str
) -> None:
    ids = [await old.make(count) for count in (20, 30)]
    before = await old.answers(ids)
    argv = [sys.executable, "-m", "tests.store.dying_sweep", old.database.url, str(directory), step]
    process = await asyncio.create_subprocess_exec(*argv)
    assert await process.wait() == -signal.SIGKILL
    assert await old.answers(ids) == before
    await upkeep.sweep()
    assert await partitions(old.database) == AHEAD
    assert await old.answers(ids) == before
    assert len([path for path in directory.rglob("*") if path.is_file() and "#" not in path.name]) == 2


async def test_without_the_archive_the_day_stays_and_goes_once_it_is_back(
    old: OldLogs, upkeep: LogUpkeep, directory: Path
) -> None:
    deployment_id = await old.make()
    before = await old.answers([deployment_id])
    directory.rename(directory.with_name("away"))
    for _ in range(2):
        done = await upkeep.sweep()
        assert (done.archived, done.dropped) == (0, 0)
        assert "out of reach" in done.waiting[0]
        assert LONG_AGO in await partitions(old.database)
        assert await old.answers([deployment_id]) == before
    directory.with_name("away").rename(directory)
    done = await upkeep.sweep()
    assert (done.archived, done.dropped, done.waiting) == (1, 1, [])
    assert await old.answers([deployment_id]) == before


async def test_rounds_at_the_same_time_do_no_harm(old: OldLogs, upkeep: LogUpkeep) -> None:
    days = [LONG_AGO - timedelta(days=number) for number in range(3)]
    ids = [await old.make(40, day) for day in days for _ in range(3)]
    before = await old.answers(ids)
    rounds = await asyncio.gather(*(upkeep.sweep() for _ in range(4)))
    rounds.append(await upkeep.sweep())
    assert sum(done.archived for done in rounds) == len(ids)
    assert await partitions(old.database) == AHEAD
    assert await old.answers(ids) == before


async def test_a_reader_whose_chunks_are_archived_and_dropped_meanwhile_goes_on(
    old: OldLogs, upkeep: LogUpkeep, archive: LogArchive
) -> None:
    deployment_id = await old.make(11_000)
    await old.logs.merge(deployment_id)
    source = StoredChunks(old.database, deployment_id, LONG_AGO, lambda key: archive.log(key or ""))
    whole = [chunk async for batch in source.chunks(Choice()) for chunk in batch]
    begun = source.chunks(Choice())
    found = list(await anext(begun))
    assert 0 < len(found) < len(whole) == 3
    assert (await upkeep.sweep()).dropped == 1
    assert found + [chunk async for batch in begun for chunk in batch] == whole
    assert [chunk async for batch in source.chunks(Choice()) for chunk in batch] == whole


async def test_a_day_stays_while_a_deployment_of_it_is_unfinished(old: OldLogs, upkeep: LogUpkeep) -> None:
    running, ended = await old.make(ended=False), await old.make()
    before = await old.answers([running, ended])
    done = await upkeep.sweep()
    assert (done.merged, done.archived, done.dropped, done.waiting) == (1, 1, 0, [])
    assert LONG_AGO in await partitions(old.database)
    assert await old.answers([running, ended]) == before
    await old.add(running, 5)
    await old.progress.finish(running, Ending(status=Status.CANCELED))
    done = await upkeep.sweep()
    assert (done.merged, done.archived, done.dropped) == (1, 1, 1)
    assert await old.numbers(running) == list(range(1, 36))


async def test_younger_days_are_not_touched(old: OldLogs, upkeep: LogUpkeep, directory: Path) -> None:
    days = [TODAY - timedelta(days=number) for number in (0, 1, 29, 30)]
    ids = [await old.make(20, day) for day in days]
    before = await old.answers(ids)
    done = await upkeep.sweep()
    assert (done.merged, done.archived, done.dropped) == (4, 0, 0)
    assert await partitions(old.database) == AHEAD | set(days)
    assert not list(directory.iterdir())
    assert await old.answers(ids) == before


async def test_with_no_days_to_keep_a_log_goes_once_it_has_ended(
    old: OldLogs, logs: LogStore, archive: LogArchive
) -> None:
    ended, running = await old.make(20, TODAY), await old.make(20, TODAY - timedelta(days=1), ended=False)
    done = await LogUpkeep(old.database, logs, archive, Keep(database_days=0)).sweep()
    assert (done.archived, done.dropped) == (1, 1)
    later = await old.make(20, TODAY)
    await logs.merge(later)
    for deployment_id in (ended, running, later):
        assert await old.numbers(deployment_id) == list(range(1, 21))


async def test_without_an_archive_old_logs_are_dropped(old: OldLogs, sealer: Sealer) -> None:
    logs = LogStore(old.database, sealer)
    gone, young = await old.make(), await old.make(20, TODAY)
    done = await LogUpkeep(old.database, logs, None, Keep()).sweep()
    assert (done.merged, done.dropped, done.waiting) == (2, 1, [])
    assert (await logs.page(gone, LogFilter(), limit=10)).lines == []
    assert (await logs.page(gone, LogFilter(query="line"), limit=10, tail=3)).lines == []
    assert {match.deployment_id for match in (await logs.search("shop", LogFilter(), limit=100))[0]} == {young}
    assert {key: len(lines) for key, lines in (await logs.tails([gone, young], 5)).items()} == {gone: 0, young: 5}


async def test_archived_logs_are_deleted_when_they_are_too_old(
    old: OldLogs, logs: LogStore, archive: LogArchive, directory: Path
) -> None:
    older = LONG_AGO - timedelta(days=1)
    gone, kept = await old.make(20, older), await old.make(20, LONG_AGO)
    done = await LogUpkeep(old.database, logs, archive, Keep(archive_days=40)).sweep()
    assert (done.archived, done.dropped, done.deleted, done.waiting) == (2, 2, 1, [])
    assert [path.name for path in directory.iterdir()] == [LONG_AGO.isoformat()]
    assert (await logs.page(gone, LogFilter(), limit=10)).lines == []
    assert await old.numbers(kept) == list(range(1, 21))
    assert {match.deployment_id for match in (await logs.search("shop", LogFilter(), limit=100))[0]} == {kept}
    assert (await logs.tails([gone], 5)) == {gone: []}


async def test_a_line_that_comes_after_its_log_was_archived_is_not_lost(old: OldLogs, upkeep: LogUpkeep) -> None:
    deployment_id = await old.make()
    assert (await upkeep.sweep()).dropped == 1
    await old.add(deployment_id, 3)
    done = await upkeep.sweep()
    assert (done.merged, done.archived, done.dropped, done.waiting) == (1, 1, 1, [])
    assert await old.numbers(deployment_id) == list(range(1, 34))
    assert await partitions(old.database) == AHEAD


async def test_a_log_that_is_not_whole_is_not_archived_and_its_day_stays(old: OldLogs, upkeep: LogUpkeep) -> None:
    broken, sound = await old.make(11_000), await old.make()
    await old.logs.merge(broken)
    await old.database.fetch_all(f"delete from {MERGED} where first_line = 5001 returning first_line")
    done = await upkeep.sweep()
    assert (done.archived, done.dropped) == (1, 0)
    assert done.waiting == [f"{broken}: lines are missing after 5000 of 11000; it is not archived"]
    assert LONG_AGO in await partitions(old.database)
    assert await old.numbers(sound) == list(range(1, 31))


async def test_a_drop_does_not_wait_behind_a_long_reader(old: OldLogs, upkeep: LogUpkeep) -> None:
    deployment_id = await old.make()
    async with await psycopg.AsyncConnection.connect(old.database.url) as copying:
        await copying.execute(f"select count(*) from {MERGED}".encode())
        done = await upkeep.sweep()
        assert (done.archived, done.dropped) == (1, 0)
        assert done.waiting == [f"{LONG_AGO}: its chunks are being read by somebody who takes long"]
        assert await old.numbers(deployment_id) == list(range(1, 31))
    assert (await upkeep.sweep()).dropped == 1


async def test_a_lost_archive_is_said_plainly(old: OldLogs, upkeep: LogUpkeep, directory: Path) -> None:
    deployment_id = await old.make()
    await upkeep.sweep()
    shutil.rmtree(directory / LONG_AGO.isoformat())
    with pytest.raises(DeploymentError, match=r"the archived log is gone: object .* is not in the archive"):
        await old.numbers(deployment_id)
