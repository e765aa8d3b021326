"""Networks that lose things: the real one below, with one fault each."""

from collections.abc import AsyncIterator

import httpx


class LosesAnswers(httpx.AsyncBaseTransport):
    """The service gets each request; the first `count` answers never arrive."""

    def __init__(self, count: int) -> None:
        self.below = httpx.AsyncHTTPTransport()
        self.left = count

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.below.handle_async_request(request)
        if self.left:
            self.left -= 1
            await answer.aread()
            raise httpx.ReadError("the connection was reset", request=request)
        return answer

    async def aclose(self) -> None:
        await self.below.aclose()


class CutsStreams(httpx.AsyncBaseTransport):
    """Every answer ends after `chunks` pieces of it, with an error or `quietly`, until there have been `cuts`."""

    def __init__(self, chunks: int, cuts: int, *, quietly: bool = False) -> None:
        self.below = httpx.AsyncHTTPTransport()
        self.chunks = chunks
        self.left = cuts
        self.quietly = quietly

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await self.below.handle_async_request(request)
        if self.left:
            self.left -= 1
            answer.stream = _Cut(answer.stream, self.chunks, quietly=self.quietly)
        return answer

    async def aclose(self) -> None:
        await self.below.aclose()


class _Cut(httpx.AsyncByteStream):
    def __init__(self, whole: httpx.AsyncByteStream | httpx.SyncByteStream, chunks: int, *, quietly: bool) -> None:
        assert isinstance(whole, httpx.AsyncByteStream)
        self.whole = whole
        self.chunks = chunks
        self.quietly = quietly

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = self.chunks
        async for chunk in self.whole:
            yield chunk
            left -= 1
            if left == 0 and self.quietly:
                return
            if left == 0:
                raise httpx.ReadError("the connection was reset")

    async def aclose(self) -> None:
        await self.whole.aclose()
