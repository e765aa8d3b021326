"""The archive, in a directory and at a real S3 server: what is written is read again by ranges, or plainly refused."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import obstore
import pytest
from obstore.store import LocalStore, S3Store

from domain.errors import DeploymentError, ErrorCode
from domain.log import LogFilter, LogLevel, LogLine
from store.archive import LogArchive
from store.chunks import Choice, Chunk, columns_of, pack
from tests.s3_server import ACCESS_KEY, SECRET_KEY, S3Server
from tests.servers import free_port

DAY = date(2026, 1, 31)
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
EVERYTHING = Choice()


@dataclass(frozen=True)
class Place:
    """An archive, and the objects in it as somebody else sees them."""

    opened_again: Callable[[], LogArchive]
    archive: LogArchive
    beside: LocalStore | S3Store

    @classmethod
    def of(cls, opened: Callable[[], LogArchive], beside: LocalStore | S3Store) -> "Place":
        return cls(opened, opened(), beside)

    async def objects(self) -> dict[str, bytes]:
        found = await obstore.list(self.beside).collect_async()
        return {entry["path"]: bytes(obstore.get(self.beside, entry["path"]).bytes()) for entry in found}


@pytest.fixture(params=["directory", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "directory":
        return Place.of(lambda: LogArchive(str(tmp_path)), LocalStore(tmp_path))
    server: S3Server = request.getfixturevalue("s3")
    return bucket(server, f"s3://{uuid4().hex}/logs/of/ours")


def bucket(server: S3Server, place: str, secret_key: str = SECRET_KEY) -> Place:
    access = {
        "endpoint": server.endpoint,
        "region": "us-east-1",
        "access_key": ACCESS_KEY,
        "secret_key": secret_key,
    }
    beside = S3Store(
        place.split("/")[2],
        prefix="logs/of/ours",
        endpoint=server.endpoint,
        region="us-east-1",
        access_key_id=ACCESS_KEY,
        secret_access_key=SECRET_KEY,
        client_options={"allow_http": True},
    )
    return Place.of(lambda: LogArchive(place, **access), beside)


def chunks(count: int, lines: int = 10) -> list[Chunk]:
    """Chunks of a minute each; every third one has a warning, every fourth one is of step `test`."""
    made = []
    for number in range(count):
        start = NOON + timedelta(minutes=number)
        said = [
            LogLine(
                timestamp=start + timedelta(seconds=index),
                message=f"line {number * lines + index + 1}",
                level=LogLevel.WARN if index == 3 and number % 3 == 0 else None,
                step="test" if number % 4 == 0 else "build",
            )
            for index in range(lines)
        ]
        made.append(pack(columns_of(said), 3, number * lines + 1))
    return made


async def batches(made: Sequence[Chunk], size: int = 3) -> AsyncIterator[Sequence[Chunk]]:
    for start in range(0, len(made), size):
        yield made[start : start + size]


async def read(archive: LogArchive, key: str, choice: Choice = EVERYTHING) -> list[Chunk]:
    return [chunk async for batch in archive.log(key).chunks(choice) for chunk in batch]


async def write(archive: LogArchive, made: Sequence[Chunk], day: date = DAY, name: str = "log") -> str:
    return await archive.write(day, name, made[-1].head.last_line, batches(made))


async def refusal(archive: LogArchive, key: str) -> DeploymentError:
    with pytest.raises(DeploymentError) as refused:
        await read(archive, key)
    assert SECRET_KEY not in str(refused.value)
    return refused.value


async def test_chunks_are_read_as_they_were_written(place: Place) -> None:
    made = chunks(40)
    key = await write(place.archive, made)
    assert await read(place.archive, key) == made
    assert list(await place.objects()) == [key] == ["2026-01-31/log-400"]


@pytest.mark.parametrize(
    "choice",
    [
        Choice(after=155),
        Choice(after=155, before=252),
        Choice(before=20, backwards=True),
        Choice(LogFilter(level=LogLevel.WARN)),
        Choice(LogFilter(step="test"), after=200, backwards=True),
        Choice(LogFilter(source="deploy")),
        Choice(LogFilter(since=NOON + timedelta(minutes=3), until=NOON + timedelta(minutes=5))),
    ],
    ids=lambda choice: repr(choice)[:60],
)
async def test_only_chosen_chunks_are_read_in_the_wanted_order(place: Place, choice: Choice) -> None:
    made = chunks(40)
    chosen = [chunk for chunk in made if choice.takes(chunk.head)]
    key = await write(place.archive, made)
    assert await read(place.archive, key, choice) == (chosen[::-1] if choice.backwards else chosen)


async def test_a_log_of_many_megabytes_is_written_and_read(place: Place) -> None:
    noise = [LogLine(timestamp=NOON, message=os.urandom(400_000).hex()) for _ in range(20)]
    made = [pack(columns_of([line]), 1, number) for number, line in enumerate(noise, 1)]
    key = await write(place.archive, made)
    assert await read(place.archive, key) == made
    assert len((await place.objects())[key]) > 8_000_000


async def test_writing_again_changes_nothing(place: Place) -> None:
    made = chunks(5)
    keys = [await write(place.archive, made) for _ in range(2)]
    before = await place.objects()
    assert keys[0] == await write(place.archive, made) == keys[1]
    assert await place.objects() == before


@pytest.mark.parametrize("size", [10, 600_000])
async def test_a_write_that_breaks_off_leaves_nothing(place: Place, size: int) -> None:
    made = [pack(columns_of([LogLine(timestamp=NOON, message=os.urandom(size).hex())]), 1, 1) for _ in range(10)]

    async def breaking() -> AsyncIterator[Sequence[Chunk]]:
        yield made
        raise DeploymentError(ErrorCode.UNAVAILABLE, "the database is away")

    await write(place.archive, chunks(1), name="other")  # so that there is a bucket
    with pytest.raises(DeploymentError, match="the database is away"):
        await place.archive.write(DAY, "log", 10, breaking())
    assert list(await place.objects()) == ["2026-01-31/other-10"]


async def test_a_day_is_deleted_and_nothing_else(place: Place) -> None:
    made = chunks(1)
    for day in (DAY, DAY + timedelta(days=1)):
        for name in ("one", "two"):
            await write(place.archive, made, day, name)
    obstore.put(place.beside, "notes/2026-01-31", b"of somebody else")
    assert await place.archive.days() == [DAY, DAY + timedelta(days=1)]
    assert [await place.archive.delete(DAY) for _ in range(2)] == [2, 0]
    assert sorted(await place.objects()) == ["2026-02-01/one-10", "2026-02-01/two-10", "notes/2026-01-31"]


async def test_a_log_that_is_missing_is_said_to_be_gone(place: Place) -> None:
    await write(place.archive, chunks(1))
    refused = await refusal(place.archive, "2026-01-31/other-10")
    assert refused.code is ErrorCode.NOT_FOUND
    assert refused.message == "the archived log is gone: object 2026-01-31/other-10 is not in the archive"


@pytest.mark.parametrize("cut", [1, 8, 100, 400])
async def test_a_log_that_was_cut_short_is_said_to_be_damaged(place: Place, cut: int) -> None:
    key = await write(place.archive, chunks(5))
    whole = (await place.objects())[key]
    obstore.put(place.beside, key, whole[:-cut])
    assert (await refusal(place.archive, key)).code is ErrorCode.INTERNAL


async def test_a_changed_byte_is_found_wherever_it_is_and_other_chunks_are_read(tmp_path: Path) -> None:
    made = chunks(8)
    key = await write(LogArchive(str(tmp_path)), made)
    whole = (tmp_path / key).read_bytes()

    async def refused_with(position: int) -> LogArchive:
        changed = bytearray(whole)
        changed[position] ^= 0x10
        (tmp_path / key).write_bytes(changed)
        archive = LogArchive(str(tmp_path))
        refused = await refusal(archive, key)
        assert refused.code is ErrorCode.INTERNAL
        assert refused.message == f"the archived log is damaged: object {key} has to be restored from a copy"
        return archive

    start = 0
    for chunk in made:
        for position in (start, start + len(chunk.data) - 1):
            archive = await refused_with(position)
            later = Choice(after=chunk.head.last_line)
            assert await read(archive, key, later) == [other for other in made if later.takes(other.head)]
        start += len(chunk.data)
    for position in range(start, len(whole)):
        await refused_with(position)


async def test_an_object_that_shrinks_while_it_is_read_is_said_to_be_damaged(place: Place) -> None:
    key = await write(place.archive, chunks(5))
    await read(place.archive, key)
    obstore.put(place.beside, key, b"")
    assert (await refusal(place.archive, key)).code is ErrorCode.INTERNAL
    assert (await refusal(place.opened_again(), key)).code is ErrorCode.INTERNAL


async def test_a_directory_that_is_away_is_out_of_reach_until_it_is_back(tmp_path: Path) -> None:
    directory = tmp_path / "mounted"
    directory.mkdir()
    archive = LogArchive(str(directory))
    made = chunks(3)
    key = await write(archive, made)
    directory.rename(tmp_path / "elsewhere")
    assert (await refusal(LogArchive(str(directory)), key)).code is ErrorCode.UNAVAILABLE
    with pytest.raises(DeploymentError) as refused:
        await write(archive, made, name="other")
    assert refused.value.code is ErrorCode.UNAVAILABLE
    assert not directory.exists()
    (tmp_path / "elsewhere").rename(directory)
    assert await read(archive, key) == made


async def test_a_server_that_is_away_or_refuses_is_out_of_reach(s3: S3Server) -> None:
    place = f"s3://{uuid4().hex}/logs"
    sound = bucket(s3, place)
    key = await write(sound.archive, chunks(1))
    away = S3Server(f"http://127.0.0.1:{free_port()}")
    for archive in (
        bucket(away, place).archive,
        bucket(s3, place, secret_key="of somebody else").archive,
        bucket(s3, f"s3://{uuid4().hex}/logs").archive,
    ):
        refused = await refusal(archive, key)
        assert (refused.code, refused.retryable) == (ErrorCode.UNAVAILABLE, True)
        assert refused.message.startswith("the archive of logs is out of reach (")
