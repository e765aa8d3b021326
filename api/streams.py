"""Live streams: history, then what comes, with neither gap nor double, as server-sent events or as JSON lines.

Rules: the wire format is decided here alone. A stream asks at least once a second whether its token is still valid. It
reads a status before it reads what is new, and ends when nothing is new after a final one.
"""

import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Query, Request, Response
from pydantic import StringConstraints
from sse_starlette import EventSourceResponse, ServerSentEvent

from api.describe import REFERENCE
from api.queries import Number
from api.services import Services
from domain.errors import DeploymentError, ErrorCode
from domain.wire import Wire
from store.listener import Wake

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


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
    return {SSE: {"schema": {"type": "object", "oneOf": [entry, end]}}, NDJSON: {"schema": {"type": "string"}}}


_BREAKS = re.compile("[\u0085\u2028\u2029]")
"""Ends of lines for Unicode, and for readers that split by it (httpx, str.splitlines); JSON may escape them."""

HEARTBEAT_SECONDS = 12.0
TOKEN_CHECK_SECONDS = 1.0
_REREAD_SECONDS = 5.0
"""Without a wake-up: a listener that has lost its connection tells nobody for as long as it takes to get it back."""

After = Annotated[Number | None, Query(description="resume after this id")]
LastEventId = Annotated[
    Annotated[str, StringConstraints(pattern=r"^[0-9]{1,18}$")] | None,
    Header(alias="Last-Event-ID", description="resume after this id; `after` wins"),
]


@dataclass(frozen=True)
class Event:
    """One entry of a stream. `cursor` is what a reader resumes after; `document` is JSON in one line."""

    name: str
    cursor: int
    document: str

    @classmethod
    def of(cls, name: str, cursor: int, model: Wire) -> "Event":
        return cls(
            name, cursor, _BREAKS.sub(lambda found: f"\\u{ord(found[0]):04x}", model.model_dump_json(by_alias=True))
        )


class End:
    """Nothing more can come."""


class Heartbeat:
    """Nothing has come for a while."""


Entry = Event | End | Heartbeat
Read = Callable[[int], Awaitable[tuple[list[Event], bool]]]
"""What is new after a cursor, and whether nothing can come after it."""


def position(after: int | None, last_event_id: str | None, otherwise: int = 0) -> int:
    if after is not None:
        return after
    return int(last_event_id) if last_event_id is not None else otherwise


async def follow(wake: Wake, read: Read, cursor: int, allowed: Callable[[], Awaitable[bool]]) -> AsyncIterator[Entry]:
    """All entries after `cursor`, until `read` says that there is no more, or the token is no longer allowed."""
    told = read_at = time.monotonic()
    while await allowed():
        events, ended = await _patiently(read, cursor)
        read_at = time.monotonic()
        for event in events:
            yield event
            cursor, told = event.cursor, time.monotonic()
        if events:
            continue
        if ended:
            yield End()
            return
        while await _quiet(wake, read_at) and await allowed():
            if time.monotonic() - told >= HEARTBEAT_SECONDS:
                yield Heartbeat()
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


async def history(read: Read, cursor: int) -> AsyncIterator[Entry]:
    """What is there now, and then the end."""
    while True:
        events, _ = await read(cursor)
        for event in events:
            yield event
            cursor = event.cursor
        if not events:
            yield End()
            return


def stream_answer(request: Request, services: Services, kind: str, entries: AsyncIterator[Entry]) -> Response:
    lines = NDJSON in request.headers.get("accept", "")
    write = _as_line if lines else _as_event

    async def content() -> AsyncIterator[bytes | ServerSentEvent]:
        with services.metrics.open_stream(kind):
            async for entry in entries:
                yield write(entry)

    # `ping=0`: heartbeats come from `follow`, so that both formats have them.
    return EventSourceResponse(content(), media_type=NDJSON if lines else SSE, ping=0)


def _as_event(entry: Entry) -> ServerSentEvent:
    match entry:
        case Event(name, cursor, document):
            return ServerSentEvent(document, event=name, id=str(cursor), sep="\n")
        case End():
            return ServerSentEvent("{}", event="end", sep="\n")
        case _:
            return ServerSentEvent(comment="", sep="\n")


def _as_line(entry: Entry) -> bytes:
    match entry:
        case Event(document=document):
            return document.encode() + b"\n"
        case End():
            return b'{"event":"end"}\n'
        case _:
            return b"\n"
