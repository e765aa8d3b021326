"""The archive: finished logs in a directory or an S3-compatible bucket, one object a log, read by ranges.

An object is the log's chunks as the database had them, one after the other; then the index, a zstd frame of JSON that
says of each chunk what it holds and where it is; then `_TAIL`, by which the index is found.

Rules: an object is written whole and read back before anybody relies on it. Its key names the log's day, by which old
logs are found, and the number of its lines: a log that has grown is another object, and what is known of one is true.
"""

import asyncio
import hashlib
import os
import re
import struct
import zlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

import obstore
import orjson
import zstandard
from obstore.exceptions import BaseError
from obstore.store import LocalStore, S3Store
from pydantic import TypeAdapter, ValidationError

from domain.errors import DeploymentError, ErrorCode
from store.chunks import Choice, Chunk, ChunkSource, Head

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

BUCKET = "s3://"
_INDEX_EFFORT = 9
_TAIL = struct.Struct(">4sII")
_MAGIC = b"HWL1"
_FIRST_READ = 64 * 1024
"""The end of an object that is read for its index; a longer one costs a second read."""

_BATCH_BYTES = 2 * 1024 * 1024
_WHOLE_BYTES = 5 * 1024 * 1024
"""What is smaller is sent by one request."""

_DELETED_AT_A_TIME = 1000
_CACHED_INDEXES = 64
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_RETRY_AFTER_SECONDS = 5
_CLIENT: "ClientConfig" = {"connect_timeout": timedelta(seconds=3), "timeout": timedelta(seconds=60)}
_RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=10)}


@dataclass(frozen=True, slots=True)
class Entry:
    """A chunk in an object: what it holds, where it is and the sum (CRC-32) of its data."""

    head: Head
    offset: int
    size: int
    check: int


_INDEX = TypeAdapter(list[Entry])


class LogArchive:
    """`place` is a directory that exists, or `s3://bucket/prefix`; of a bucket, what is not said is as on AWS."""

    def __init__(
        self,
        place: str,
        *,
        endpoint: str | None = None,
        region: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
    ) -> None:
        self._directory = None if place.startswith(BUCKET) else Path(place).absolute()
        self._opened: Callable[[], LocalStore | S3Store]
        if self._directory is None:
            given = {
                "endpoint": endpoint,
                "region": region,
                "access_key_id": access_key,
                "secret_access_key": secret_key,
            }
            bucket = _bucket(place, {name: value for name, value in given.items() if value})
            self._opened = lambda: bucket
        else:
            # Each time, since it may be mounted later. It is never made here: a mount that is missing stays an error.
            self._opened = partial(LocalStore, self._directory, automatic_cleanup=True)
        self._indexes: OrderedDict[str, list[Entry]] = OrderedDict()

    def log(self, key: str) -> ChunkSource:
        return _ArchivedLog(self, key)

    async def write(self, day: date, name: str, lines: int, chunks: AsyncIterator[Sequence[Chunk]]) -> str:
        """Its key, once the log is there for good. Writing it again changes nothing.

        Raises:
            DeploymentError: unavailable.
        """
        key = f"{day.isoformat()}/{name}-{lines}"
        written, read = hashlib.sha256(), hashlib.sha256()
        with _reaching(self._directory):
            store = self._opened()
            await _put(store, key, _hashed(_parts(chunks), written.update))
            if self._directory is not None:
                await asyncio.to_thread(_sync, self._directory / key, self._directory)
            async for part in (await obstore.get_async(store, key)).stream(_BATCH_BYTES):
                read.update(part)
        if written.digest() != read.digest():
            raise _away("what was written reads differently")
        return key

    async def days(self) -> list[date]:
        """The days of which logs are here, or were: some servers go on listing what is empty."""
        with _reaching(self._directory):
            found = (await obstore.list_with_delimiter_async(self._opened()))["common_prefixes"]
        return sorted(date.fromisoformat(name) for name in found if _DAY.fullmatch(name))

    async def delete(self, day: date) -> int:
        """Deletes all logs of a day; says how many there were."""
        deleted = 0
        with _reaching(self._directory):
            store = self._opened()
            async for found in obstore.list(store, f"{day.isoformat()}/", chunk_size=_DELETED_AT_A_TIME):
                with suppress(FileNotFoundError):  # somebody else deletes it, too
                    await obstore.delete_async(store, [entry["path"] for entry in found])
                    deleted += len(found)
        return deleted

    async def index(self, key: str) -> list[Entry]:
        """The chunks of a log, in order."""
        if key in self._indexes:
            self._indexes.move_to_end(key)
            return self._indexes[key]
        with _reaching(self._directory, key):
            self._indexes[key] = entries = await _read_index(self._opened(), key)
        if len(self._indexes) > _CACHED_INDEXES:
            self._indexes.popitem(last=False)
        return entries

    async def read(self, key: str, entries: Sequence[Entry]) -> list[Chunk]:
        starts, sizes = [entry.offset for entry in entries], [entry.size for entry in entries]
        with _reaching(self._directory, key):
            parts = await obstore.get_ranges_async(self._opened(), key, starts=starts, lengths=sizes)
            return [_checked(entry, bytes(part)) for entry, part in zip(entries, parts, strict=True)]


