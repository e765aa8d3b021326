"""The one HTTP border of hosted providers: time-outs, size caps, the address guard, what an answer means.

An adapter lists its calls and reads answers into models; it never sees an httpx error:

    READ = Call("read the deployment", "GET", "/v13/deployments/{id}", handed_back={404})

    self._http = Http("vercel", api_url)
    session = self._http.session(token, hide=request.secrets.values())
    deployment = (await session.call(READ, id=build.build_id)).read(Deployment)

Rules:
1. Retries are the caller's (Temporal's). The one exception: a repeatable call over a connection that breaks at once.
2. A call that makes something and got no answer is `Ambiguous`: look before it is sent again.
3. Credentials go to the address of the session alone, and into no message, log line or redirect.
4. Whatever fails is a `DeploymentError`; a provider that fails again and again is left alone (`breaker`).
"""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import structlog

from domain.errors import DeploymentError, ErrorCode
from domain.masking import Mask
from providers.answers import (
    Ambiguous,
    Answer,
    CallFailed,
    askable,
    bounded,
    failure_of,
    limits_of,
    link,
    plain,
    wait_seconds,
    whole_seconds,
)
from providers.bodies import LineReader, Unreadable, decoded, lines_of, received
from providers.breaker import Breaker, Breakers, Trouble
from providers.budget import Budget, LocalBudget
from providers.guarded import GuardedTransport

__all__ = [
    "Ambiguous",
    "Answer",
    "Call",
    "CallFailed",
    "Http",
    "LineReader",
    "Options",
    "Params",
    "Session",
    "Trouble",
    "askable",
    "link",
    "plain",
]

_log = structlog.get_logger()

MAX_BYTES = 10 * 1024 * 1024
REQUEST_IDS = ("x-vercel-id", "x-github-request-id", "x-nf-request-id", "x-request-id")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_OURS = (httpx.PoolTimeout, httpx.LocalProtocolError)
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, *_OURS)
_BREAKS = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)
_WHY: dict[type[Exception], str] = {
    httpx.ConnectError: "it cannot be connected to",
    httpx.ConnectTimeout: "no connection came about in time",
    httpx.ReadTimeout: "nothing came for too long",
    httpx.PoolTimeout: "too many calls are waiting here",
    httpx.LocalProtocolError: "the call cannot be sent",
}

Params = Mapping[str, str | int | bool | None]
Content = bytes | AsyncIterable[bytes]


@dataclass(frozen=True)
class Call:
    """One row of an adapter's table. `what` completes "asked to …"; `{names}` of the path are arguments.

    A name that ends in `path` keeps its slashes. Statuses `handed_back` are answers, no errors.
    """

    what: str
    method: str
    path: str
    handed_back: frozenset[int] | set[int] = frozenset()
    repeatable: bool | None = None  # doing it twice is doing it once; a POST is not, unless it says so
    refused_as: ErrorCode = ErrorCode.INVALID_REQUEST  # a 4xx that is not about credentials or limits
    limited_as: str = ""  # calls of one name share a limit of the provider's
    urgent: bool = False  # may use what is kept back of a limit
    vital: bool = True  # its failures say that the provider is not well
    redirect: bool = False  # one redirect is followed, without the credential
    max_bytes: int = MAX_BYTES
    seconds: float = 30  # for the whole; of a stream, the longest silence

    @property
    def once(self) -> bool:
        """Whether a call that got no answer must not be sent again before somebody has looked."""
        return self.method == "POST" if self.repeatable is None else not self.repeatable


@dataclass(frozen=True)
class Options:
    allow_private_addresses: bool = False
    connect_seconds: float = 5
    write_seconds: float = 15
    pool_seconds: float = 10
    connections: int = 100
    user_agent: str = "headway"
    budget: Budget = field(default_factory=LocalBudget)
    breakers: Breakers = field(default_factory=Breakers)


