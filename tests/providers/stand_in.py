"""A provider's stand-in: a real HTTP server in the test's process with state, held to the provider's own description.

A subclass names its description and gives routes:

    class Acme(StandIn):
        description = "acme"          # specs/acme.json

        def routes(self) -> list[Route]: ...

Rules:
1. Each request and each answer is checked against the description; leaving `running()` fails when one did not fit.
2. Faults are asked for by call, and happen that many times. What a fault answers is not checked.
"""

import asyncio
import contextlib
import functools
import json
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self, TypeVar

import uvicorn
from openapi_core import OpenAPI
from openapi_core.contrib.starlette import StarletteOpenAPIRequest, StarletteOpenAPIResponse
from openapi_schema_validator import OAS30Validator
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import Message, Receive, Scope, Send
from uvicorn.server import ServerState

from domain.errors import DeploymentError

SPECS = Path(__file__).parent / "specs"
STREAMS = ("application/stream+json", "application/x-ndjson", "text/event-stream")
"""Their lines are the subclass's to get right: an answer that never ends cannot be checked as a whole."""
_GARBAGE = b" " * 65536

Outcome = TypeVar("Outcome")


class Description:
    """The official description of an API, as a judge."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._openapi = OpenAPI.from_dict(document)
        self._operations = [
            (method.upper(), re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path))), operation, item)
            for path, item in document["paths"].items()
            for method, operation in item.items()
            if method != "parameters"
        ]

    @classmethod
    @functools.cache
    def named(cls, name: str) -> Self:
        return cls(json.loads((SPECS / f"{name}.json").read_text()))

    def of_request(self, request: Request, body: bytes) -> list[str]:
        """What is wrong with a request. Also query parameters that nobody described."""
        known = self._query_parameters(request.method, request.url.path)
        unknown = [f"unknown query parameter {name!r}" for name in request.query_params if name not in known]
        errors = self._openapi.iter_request_errors(StarletteOpenAPIRequest(request, body))
        return unknown + _told(errors)

    def of_answer(self, request: Request, answer: Response) -> list[str]:
        asked = StarletteOpenAPIRequest(request, b"")
        return _told(self._openapi.iter_response_errors(asked, StarletteOpenAPIResponse(answer)))

    def of_record(self, method: str, path: str, record: Any) -> list[str]:
        """What is wrong with a record of a stream of JSON, whose end nobody waits for."""
        answer = self.document["paths"][path][method.lower()]["responses"]["200"]
        validator = OAS30Validator(answer["content"]["application/stream+json"]["schema"])
        return [error.message for error in validator.iter_errors(record)]

    def _query_parameters(self, method: str, path: str) -> set[str]:
        for known_method, pattern, operation, item in self._operations:
            if known_method == method and pattern.fullmatch(path):
                both = [*operation.get("parameters", []), *item.get("parameters", [])]
                return {parameter["name"] for parameter in map(self._resolved, both) if parameter["in"] == "query"}
        return set()

    def _resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        if "$ref" not in node:
            return node
        found: Any = self.document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        return dict(found)


def _told(errors: Iterator[Exception]) -> list[str]:
    told = []
    for error in errors:
        below = getattr(error.__cause__, "schema_errors", None) or ([error.__cause__] if error.__cause__ else [])
        told.append("; ".join([str(error), *(str(part)[:500] for part in below)]))
    return told


@dataclass
class Fault:
    """What goes wrong with the calls of this method whose path has this pattern, `times` times.

    `status`: refused with status, headers and body. `slow`: done after `seconds`. `reset`: the connection is closed and
    nothing is done. `lost`: it is done, and the connection closed. `huge`: `size` bytes without end of the JSON.
    `twisted`: done, and the JSON of the answer changed.
    """

    kind: Literal["status", "slow", "reset", "lost", "huge", "twisted"]
    method: str = ""
    path: str = ""
    times: int = 1
    status: int = 500
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"<html>upstream error</html>"
    seconds: float = 0
    size: int = 100 * 1024 * 1024
    twist: Callable[[Any], Any] = lambda body: body
    when: Callable[[], bool] = lambda: True
    happened: int = 0

    def fits(self, method: str, path: str) -> bool:
        return (
            self.when()
            and self.happened < self.times
            and self.method in {"", method}
            and bool(re.search(self.path, path))
        )


@dataclass(frozen=True)
class Recorded:
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class StandIn(ABC):
    description: ClassVar[str]

    def __init__(self) -> None:
        self.judge = Description.named(self.description)
        self.url = ""
        self.faults: list[Fault] = []
        self.requests: list[Recorded] = []
        self.violations: list[str] = []
        self.creates: Counter[str] = Counter()
        """Of what was made, by our deployment's id: one intent must be one."""
        self._router = Router(self.routes())

    @abstractmethod
    def routes(self) -> list[Route]:
        """What there is to be asked."""

    def described_path(self, path: str) -> str:
        """The path as the description has it: for the rare one where a parameter holds slashes."""
        return path

    def fault(self, kind: Any, method: str = "", path: str = "", **details: Any) -> Fault:
        fault = Fault(kind, method, path, **details)
        self.faults.append(fault)
        return fault

    def asked(self, method: str, path: str) -> list[Recorded]:
        """The requests so far that have this method and pattern."""
        return [request for request in self.requests if request.method == method and re.search(path, request.path)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        # uvicorn's protocol without its `Server`, which takes a quarter of a second to end and takes the signals.
        config = uvicorn.Config(self, log_level="critical", lifespan="off", access_log=False)
        config.load()
        state = ServerState()

        def connection() -> asyncio.Protocol:
            return config.http_protocol_class(config=config, server_state=state, app_state={})  # type: ignore[call-arg]

        server = await asyncio.get_running_loop().create_server(connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()
            for open_one in list(state.connections):
                open_one.transport.abort()
            for task in list(state.tasks):
                task.cancel()
            await asyncio.gather(*state.tasks, return_exceptions=True)
        assert not self.violations, "\n".join(self.violations)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope = {**scope, "path": self.described_path(scope["path"])}
        body = await _read(receive)
        request = Request(scope)
        query, headers = dict(request.query_params), dict(request.headers)
        self.requests.append(Recorded(request.method, request.url.path, query, headers, body))
        fault = next((fault for fault in self.faults if fault.fits(request.method, request.url.path)), None)
        if fault is not None:
            fault.happened += 1
        await self._answer(_Exchange(scope, receive, send, request, body), fault)

    async def _answer(self, exchange: "_Exchange", fault: Fault | None) -> None:
        kind = fault.kind if fault else "none"
        if fault and kind in _BEFORE:
            return await _BEFORE[kind](exchange, fault)
        if fault and kind == "slow":
            await asyncio.sleep(fault.seconds)
        wrong = self.judge.of_request(exchange.request, exchange.body)
        if wrong:
            self._violated("request", exchange.request, wrong)
            return await exchange.send_whole(Response("; ".join(wrong), 400))
        answer = await exchange.routed(self._router)
        if answer is None:  # a stream, sent as it came
            return None
        wrong = self.judge.of_answer(exchange.request, answer)
        self._violated("answer", exchange.request, wrong)
        if fault and kind == "lost":
            return await exchange.cut()
        if fault and kind == "twisted":
            answer = JSONResponse(fault.twist(json.loads(bytes(answer.body))), answer.status_code)
        return await exchange.send_whole(answer)

    def _violated(self, what: str, request: Request, wrong: list[str]) -> None:
        self.violations += [f"{what} {request.method} {request.url.path}: {each}" for each in wrong]


@dataclass
class _Exchange:
    scope: Scope
    receive: Receive
    send: Send
    request: Request
    body: bytes

    async def routed(self, router: Router) -> Response | None:
        """The answer of the routes; None when it is a stream, which is handed on."""
        start: Message = {}
        parts: list[bytes] = []

        async def give() -> Message:
            if not given:
                given.append(True)
                return {"type": "http.request", "body": self.body}
            return await self.receive()

        async def take(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            if _content_type(start).startswith(STREAMS):
                await self.send(message)
            else:
                parts.append(message.get("body", b""))

        given: list[bool] = []
        await router({**self.scope, "app": None}, give, take)
        if _content_type(start).startswith(STREAMS):
            return None
        answer = Response(b"".join(parts), start["status"])
        answer.raw_headers = start["headers"]
        return answer

    async def send_whole(self, answer: Response) -> None:
        await answer(self.scope, self.receive, self.send)

    async def cut(self) -> None:
        """Closes the connection as a crash would: uvicorn hands its transport to nobody, it has to be taken."""
        self.send.__self__.transport.abort()  # type: ignore[attr-defined] # a bound method of uvicorn's
        while (await self.receive())["type"] != "http.disconnect":
            pass


async def _refuse(exchange: _Exchange, fault: Fault) -> None:
    headers = {"content-type": "text/html", **fault.headers}
    await exchange.send_whole(Response(fault.body, fault.status, headers))


async def _reset(exchange: _Exchange, fault: Fault) -> None:
    del fault
    await exchange.cut()


async def _huge(exchange: _Exchange, fault: Fault) -> None:
    async def endless() -> AsyncGenerator[bytes, None]:
        yield b'{"id": "'
        for _ in range(fault.size // len(_GARBAGE)):
            yield _GARBAGE

    await exchange.send_whole(StreamingResponse(endless(), media_type="application/json"))


_BEFORE: dict[str, Callable[[_Exchange, Fault], Awaitable[None]]] = {
    "status": _refuse,
    "reset": _reset,
    "huge": _huge,
}


async def in_the_end(step: Callable[[], Awaitable[Outcome]], tries: int = 12) -> Outcome:
    """As the caller does: again and again, as long as it may be. Only without waiting in between."""
    for _ in range(tries):
        try:
            return await step()
        except DeploymentError as error:
            if not error.retryable:
                raise
    raise AssertionError(f"not in {tries} tries")


def _content_type(start: Message) -> str:
    return next((value.decode() for name, value in start.get("headers", []) if name == b"content-type"), "")


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)
