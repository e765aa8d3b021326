"""A way to a server that a test can shut: who comes is refused, and who is there is cut off."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable
from typing import Literal

Watch = Callable[[int, Literal["there", "back"], bytes], Awaitable[bool]]
"""Whether what comes by, on the connection of that number, may pass. Where not, the connection is cut."""


class Door:
    """`flows`, when it is taken back, lets those who come wait at the door without an answer."""

    def __init__(self, beyond: str = "") -> None:
        """`beyond` is the server: an address that ends with `:PORT`, on loopback."""
        self.port = 0
        self.flows = asyncio.Event()
        self.flows.set()
        self.watch: Watch | None = None
        self._numbers = itertools.count()
        self._beyond = beyond
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self, beyond: str = "") -> None:
        if self._server is not None and self._server.is_serving():
            return
        self._beyond = beyond or self._beyond
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the loop ends; nobody awaits this task
            await self._carry(reader, writer)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        await self.flows.wait()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", int(self._beyond.rsplit(":", 1)[1]))
        except OSError:
            writer.transport.abort()
        else:
            self._writers.add(back)
            number = next(self._numbers)
            await asyncio.gather(self._pump(number, "there", reader, back), self._pump(number, "back", there, writer))
            self._writers.discard(back)
        self._writers.discard(writer)

    async def _pump(
        self, number: int, way: Literal["there", "back"], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # uvloop says by the latter that the other end has closed
            while data := await reader.read(65536):
                if self.watch is not None and not await self.watch(number, way, data):
                    break
                writer.write(data)
                await writer.drain()
        writer.close()
