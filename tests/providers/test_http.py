"""The border keeps its promises against a real server that misbehaves in every way."""

import asyncio
import contextlib
import gzip
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
import structlog
from pydantic import BaseModel

from domain.errors import DeploymentError, ErrorCode
from providers.answers import LONGEST_WAIT
from providers.breaker import THRESHOLD
from providers.http import Ambiguous, Call, CallFailed, Http, Options, Session, link
from tests.providers.hostile_hosts import NO_HOSTS, NOWHERE

TOKEN = "token-of-the-account"
READ = Call("read the thing", "GET", "/things/{id}", handed_back={404})
MAKE = Call("make a thing", "POST", "/things", seconds=2)
STREAM = Call("read the lines", "GET", "/lines", seconds=0.5)


class Thing(BaseModel):
    name: str
    size: int = 0


@dataclass
class Asked:
    line: str
    headers: dict[str, str]
    body: bytes


Behave = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Answers with the next of its behaviours, the last one again and again; a connection serves one request."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.behaviours: list[Behave] = []
        self.url = ""

    def will(self, *behaviours: Behave) -> None:
        self.behaviours = list(behaviours)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Server"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        try:
            yield self
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            line, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().strip().split("\r\n")
            headers = {name.lower(): value for name, _, value in (field.partition(": ") for field in fields)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.asked.append(Asked(line, headers, body))
            behave = self.behaviours.pop(0) if len(self.behaviours) > 1 else self.behaviours[0]
            await behave(self.asked[-1], writer)
            await writer.drain()
        writer.close()


def answer(status: int = 200, body: bytes | object = b"{}", **headers: str) -> Behave:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    async def send(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {status} So\r\nContent-Length: {len(content)}\r\n{fields}\r\n".encode() + content)

    return send


async def reset(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


async def silence(_: Asked, writer: asyncio.StreamWriter) -> None:
    while not writer.transport.is_closing():
        await asyncio.sleep(0.01)
        writer.write(b"")


async def drip(_: Asked, writer: asyncio.StreamWriter) -> None:
    """Never silent, never done."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not writer.transport.is_closing():
        writer.write(b" ")
        await asyncio.sleep(0.01)


async def huge(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
    for _part in range(1600):
        writer.write(b" " * 65536)
        await writer.drain()


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server().running() as server:
        yield server


@pytest.fixture
async def http(server: Server) -> AsyncIterator[Http]:
    http = Http("acme", server.url, Options(allow_private_addresses=True))
    yield http
    await http.close()


@pytest.fixture
def session(http: Http) -> Session:
    return http.session(TOKEN)


async def failure(calling: Awaitable[object]) -> CallFailed:
    with pytest.raises(CallFailed) as failed:
        await calling
    assert TOKEN not in str(failed.value)
    return failed.value


async def read_into(told: list[bytes], session: Session, **options: Any) -> None:
    async with session.stream(STREAM, **options) as lines:
        async for line in lines:
            told.append(line)  # noqa: PERF401 - those before an error count


async def test_a_call_fills_in_its_path_and_sends_its_credential(server: Server, session: Session) -> None:
    server.will(answer(body={"name": "a", "more": True}))

    read = await session.call(READ, id="x/y z", params={"team": "t", "none": None, "flag": True})

    assert read.read(Thing) == Thing(name="a")
    assert server.asked[0].line == "GET /things/x%2Fy%20z?team=t&flag=true HTTP/1.1"
    assert server.asked[0].headers["authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("name", ["", ".", "..", "../other", "a//b"])
async def test_a_path_leads_nowhere_else(server: Server, session: Session, name: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        await session.call(Call("read the file", "GET", "/files/{file_path}"), file_path=name)

    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert server.asked == []


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, ErrorCode.INVALID_REQUEST),
        (401, ErrorCode.INSUFFICIENT_PERMISSIONS),
        (402, ErrorCode.INSUFFICIENT_PERMISSIONS),
        (403, ErrorCode.INSUFFICIENT_PERMISSIONS),
        (409, ErrorCode.INVALID_REQUEST),
        (422, ErrorCode.INVALID_REQUEST),
        (408, ErrorCode.PROVIDER_ERROR),
        (429, ErrorCode.RATE_LIMITED),
        (500, ErrorCode.PROVIDER_ERROR),
        (502, ErrorCode.PROVIDER_ERROR),
        (503, ErrorCode.UNAVAILABLE),
        (302, ErrorCode.PROVIDER_ERROR),
        (304, ErrorCode.PROVIDER_ERROR),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>no JSON</html>", b"[" * 100_000, b"\xff\x00"])
async def test_each_status_has_its_code_whatever_the_body_is(
    server: Server, session: Session, status: int, code: ErrorCode, body: bytes
) -> None:
    server.will(answer(status, body))

    failed = await failure(session.call(READ, id="a"))

    assert failed.code == code
    assert failed.status == status
    assert "asked to read the thing" in failed.message


async def test_what_is_handed_back_is_no_error_and_a_refusal_may_have_its_own_code(
    server: Server, session: Session
) -> None:
    server.will(answer(404))
    assert (await session.call(READ, id="a")).status == 404

    publish = Call("publish", "POST", "/publish", refused_as=ErrorCode.DEPLOY_FAILED)
    assert (await failure(session.call(publish))).code == ErrorCode.DEPLOY_FAILED


@pytest.mark.parametrize(
    ("body", "word", "text"),
    [
        ({"error": {"code": "missing_files", "message": "upload them"}}, "missing_files", "missing_files upload them"),
        ({"code": 422, "message": "no such site"}, None, "no such site"),
        ({"message": "Invalid", "errors": [{"code": "missing", "field": "ref"}]}, None, "Invalid; missing"),
        ({"error": "plain"}, None, "plain"),
        ({"error": {"code": 7, "message": ["?"]}, "errors": {"a": 1}}, None, "422"),
        ([1], None, "422"),
    ],
)
async def test_each_provider_form_of_an_error_is_read(
    server: Server, session: Session, body: object, word: str | None, text: str
) -> None:
    server.will(answer(422, body))

    failed = await failure(session.call(READ, id="a"))

    assert failed.word == word
    assert failed.message.endswith(text)


async def test_secrets_and_controls_of_an_answer_reach_no_message(server: Server, http: Http) -> None:
    text = f"bad\x1b[31m value\n for {TOKEN}: my-database-password " + "long " * 200
    server.will(answer(400, {"error": {"code": "my-database-password", "message": text}}))

    failed = await failure(http.session(TOKEN, hide=["my-database-password"]).call(READ, id="a"))

    assert "my-database-password" not in failed.message + (failed.word or "")
    assert failed.message.isprintable()
    assert len(failed.message) < 500


@pytest.mark.parametrize("behave", [silence, drip, reset, answer(500), answer(503), answer(200, b"no JSON")])
async def test_who_makes_something_and_gets_no_answer_knows_that_it_may_be_made(
    server: Server, session: Session, behave: Behave
) -> None:
    server.will(behave)
    quick = Call("make a thing", "POST", "/things", seconds=0.3)

    async def make() -> Thing:
        return (await session.call(quick, json={})).read(Thing)

    failed = await failure(make())

    assert isinstance(failed, Ambiguous)
    assert failed.retryable
    assert (failed.retry_after_seconds or 0) >= 10
    assert len(server.asked) == 1


@pytest.mark.parametrize("behave", [answer(400), answer(401), answer(429), answer(422)])
async def test_a_refusal_is_not_ambiguous(server: Server, session: Session, behave: Behave) -> None:
    server.will(behave)

    assert not isinstance(await failure(session.call(MAKE, json={})), Ambiguous)


async def test_what_was_never_sent_is_not_ambiguous(http: Http) -> None:
    session = http.session(TOKEN, base_url="http://127.0.0.1:1")

    failed = await failure(session.call(MAKE, json={}))

    assert not isinstance(failed, Ambiguous)
    assert failed.code == ErrorCode.PROVIDER_ERROR


async def test_a_read_over_a_broken_connection_is_sent_once_more_and_no_more(server: Server, session: Session) -> None:
    server.will(reset, answer(body={"name": "a"}))
    assert (await session.call(READ, id="a")).read(Thing).name == "a"

    server.will(reset)
    assert (await failure(session.call(READ, id="a"))).retryable
    assert len(server.asked) == 4


async def test_a_slow_answer_is_given_up_in_time(server: Server, session: Session) -> None:
    server.will(drip)
    slow = Call("read the thing", "GET", "/slow", seconds=0.2)

    failed = await failure(session.call(slow))

    assert failed.code == ErrorCode.PROVIDER_ERROR
    assert "0.2 s" in failed.message


async def test_an_answer_without_end_is_not_read_to_it(server: Server, session: Session) -> None:
    server.will(huge)

    failed = await failure(session.call(READ, id="a"))

    assert "more than 10485760 bytes" in failed.message
    assert not isinstance(failed, Ambiguous)


async def test_a_packed_answer_is_read_and_one_that_explodes_is_not(server: Server, session: Session) -> None:
    server.will(
        answer(body=gzip.compress(b'{"name": "a"}'), Content_Encoding="gzip"),
        answer(body=gzip.compress(bytes(100_000_000)), Content_Encoding="gzip"),
        answer(body=b"nothing packed", Content_Encoding="gzip"),
        answer(body=b"?", Content_Encoding="br"),
    )

    assert (await session.call(READ, id="a")).read(Thing).name == "a"
    assert "more than" in (await failure(session.call(READ, id="a"))).message
    assert "unpacked" in (await failure(session.call(READ, id="a"))).message
    assert "not asked for" in (await failure(session.call(READ, id="a"))).message


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"size": 1}', b'{"name": 7}', b"[]", b'{"name": "\\ud800"}'])
async def test_an_answer_that_does_not_fit_names_the_call_and_the_field(
    server: Server, session: Session, body: bytes
) -> None:
    server.will(answer(200, body))

    async def read() -> Thing:
        return (await session.call(READ, id="a")).read(Thing)

    failed = await failure(read())

    assert failed.code == ErrorCode.PROVIDER_ERROR
    assert "asked to read the thing" in failed.message
    assert "name" in failed.message or "the whole" in failed.message


def in_seconds(seconds: float) -> str:
    return str(int(time.time() + seconds))


def moment(value: str | int | timedelta) -> str:
    """Numbers are seconds from now as an epoch, a timedelta is an HTTP date: read when the test runs."""
    if isinstance(value, timedelta):
        return format_datetime(datetime.now(UTC) + value)
    return in_seconds(value) if isinstance(value, int) else value


@pytest.mark.parametrize(
    ("status", "headers", "body", "bounds"),
    [
        (429, {"Retry_After": "7"}, {}, (7, 8)),
        (503, {"Retry_After": timedelta(seconds=30)}, {}, (20, 34)),
        (429, {"Retry_After": "-70"}, {}, (1, 2)),
        (429, {"Retry_After": "86400"}, {}, (LONGEST_WAIT, LONGEST_WAIT)),
        (429, {"Retry_After": "soon"}, {}, (60, 67)),
        (429, {"Retry_After": "nan"}, {}, (60, 67)),
        (429, {"X_RateLimit_Reset": 40, "X_RateLimit_Remaining": "0"}, {}, (25, 45)),
        (429, {"X_RateLimit_Reset": "40"}, {}, (40, 45)),
        (429, {}, {"error": {"limit": {"reset": -3}}}, (1, 2)),
        (403, {"Retry_After": "9"}, {}, (9, 10)),
        (403, {"X_RateLimit_Remaining": "0", "X_RateLimit_Reset": 20}, {}, (10, 23)),
        (403, {}, {"message": "You have exceeded a secondary rate limit"}, (60, 67)),
    ],
)
async def test_how_long_to_wait_is_read_in_every_form_and_bounded(
    server: Server, status: int, headers: Any, body: object, bounds: tuple[int, int]
) -> None:
    server.will(answer(status, body, **{name: moment(value) for name, value in headers.items()}))
    http = Http("acme", server.url, Options(allow_private_addresses=True))

    failed = await failure(http.session(TOKEN).call(READ, id="a"))
    await http.close()

    assert failed.code == (ErrorCode.UNAVAILABLE if status == 503 else ErrorCode.RATE_LIMITED)
    assert failed.retry_after_seconds is not None
    assert bounds[0] <= failed.retry_after_seconds <= bounds[1]


async def test_a_limit_may_be_told_in_the_body_in_milliseconds(server: Server, session: Session) -> None:
    limit = {"reset": None, "resetMs": (time.time() + 50) * 1000}
    server.will(answer(429, {"error": {"code": "rate_limited", "limit": limit}}))

    assert 30 <= ((await failure(session.call(READ, id="a"))).retry_after_seconds or 0) <= 56


async def test_we_stop_before_the_wall_and_an_urgent_call_still_passes(server: Server, session: Session) -> None:
    headers: dict[str, Any] = {
        "X_RateLimit_Limit": "500",
        "X_RateLimit_Remaining": "11",
        "X_RateLimit_Reset": in_seconds(600),
    }
    server.will(answer(**headers), answer())
    await session.call(READ, id="a")
    await session.call(READ, id="a")

    failed = await failure(session.call(READ, id="a"))
    await session.call(Call("cancel", "POST", "/cancel", urgent=True))

    assert failed.code == ErrorCode.RATE_LIMITED
    assert 500 < (failed.retry_after_seconds or 0) < 700
    assert len(server.asked) == 3


async def test_a_limit_holds_for_its_account_and_its_calls_alone(server: Server, http: Http, session: Session) -> None:
    server.will(answer(429, Retry_After="60"), answer())
    await failure(session.call(Call("make a thing", "POST", "/things", limited_as="makes")))

    await session.call(READ, id="a")
    await http.session("another-account").call(Call("make a thing", "POST", "/things", limited_as="makes"))

    assert len(server.asked) == 3


async def test_a_provider_that_fails_again_and_again_is_left_alone(server: Server, session: Session) -> None:
    server.will(answer(500))
    for _ in range(THRESHOLD):
        await failure(session.call(READ, id="a"))

    with pytest.raises(DeploymentError) as refused:
        await session.call(READ, id="a")

    assert refused.value.code == ErrorCode.UNAVAILABLE
    assert refused.value.retry_after_seconds
    assert "it answered 500" in refused.value.message
    assert session.trouble is not None
    assert len(server.asked) == THRESHOLD


async def test_refusals_and_calls_that_are_not_vital_leave_the_breaker_alone(server: Server, session: Session) -> None:
    optional = Call("read the log", "GET", "/log", vital=False)
    server.will(*[answer(404)] * 10, answer(500))

    for _ in range(10):
        await session.call(READ, id="a")
    for _ in range(10):
        await failure(session.call(optional))

    assert session.trouble is None


async def test_a_redirect_is_followed_once_without_the_credential(server: Server, session: Session) -> None:
    logs = Call("read the log", "GET", "/log", redirect=True)
    target = server.url.replace("127.0.0.1", "localhost") + "/signed?key=1"
    server.will(answer(302, Location=target), answer(body=b"the log"))

    assert (await session.call(logs)).body == b"the log"
    assert "authorization" not in server.asked[1].headers
    assert server.asked[1].line.startswith("GET /signed?key=1 ")

    server.will(answer(302, Location=target))
    assert (await failure(session.call(logs))).status == 302
    assert len(server.asked) == 4


OTHER_SCHEMES = ["javascript:alert(1)", "file:///etc/passwd", "http://user:word@example.org"]


@pytest.mark.parametrize("host", NO_HOSTS)
def test_an_address_whose_host_is_none_is_refused(host: str) -> None:
    with pytest.raises(DeploymentError, match="no usable address") as refused:
        Http("acme").session(TOKEN, base_url=f"https://{host}/v1")
    assert refused.value.code == ErrorCode.INVALID_REQUEST


@pytest.mark.parametrize("host", NOWHERE)
async def test_a_host_that_leads_nowhere_is_a_provider_that_is_away(host: str) -> None:
    http = Http("acme", f"http://{host}")
    assert (await failure(http.session(TOKEN).call(READ, id="1"))).code == ErrorCode.PROVIDER_ERROR
    await http.close()


@pytest.mark.parametrize("target", [*OTHER_SCHEMES, *(f"http://{host}/" for host in NO_HOSTS if host.isprintable())])
async def test_a_redirect_to_what_is_no_link_is_refused(server: Server, session: Session, target: str) -> None:
    server.will(answer(302, Location=target))

    await failure(session.call(Call("read the log", "GET", "/log", redirect=True)))

    assert len(server.asked) == 1


async def test_private_addresses_are_refused_unless_allowed_also_after_a_redirect(server: Server) -> None:
    http = Http("acme", server.url)

    with pytest.raises(DeploymentError) as refused:
        await http.session(TOKEN).call(READ, id="a")

    assert refused.value.code == ErrorCode.INVALID_REQUEST
    assert "127.0.0.1" in refused.value.message
    assert server.asked == []
    await http.close()


@pytest.mark.parametrize("token", ["with\nnewline", "with-ümlaut", "a\x00b"])
def test_a_credential_that_cannot_be_sent_is_refused_without_showing_it(http: Http, token: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        http.session(token)

    assert refused.value.code == ErrorCode.INSUFFICIENT_PERMISSIONS
    assert token not in refused.value.message


@pytest.mark.parametrize("base", ["", "ftp://example.org", "http://", "http://user:password@example.org"])
def test_an_address_that_is_none_is_refused(http: Http, base: str) -> None:
    with pytest.raises(DeploymentError):
        Http("acme").session(TOKEN, base_url=base)


async def test_lines_come_as_they_are_written(server: Server, session: Session) -> None:
    read = asyncio.Event()

    async def in_parts(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/stream+json\r\n\r\n{"a": 1}\n\n{"b"')
        await read.wait()
        writer.write(b": 2}\r\nlast")

    server.will(in_parts)
    told = []
    async with session.stream(STREAM) as lines:
        async for line in lines:
            told.append(line)
            if len(told) == 2:
                read.set()

    assert told == [b'{"a": 1}', b"", b'{"b": 2}', b"last"]


async def test_a_line_without_end_is_cut_and_the_next_one_is_whole(server: Server, session: Session) -> None:
    server.will(answer(body=b"x" * 1_000_000 + b"\nnext\n" + b"y" * 5000))

    told: list[bytes] = []
    await read_into(told, session, max_line_bytes=1000)

    assert told == [b"x" * 1000, b"next", b"y" * 1000]


@pytest.mark.parametrize("behave", [reset, silence, answer(500), answer(404)])
async def test_a_stream_that_does_not_come_is_an_error(server: Server, session: Session, behave: Behave) -> None:
    server.will(behave)

    await failure(read_into([], session))


async def test_a_stream_that_breaks_or_falls_silent_is_an_error_after_its_lines(
    server: Server, session: Session
) -> None:
    async def half(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfirst\nsec")

    server.will(half)
    told: list[bytes] = []

    await failure(read_into(told, session))

    assert told == [b"first"]


async def test_our_log_names_the_call_and_holds_no_credential_and_no_query(server: Server, http: Http) -> None:
    server.will(answer(500, X_Vercel_Id="cdg1::abc"))

    with structlog.testing.capture_logs() as told:
        await failure(http.session(TOKEN).call(READ, id="name-of-it", params={"key": "secret-in-query"}))

    assert told[0]["request_id"] == "cdg1::abc"
    assert (told[0]["method"], told[0]["path"], told[0]["status"]) == ("GET", "/things/{id}", 500)
    assert TOKEN not in str(told)
    assert "secret-in-query" not in str(told)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "data:text/html,x",
        "//example.org",
        "example.org",
        "http://",
        "https://a@b.org",
        "https://javascript:alert(1)",
        "https://a.org/\n",
        'https://a.org/">',
        "https://" + "a" * 3000,
        "http://[::1",
        None,
        7,
    ],
)
def test_only_links_are_links(url: object) -> None:
    assert link(url) is None
    assert link("https://example.org/a?b=c") == "https://example.org/a?b=c"