class Http:
    """The connections of one provider. `base_url` is where its sessions go unless they say otherwise."""

    def __init__(self, provider: str, base_url: str = "", options: Options | None = None) -> None:
        self.provider = provider
        self.base_url = base_url
        self.options = options or Options()
        limits = httpx.Limits(max_connections=self.options.connections, max_keepalive_connections=20)
        # Not a client: that keeps cookies for all accounts, and fails on a redirect's address before anyone looks.
        self.transport = GuardedTransport(limits, allow_private_addresses=self.options.allow_private_addresses)

    async def close(self) -> None:
        await self.transport.aclose()

    def session(
        self,
        token: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        base_url: str | None = None,
        account: str | None = None,
        hide: Iterable[str] = (),
    ) -> "Session":
        """Calls with one credential: a bearer token, or `headers` where the provider wants another form.

        `account` names whose limits count, where tokens change; `hide` are values that no message may hold.
        """
        credential = {"Authorization": f"Bearer {token}"} if token else {}
        sent = {**credential, **(headers or {})}
        base = (base_url or self.base_url).rstrip("/")
        if askable(base) is None:
            raise DeploymentError(
                ErrorCode.INVALID_REQUEST, f"{self.provider} has no usable address: accepted is http(s)://host"
            )
        if not all(value.isascii() and value.isprintable() for value in sent.values()):
            raise DeploymentError(
                ErrorCode.INSUFFICIENT_PERMISSIONS,
                f"the credential of {self.provider} has characters that cannot be sent: accepted are printable ASCII",
            )
        account = account or fingerprint(base, *sorted(sent.values()))
        return Session(self, base, sent, account, Mask([token or "", *sent.values(), *hide]))


