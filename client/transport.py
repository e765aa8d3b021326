"""HTTP to the service: one session, what may be tried again is, every refusal comes out as a `DeploymentError`.

Rule: tried again is what changes nothing or carries an idempotency key; anything else is sent once.
"""

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx
from httpx_retries import Retry, RetryTransport
from httpx_sse import SSEError, aconnect_sse

from domain.errors import DeploymentError, ErrorCode
from domain.wire import Request

Params = Mapping[str, Any]

_PATIENCE: dict[str, Any] = {
    "total": 6,
    "backoff_factor": 0.2,
    "backoff_jitter": 0.5,
    "max_backoff_wait": 3.0,
    "total_timeout": 10.0,
    "status_forcelist": [503],
}
_READS = Retry(allowed_methods=["GET"], **_PATIENCE)
_KEYED = Retry(allowed_methods=["POST"], **_PATIENCE)
_SECONDS = httpx.Timeout(30, connect=5)
_SILENCE = httpx.Timeout(30, connect=5, read=45)
"""Of a stream: the service says something at least every 15 s."""
_REOPEN_SECONDS = 0.2


@dataclass(frozen=True)
class Event:
    """`cursor` is what a stream is resumed after."""

    cursor: str
    document: str


class Transport:
    def __init__(self, url: str, token: str, *, below: httpx.AsyncBaseTransport | None = None) -> None:
        """`below` is what the requests go through in the end; the network where it is not given."""
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=_SECONDS,
            transport=RetryTransport(below or httpx.AsyncHTTPTransport(), retry=_READS),
        )

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.__aexit__(kind, error, trace)

    async def get(self, path: str, params: Params | None = None) -> bytes:
        return await self._send("GET", path, params=params)

    async def patch(self, path: str, body: Request) -> bytes:
        return await self._send("PATCH", path, content=_written(body), headers=_JSON)

    async def post(self, path: str, body: Request | None = None) -> bytes:
        """Sent once."""
        said = {} if body is None else {"content": _written(body), "headers": _JSON}
        return await self._send("POST", path, **said)

    async def create(self, path: str, body: Request | bytes) -> bytes:
        """Sent until it is answered, with a key that makes one creation of it."""
        content = body if isinstance(body, bytes) else _written(body)
        key = {} if getattr(body, "idempotency_key", None) else {"Idempotency-Key": str(uuid.uuid4())}
        return await self._send("POST", path, content=content, headers=_JSON | key, extensions={"retry": _KEYED})

    async def delete(self, path: str) -> None:
        """Sent once."""
        await self._send("DELETE", path)

    async def lines(self, path: str, params: Params) -> AsyncGenerator[str, None]:
        """An answer in JSON lines, however long. One that breaks off is an error."""
        wanted = {"Accept": "application/x-ndjson"}
        try:
            async with self._http.stream("GET", path, params=params, headers=wanted) as answer:
                await _check(answer)
                rest = ""
                async for part in answer.aiter_text():
                    *whole, rest = (rest + part).split("\n")
                    for line in whole:
                        yield line
        except httpx.TransportError as error:
            raise self._unreachable(error) from error

    async def _send(self, method: str, path: str, **options: Any) -> bytes:
        try:
            answer = await self._http.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from error
        await _check(answer)
        return answer.content

    async def events(self, path: str, params: Params, after: str | None = None) -> AsyncGenerator[Event, None]:
        """All events until the service says that there are no more; a cut is mended where it happened."""
        cursor = after
        while True:
            resume = {} if cursor is None else {"Last-Event-ID": cursor}
            try:
                async with aconnect_sse(
                    self._http, "GET", path, params=params, headers=resume, timeout=_SILENCE
                ) as source:
                    await _check(source.response)
                    async for sent in source.aiter_sse():
                        if sent.event == "end":
                            return
                        if sent.data:
                            cursor = sent.id
                            yield Event(cursor, sent.data)
            except (httpx.ConnectError, SSEError) as error:  # after all tries; or it is no stream at all
                raise self._unreachable(error) from error
            except httpx.TransportError:
                pass
            await asyncio.sleep(_REOPEN_SECONDS)

    def _unreachable(self, error: httpx.TransportError) -> DeploymentError:
        reason = str(error) or type(error).__name__
        return DeploymentError(ErrorCode.UNAVAILABLE, f"the service at {self.url} cannot be reached: {reason}")


_JSON = {"Content-Type": "application/json"}


def _written(body: Request) -> bytes:
    return body.model_dump_json(by_alias=True, exclude_unset=True).encode()


async def _check(answer: httpx.Response) -> None:
    if not answer.is_success:
        await answer.aread()
        raise error_of(answer)


def error_of(answer: httpx.Response) -> DeploymentError:
    """The error that a problem document (RFC 9457) tells of."""
    try:
        problem = answer.json()
        return DeploymentError(
            ErrorCode(problem["code"]),
            str(problem["detail"]),
            fields=[(entry["pointer"], entry["detail"]) for entry in problem.get("errors", [])],
            retry_after_seconds=_seconds(answer.headers.get("Retry-After", "")),
            details={"status": answer.status_code, "traceId": problem.get("traceId")},
        )
    except (ValueError, KeyError, TypeError):
        message = f"{answer.url} answered {answer.status_code} without saying why; is it the address of Headway's API?"
        return DeploymentError(ErrorCode.INTERNAL, message, details={"status": answer.status_code})


def _seconds(header: str) -> int | None:
    return int(header) if header.isdecimal() else None
