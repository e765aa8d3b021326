"""What surrounds every request: its trace, its figures, the cap on its body, and the last net for our own bugs.

Rule: plain ASGI, no buffering, so that streams stay streams and a body over the cap is never held.
"""

import time
from dataclasses import dataclass

import structlog
from fastapi import Request
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import connection, problems
from api.metrics import Metrics
from api.trace import trace_id
from store import audit


class Observed:
    """Binds the trace id to our log, counts and times answers, and turns a bug into a problem document."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        connection.remember(scope, receive)
        answer = _Answer(scope, send, self._metrics)
        trace = trace_id(scope)
        with structlog.contextvars.bound_contextvars(trace_id=trace), audit.asked_for(trace):
            try:
                await self._app(scope, receive, answer.send)
            except ClientDisconnect:
                return  # nobody is there to be answered
            except Exception as error:  # noqa: BLE001  # the last net: without it a bug would end the connection bare
                response = problems.of_unexpected(Request(scope), error)
                if not answer.started:
                    await response(scope, receive, answer.send)


@dataclass
class _Answer:
    """Passes an answer on, adds what all of them carry, and counts it at its first byte."""

    scope: Scope
    sender: Send
    metrics: Metrics
    started: bool = False

    def __post_init__(self) -> None:
        self._began = time.perf_counter()

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            headers = MutableHeaders(scope=message)
            headers["X-Content-Type-Options"] = "nosniff"
            headers.setdefault("Cache-Control", "no-store")
            self._count(message["status"])
        await self.sender(message)

    def _count(self, status: int) -> None:
        method, route = self.scope["method"], getattr(self.scope.get("route"), "path", "none")
        self.metrics.requests.labels(method, route, str(status)).inc()
        self.metrics.seconds.labels(method, route).observe(time.perf_counter() - self._began)


class BodyLimit:
    """413 for a body over the cap: before it is read where its length is announced, else as soon as it is too long."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._announces_too_much(Headers(scope=scope).get("content-length", "")):
            response = await problems.of_deployment_error(Request(scope), self._too_large())
            await response(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _announces_too_much(self, length: str) -> bool:
        return length.isdecimal() and (len(length) > 18 or int(length) > self._max_bytes)

    def _counted(self, receive: Receive) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._max_bytes:
                raise self._too_large()
            return message

        return counted

    def _too_large(self) -> problems.Refused:
        return problems.Refused(413, f"the body is too large; accepted: up to {self._max_bytes} bytes")