class Session:
    def __init__(self, http: Http, base_url: str, headers: Mapping[str, str], account: str, mask: Mask) -> None:
        self._http = http
        self._base_url = base_url
        self._headers = headers
        self._account = account
        self._mask = mask
        self._common_headers = {
            "User-Agent": http.options.user_agent,
            "Accept": "application/json",
            "Accept-Encoding": "gzip",
        }

    @property
    def trouble(self) -> Trouble | None:
        """Why this provider is left alone, where it is."""
        return self._breaker.trouble

    async def call(
        self,
        call: Call,
        *,
        params: Params | None = None,
        json: Any = None,
        content: Content | None = None,
        headers: Mapping[str, str] | None = None,
        **names: str,
    ) -> Answer:
        """The answer, where it is 2xx or handed back.

        Raises:
            DeploymentError: for all others; `Ambiguous` when what the call makes may have been made.
        """
        request = self._request(call, names, params, json=json, content=content, headers=headers)
        try:
            answer = await self._sent(call, request)
        except _Broken:
            answer = await self._sent(call, request, last=True)
        if call.redirect and answer.status in _REDIRECTS:
            answer = await self._sent(call, self._redirected(request, answer), last=True)
        return self._checked(call, answer)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        call: Call,
        *,
        params: Params | None = None,
        headers: Mapping[str, str] | None = None,
        max_line_bytes: int = 1024 * 1024,
        **names: str,
    ) -> AsyncIterator[LineReader]:
        """The lines of an answer as they come, keep-alives as empty ones; a longer line is cut and its rest skipped.

        Raises:
            DeploymentError: also while the lines are read; a connection that ends early ends the lines.
        """
        request = self._request(call, names, params, headers=headers)
        async with self._exchange(call, request) as response:
            failed = not response.is_success
            answer = self._answer(call, response, await received(response, call.max_bytes) if failed else b"")
            await self._learn(call, answer)
            self._checked(call, answer)
            async with contextlib.aclosing(lines_of(decoded(response), max_line_bytes)) as lines:
                yield lines

    @property
    def _breaker(self) -> Breaker:
        return self._http.options.breakers.of(self._http.provider, self._account)

    def _asked(self, call: Call) -> str:
        return f"{self._http.provider}, asked to {call.what},"

    def _request(
        self,
        call: Call,
        names: Mapping[str, str],
        params: Params | None,
        *,
        headers: Mapping[str, str] | None,
        json: Any = None,
        content: Content | None = None,
    ) -> httpx.Request:
        path = call.path.format_map({name: _segment(name, value) for name, value in names.items()})
        given = {name: value for name, value in (params or {}).items() if value is not None}
        options = self._http.options
        timeout = httpx.Timeout(
            connect=options.connect_seconds, read=call.seconds, write=options.write_seconds, pool=options.pool_seconds
        )
        return httpx.Request(
            call.method,
            self._base_url + path,
            params=given or None,
            json=json,
            content=content,
            headers={**self._common_headers, **self._headers, **(headers or {})},
            extensions={"timeout": timeout.as_dict()},
        )

    def _redirected(self, request: httpx.Request, answer: Answer) -> httpx.Request:
        """To another place, without anything of the session's."""
        try:
            target = askable(str(request.url.join(answer.headers.get("location", ""))))
        except httpx.InvalidURL:
            target = None
        if target is None or (request.url.scheme == "https" and not target.startswith("https:")):
            raise answer.unusable("a redirect to what is no link")
        return httpx.Request("GET", target, headers=self._common_headers, extensions=request.extensions)

    async def _sent(self, call: Call, request: httpx.Request, *, last: bool = False) -> Answer:
        """One exchange, whole. A repeatable one whose connection breaks raises `_Broken`, unless it is the `last`."""
        again = not last and not call.once and isinstance(request.stream, httpx.ByteStream)
        try:
            async with asyncio.timeout(call.seconds), self._exchange(call, request, again=again) as response:
                answer = self._answer(call, response, await received(response, call.max_bytes))
        except TimeoutError:
            why = f"nothing came within {call.seconds:g} s"
            self._failed(call, why)
            raise self._unanswered(call, why) from None
        await self._learn(call, answer)
        return answer

    @contextlib.asynccontextmanager
    async def _exchange(
        self, call: Call, request: httpx.Request, *, again: bool = False
    ) -> AsyncIterator[httpx.Response]:
        """An answer whose body has not been read."""
        await self._take(call)
        started = time.monotonic()
        response = None
        with self._breaker.attempt():
            try:
                response = await self._http.transport.handle_async_request(request)
                yield response
            except Unreadable as error:
                assert response is not None  # noqa: S101 - nothing else reads a body
                raise self._answer(call, response, b"").unusable(str(error)) from None
            except httpx.TransportError as error:
                if again and isinstance(error, _BREAKS):
                    raise _Broken from None
                why = _WHY.get(type(error), "the connection broke")
                if not isinstance(error, _OURS):
                    self._failed(call, why)
                raise self._unanswered(call, why, sent=not isinstance(error, _NOT_SENT)) from None
            finally:
                if response is not None:
                    await response.aclose()
                self._tell(call, response, time.monotonic() - started)

    async def _take(self, call: Call) -> None:
        wait = await self._http.options.budget.take(self._limit(call), urgent=call.urgent)
        if wait > 0:
            seconds = whole_seconds(bounded(wait))
            message = f"the limit of {self._http.provider} is used up: it counts anew in {seconds} s"
            raise CallFailed(ErrorCode.RATE_LIMITED, message, retry_after_seconds=seconds)

    async def _learn(self, call: Call, answer: Answer) -> None:
        """What an answer says about limits and about the provider's health."""
        limit, left, reset = limits_of(answer) or (0, 0, 0.0)
        if answer.status == 429:
            left, reset = 0, wait_seconds(answer) or 0
        if reset:
            await self._http.options.budget.note(self._limit(call), limit=limit, left=left, reset_seconds=reset)
        if answer.status >= 500:
            self._failed(call, f"it answered {answer.status}")
        else:
            self._breaker.succeeded()

    def _failed(self, call: Call, why: str) -> None:
        if call.vital:
            self._breaker.failed(why)

    def _limit(self, call: Call) -> str:
        return f"{self._http.provider} {self._account} {call.limited_as}"

    def _answer(self, call: Call, response: httpx.Response, body: bytes) -> Answer:
        return Answer(self._asked(call), response.status_code, response.headers, body, not call.once, self._mask)

    def _checked(self, call: Call, answer: Answer) -> Answer:
        if 200 <= answer.status < 300 or answer.status in call.handed_back:
            return answer
        raise failure_of(answer, call.refused_as)

    def _unanswered(self, call: Call, why: str, *, sent: bool = True) -> CallFailed:
        kind = Ambiguous if sent and call.once else CallFailed
        return kind(ErrorCode.PROVIDER_ERROR, f"{self._asked(call)} did not answer: {why}")

    def _tell(self, call: Call, response: httpx.Response | None, seconds: float) -> None:
        """Our own log. The path as the table has it: what is filled in, and queries, may be secret."""
        status = response.status_code if response else None
        headers = response.headers if response else {}
        told = _log.debug if status and status < 400 else _log.warning
        told(
            "provider call",
            provider=self._http.provider,
            account=self._account,
            method=call.method,
            path=call.path,
            status=status,
            milliseconds=round(seconds * 1000),
            request_id=next((plain(headers[name], 100) for name in REQUEST_IDS if name in headers), None),
        )


class _Broken(Exception):
    """The connection of a repeatable call broke."""


def fingerprint(*parts: str) -> str:
    """Names an account without telling its credential."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _segment(name: str, value: str) -> str:
    """A part of a path that cannot lead elsewhere."""
    if not value or any(part in {"", ".", ".."} for part in value.strip("/").split("/")):
        raise DeploymentError(
            ErrorCode.INVALID_REQUEST, f"the {name} {value[:80]!r} is refused: it is no part of a path"
        )
    return quote(value, safe="/" if name.endswith("path") else "")