@dataclass(frozen=True)
class _ArchivedLog:
    archive: LogArchive
    key: str

    async def chunks(self, choice: Choice) -> AsyncIterator[Sequence[Chunk]]:
        chosen = [entry for entry in await self.archive.index(self.key) if choice.takes(entry.head)]
        for batch in _batches(chosen[::-1] if choice.backwards else chosen):
            yield await self.archive.read(self.key, batch)


def _batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """One chunk first, since a page seldom needs more; then as many as there were so far, up to a few MiB."""
    start = 0
    while start < len(entries):
        stop, total = start + 1, entries[start].size
        while stop < min(len(entries), max(1, 2 * start)) and total + entries[stop].size <= _BATCH_BYTES:
            total += entries[stop].size
            stop += 1
        yield list(entries[start:stop])
        start = stop


async def _parts(chunks: AsyncIterator[Sequence[Chunk]]) -> AsyncIterator[bytes]:
    """An object, part by part."""
    entries: list[Entry] = []
    offset = 0
    async for batch in chunks:
        for chunk in batch:
            entries.append(Entry(chunk.head, offset, len(chunk.data), zlib.crc32(chunk.data)))
            offset += len(chunk.data)
            yield chunk.data
    index = zstandard.ZstdCompressor(level=_INDEX_EFFORT).compress(orjson.dumps(entries))
    yield index
    yield _TAIL.pack(_MAGIC, len(index), zlib.crc32(index))


async def _hashed(parts: AsyncIterator[bytes], update: Callable[[bytes], None]) -> AsyncIterator[bytes]:
    async for part in parts:
        update(part)
        yield part


async def _put(store: LocalStore | S3Store, key: str, parts: AsyncIterator[bytes]) -> None:
    """Whole or not at all."""
    begun = bytearray()
    async for part in parts:
        begun += part
        if len(begun) > _WHOLE_BYTES:
            await obstore.put_async(store, key, _chained(bytes(begun), parts))
            return
    await obstore.put_async(store, key, bytes(begun))


async def _chained(first: bytes, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for part in parts:
        yield part


def _sync(path: Path, root: Path) -> None:
    """The disk has it, and the names that lead to it: the database is about to forget."""
    for place in (path, *path.parents):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if place == root:
            return


async def _read_index(store: LocalStore | S3Store, key: str) -> list[Entry]:
    found = await obstore.get_async(store, key, options={"range": {"suffix": _FIRST_READ}})
    end = bytes(await found.bytes_async())
    try:
        magic, size, check = _TAIL.unpack(end[-_TAIL.size :])
        start = found.meta["size"] - _TAIL.size - size
        if magic != _MAGIC or start < 0:
            raise _Damaged
        if len(end) < size + _TAIL.size:
            end = bytes(await obstore.get_range_async(store, key, start=start, end=found.meta["size"]))
        packed = end[-_TAIL.size - size : -_TAIL.size]
        if zlib.crc32(packed) != check:
            raise _Damaged
        return _INDEX.validate_json(zstandard.ZstdDecompressor().decompress(packed))
    except (struct.error, zstandard.ZstdError, ValidationError) as error:
        raise _Damaged from error


def _checked(entry: Entry, data: bytes) -> Chunk:
    if len(data) != entry.size or zlib.crc32(data) != entry.check:
        raise _Damaged
    return Chunk(entry.head, data)


class _Damaged(Exception):
    """What is there is not what was written."""


@contextmanager
def _reaching(directory: Path | None, key: str = "") -> Iterator[None]:
    """Says plainly what is wrong with the archive; `key` is what is read of it."""
    try:
        yield
    except _Damaged as error:
        raise _damaged(key) from error
    except FileNotFoundError as error:
        if not key or "NoSuchBucket" in str(error) or (directory is not None and not directory.is_dir()):
            raise _away("its directory or bucket is not there") from error
        raise DeploymentError(
            ErrorCode.NOT_FOUND, f"the archived log is gone: object {key} is not in the archive"
        ) from error
    except (BaseError, OSError) as error:
        raise (_damaged(key) if "InvalidRange" in str(error) else _away(type(error).__name__)) from error


def _damaged(key: str) -> DeploymentError:
    return DeploymentError(
        ErrorCode.INTERNAL, f"the archived log is damaged: object {key} has to be restored from a copy"
    )


def _away(why: str) -> DeploymentError:
    return DeploymentError(
        ErrorCode.UNAVAILABLE,
        f"the archive of logs is out of reach ({why}); try again",
        retry_after_seconds=_RETRY_AFTER_SECONDS,
    )


def _bucket(place: str, access: dict[str, str]) -> S3Store:
    bucket, _, prefix = place.removeprefix(BUCKET).partition("/")
    plain: ClientConfig = {"allow_http": access.get("endpoint", "").startswith("http://")}
    return S3Store(
        bucket,
        prefix=prefix.strip("/") or None,
        config=cast("S3Config", access),
        client_options=_CLIENT | plain,
        retry_config=_RETRIES,
    )
