"""Live streams on the wire: server-sent events or JSON lines, and an answer that follows its reader's pace.

Rules: the wire format is decided here alone. A reader that takes nothing for `SEND_SECONDS` is dropped; it resumes
after its last id. A stream reads a status before it reads what is new, and ends when nothing is new after a final one.
"""

import asyncio
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, aclosing
from dataclasses import dataclass
from typing import Annotated, Any

import structlog
from fastapi import Header, Query, Request, Response
from fastapi.sse import format_sse_event
from pydantic import StringConstraints
from starlette.types import Receive, Scope, Send

from api import connection
from api.describe import REFERENCE
from api.queries import Number
from domain.errors import DeploymentError, ErrorCode
from domain.wire import Wire
from store.listener import Wake

NDJSON = "application/x-ndjson"

HEARTBEAT_SECONDS = 9.0
"""After that much silence. A read of a database that is away takes up to 5 s, and readers are promised 15 s."""

SEND_SECONDS = 30.0
TOKEN_CHECK_SECONDS = 1.0
_REREAD_SECONDS = 5.0
"""Without a wake-up: a listener that has lost its connection tells nobody for as long as it takes to get it back."""

_BREAKS = re.compile("[\u0085\u2028\u2029]")
"""Ends of lines for Unicode, and for readers that split by it (httpx, str.splitlines); JSON may escape them."""

_log = structlog.get_logger()

After = Annotated[Number | None, Query(description="resume after this id")]
LastEventId = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")] | None,
    Header(alias="Last-Event-ID", description="resume after this id; `after` wins"),
]


def position(after: int | None, last_event_id: str | None, otherwise: int = 0) -> int:
    if after is not None:
        return after
    return int(last_event_id) if last_event_id is not None else otherwise


# --- the two formats ---


@dataclass(frozen=True)
class Form:
    """How entries look on the wire. An entry is a document in one line, with its name and what is resumed after."""

    media_type: str
    entry: Callable[[str, int, str], bytes]
    heartbeat: bytes
    end: bytes


def _as_event(name: str, cursor: int, document: str) -> bytes:
    return format_sse_event(event=name, data_str=document, id=str(cursor))


def _as_line(_name: str, _cursor: int, document: str) -> bytes:
    return document.encode() + b"\n"


EVENTS = Form(
    "text/event-stream", _as_event, format_sse_event(comment=""), format_sse_event(event="end", data_str="{}")
)
LINES = Form(NDJSON, _as_line, b"\n", b'{"event":"end"}\n')


def form_of(request: Request) -> Form:
    return LINES if NDJSON in request.headers.get("accept", "") else EVENTS


def one_line(model: Wire) -> str:
    """The model as JSON that no reader of lines parts."""
    document = model.model_dump_json(by_alias=True)
    return document if document.isascii() else _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def content(name: str, model: str) -> dict[str, Any]:
    """How a stream's two formats are described: its entries are called `name` and hold a `model`."""
    entry = {
        "properties": {
            "event": {"const": name},
            "id": {"type": "string", "pattern": "^[0-9]+$"},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": REFERENCE.format(model=model)},
            },
        },
        "required": ["event", "id", "data"],
    }
    end = {"properties": {"event": {"const": "end"}}, "required": ["event"]}
    return {
        EVENTS.media_type: {"schema": {"type": "object", "oneOf": [entry, end]}},
        NDJSON: {"schema": {"type": "string"}},
    }


# --- the answer ---


class StreamAnswer(Response):
    """Sends `first`, and then what `body` yields for as long as somebody takes it.

    One task beside the answer's own waits for the reader to leave: that is all that an idle stream costs here.
    """

    def __init__(
        self,
        body: AsyncGenerator[bytes, None],
        media_type: str,
        *,
        counted: AbstractContextManager[None],
        first: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers({"X-Accel-Buffering": "no", **(headers or {})})
        self._first = first
        self._body = body
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = asyncio.create_task(_left(receive))
        try:
            async with asyncio.timeout(None) as patience, aclosing(self._body):

                def leave(_: object) -> None:
                    if not patience.expired():
                        patience.reschedule(0)

                left.add_done_callback(leave)
                try:
                    with self._counted:
                        await self._send_all(send, patience, left)
                finally:
                    left.remove_done_callback(leave)
        except TimeoutError:
            if not patience.expired():
                raise
            if not left.done():
                _log.info("a reader that took nothing was dropped", path=scope["path"])
                if connection.cut(scope):
                    await left
        finally:
            left.cancel()

    async def _send_all(self, send: Send, patience: asyncio.Timeout, left: "asyncio.Task[None]") -> None:
        loop = asyncio.get_running_loop()

        async def pass_on(message: dict[str, Any]) -> None:
            patience.reschedule(loop.time() + SEND_SECONDS)
            await send(message)
            patience.reschedule(0 if left.done() else None)

        await pass_on({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        if self._first:
            await pass_on({"type": "http.response.body", "body": self._first, "more_body": True})
        async for part in self._body:
            await pass_on({"type": "http.response.body", "body": part, "more_body": True})
        await pass_on({"type": "http.response.body", "body": b"", "more_body": False})


async def _left(receive: Receive) -> None:
    """Returns when the reader has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


# --- following what has no feed of its own ---


@dataclass(frozen=True)
class Event:
    """One entry of a stream. `cursor` is what a reader resumes after; `document` is JSON in one line."""

    name: str
    cursor: int
    document: str

    @classmethod
    def of(cls, name: str, cursor: int, model: Wire) -> "Event":
        return cls(name, cursor, one_line(model))


Read = Callable[[int], Awaitable[tuple[list[Event], bool]]]
"""What is new after a cursor, and whether nothing can come after it."""

Allowed = Callable[[], Awaitable[bool]]


async def follow(
    form: Form, watch: AbstractAsyncContextManager[Wake], read: Read, cursor: int, allowed: Allowed
) -> AsyncGenerator[bytes, None]:
    """All entries after `cursor`, until `read` says that there is no more, or the token is no longer allowed."""
    async with watch as wake:
        told = read_at = time.monotonic()
        while await allowed() and not connection.server_stops():
            events, ended = await _patiently(read, cursor)
            read_at = time.monotonic()
            for event in events:
                yield form.entry(event.name, event.cursor, event.document)
                cursor, told = event.cursor, time.monotonic()
            if events:
                continue
            if ended:
                yield form.end
                return
            while await _quiet(wake, read_at) and await allowed() and not connection.server_stops():
                if time.monotonic() - told >= HEARTBEAT_SECONDS:
                    yield form.heartbeat
                    told = time.monotonic()


async def _patiently(read: Read, cursor: int) -> tuple[list[Event], bool]:
    """A database that is away for a moment is a pause of the stream, not its end."""
    try:
        return await read(cursor)
    except DeploymentError as error:
        if error.code is not ErrorCode.UNAVAILABLE:
            raise
        return [], False


async def _quiet(wake: Wake, read_at: float) -> bool:
    """Waits a moment; whether there is still no reason to read again."""
    began = time.monotonic()
    await wake.wait(TOKEN_CHECK_SECONDS)
    now = time.monotonic()
    return now - began >= TOKEN_CHECK_SECONDS and now - read_at < _REREAD_SECONDS
