"""Bodies of answers, read in small parts and no further than is wanted: they may be endless, or packed to explode."""

import contextlib
import zlib
from collections.abc import AsyncGenerator

import httpx

from providers.answers import plain

LineReader = AsyncGenerator[bytes, None]

_GZIP_OR_ZLIB = 47  # zlib's window bits: both headers are recognised
_PART_BYTES = 64 * 1024


class Unreadable(Exception):
    """A body that cannot be read, and why."""


async def received(response: httpx.Response, max_bytes: int) -> bytes:
    body = bytearray()
    async with contextlib.aclosing(decoded(response)) as parts:
        async for part in parts:
            body += part
            if len(body) > max_bytes:
                raise Unreadable(f"more than {max_bytes} bytes")
    return bytes(body)


async def decoded(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The body in small parts: unpacked by ourselves, since httpx unpacks a part of any size at once."""
    encoding = response.headers.get("content-encoding", "identity").lower()
    if encoding == "identity":
        async for part in response.aiter_raw():
            yield part
        return
    if encoding not in {"gzip", "deflate"}:
        raise Unreadable(f"encoded as {plain(encoding, 20)}, which was not asked for")
    unpacker = zlib.decompressobj(wbits=_GZIP_OR_ZLIB)
    try:
        async for part in response.aiter_raw():
            while part:
                yield unpacker.decompress(part, _PART_BYTES)
                part = unpacker.unconsumed_tail  # noqa: PLW2901 - what is left of it
    except zlib.error:
        raise Unreadable("packed in a way that cannot be unpacked") from None


async def lines_of(parts: AsyncGenerator[bytes, None], longest: int) -> LineReader:
    """Lines without their ends. Of one that is too long, the first bytes."""
    line = bytearray()
    async with contextlib.aclosing(parts):
        async for part in parts:
            first, *others = part.split(b"\n")
            line += first[: longest - len(line)]
            for other in others:
                yield bytes(line).removesuffix(b"\r")
                line = bytearray(other[:longest])
    if line:
        yield bytes(line)
