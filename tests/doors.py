"""A way to a server that a test can shut: who comes is refused, and who is there is cut off."""

import asyncio
import contextlib


class Door:
    """`flows`, when it is taken back, lets those who come wait at the door without an answer."""

    def __init__(self, beyond: str = "") -> None:
        """`beyond` is the server: an address that ends with `:PORT`, on loopback."""
        self.port = 0
        self.flows = asyncio.Event()
        self.flows.set()
        self._beyond = beyond
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self, beyond: str = "") -> None:
        if self._server is not None and self._server.is_serving():
            return
        self._beyond = beyond or self._beyond
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def shut(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        await self.flows.wait()
        try:
            there, back = await asyncio.open_connection("127.0.0.1", int(self._beyond.rsplit(":", 1)[1]))
        except OSError:
            writer.transport.abort()
        else:
            self._writers.add(back)
            await asyncio.gather(_pump(reader, back), _pump(there, writer))
            self._writers.discard(back)
        self._writers.discard(writer)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
