"""What a hosted provider answered, read as hostile input: what it means, what it says, how long it wants us to wait.

Sources: RFC 9110 (Retry-After) and the providers' pages on errors and limits: {error:{code,message}} is Vercel's form,
{code,message} Netlify's, {message,errors[]} GitHub's; GitHub's limits answer 403, too.
"""

import functools
import json
import math
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from domain.errors import DeploymentError, ErrorCode
from domain.masking import Mask

Shape = TypeVar("Shape")

SHORTEST_WAIT = 1.0
LONGEST_WAIT = 900.0
"""Who asks for hours is asked again before: a call costs little, and the next answer says so again."""
_DEFAULT_WAIT = {403: 60.0, 429: 60.0}
"""Seconds, where a limit does not say how long. GitHub asks for a minute at least."""
_MILLISECONDS = 1e11
_EPOCH = 1e9
"""Resets above these are moments: in milliseconds, in seconds. Below, they are a number of seconds."""
MAX_TEXT = 300

CODES = {
    401: ErrorCode.INSUFFICIENT_PERMISSIONS,
    402: ErrorCode.INSUFFICIENT_PERMISSIONS,
    403: ErrorCode.INSUFFICIENT_PERMISSIONS,
    408: ErrorCode.PROVIDER_ERROR,
    425: ErrorCode.PROVIDER_ERROR,
    429: ErrorCode.RATE_LIMITED,
    503: ErrorCode.UNAVAILABLE,
}
"""Further 4xx are refusals of this call; further 5xx, and 3xx, are provider errors."""


class CallFailed(DeploymentError):
    """A call that did not get what it asked for. `status` and `word` are the provider's, where it answered."""

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        status: int | None = None,
        word: str | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        super().__init__(code, message, retry_after_seconds=retry_after_seconds)
        self.status = status
        self.word = word


class Ambiguous(CallFailed):
    """A call that must not be repeated blindly: it may have been done. Look before you send it again.

    Look twice, that long apart: lists of a provider lag behind.
    """

    LOOK_AGAIN_SECONDS = 10

    def __init__(self, code: ErrorCode, message: str, **known: Any) -> None:
        super().__init__(code, message, **known)
        self.retry_after_seconds = max(self.LOOK_AGAIN_SECONDS, self.retry_after_seconds or 0)


@dataclass(frozen=True)
class Answer:
    """`asked` is who was asked for what, for messages: "vercel, asked to create the deployment,"."""

    asked: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    repeatable: bool = True
    mask: Mask = field(default_factory=lambda: Mask(()), repr=False)

    def text(self, text: str, length: int = MAX_TEXT) -> str:
        """What the provider said, without secrets: for a message of ours."""
        return plain(self.mask.text(text), length)

    def read(self, shape: type[Shape]) -> Shape:
        """The body, as a pydantic model or a list of them.

        Raises:
            DeploymentError: provider-error, naming the field that does not fit.
        """
        try:
            read: Shape = _adapter(shape).validate_json(self.body)  # type: ignore[arg-type] # a type is hashable
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"])[:100] or "the whole"
            raise self.unusable(f"{where}: {plain(first['msg'])}") from None
        return read

    def unusable(self, why: str) -> CallFailed:
        """The error for an answer that cannot be worked with."""
        kind = CallFailed if self.repeatable else Ambiguous
        message = f"{self.asked} answered {self.status} with something else than expected ({why})"
        return kind(ErrorCode.PROVIDER_ERROR, message, status=self.status)


@functools.cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    return TypeAdapter(shape)


def failure_of(answer: Answer, refused_as: ErrorCode) -> CallFailed:
    """The error that an answer outside of 2xx tells of."""
    word, text = said(answer)
    limited = answer.status == 429 or _is_limit(answer, text)
    code = ErrorCode.RATE_LIMITED if limited else _code(answer.status, refused_as)
    wait = wait_seconds(answer) if limited or answer.status >= 500 else None
    kind = Ambiguous if answer.status >= 500 and not answer.repeatable else CallFailed
    saying = " ".join(part for part in (word, text) if part)
    message = f"{answer.asked} answered {answer.status}" + (f": {saying}" if saying else "")
    seconds = None if wait is None else whole_seconds(wait)
    return kind(code, message, status=answer.status, word=word, retry_after_seconds=seconds)


def said(answer: Answer) -> tuple[str | None, str]:
    """The provider's word for the error, and its text; for pages of HTML nothing."""
    try:
        body = json.loads(answer.body)
    except (ValueError, RecursionError):
        return None, ""
    body = body if isinstance(body, dict) else {}
    error = body["error"] if isinstance(body.get("error"), dict) else body
    word, text = error.get("code"), error.get("message") or body.get("error")
    details = [entry.get("message") or entry.get("code") for entry in _dicts(body.get("errors"))]
    texts = [answer.text(part) for part in (text, *details) if isinstance(part, str)]
    return answer.text(word, 80) if isinstance(word, str) else None, "; ".join(texts)[:MAX_TEXT]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [entry for entry in value[:5] if isinstance(entry, dict)] if isinstance(value, list) else []


def _code(status: int, refused_as: ErrorCode) -> ErrorCode:
    return CODES.get(status, refused_as if 400 <= status < 500 else ErrorCode.PROVIDER_ERROR)


def _is_limit(answer: Answer, text: str) -> bool:
    """GitHub says 403 for limits, too: only with evidence."""
    if answer.status != 403:
        return False
    headers = answer.headers
    return "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0" or "rate limit" in text.lower()


def wait_seconds(answer: Answer) -> float | None:
    """How long the provider asks us to wait, between our own bounds; with jitter."""
    asked_for = _retry_after(answer.headers.get("retry-after", ""))
    # GitHub says when its hourly limit counts anew in every answer: that counts once nothing of it is left.
    if asked_for is None and answer.headers.get("x-ratelimit-remaining", "0") == "0":
        asked_for = _until_reset(answer.headers.get("x-ratelimit-reset", ""))
    if asked_for is None:
        asked_for = _body_reset(answer)
    if asked_for is None:
        asked_for = _DEFAULT_WAIT.get(answer.status)
    return None if asked_for is None else bounded(asked_for)


def bounded(seconds: float) -> float:
    """Between our own bounds, with up to a tenth more, so that those who wait do not come back at once."""
    return _clamped(seconds) * (1 + random.uniform(0, 0.1))  # noqa: S311 - no secret


def _clamped(seconds: float) -> float:
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, seconds))


def whole_seconds(seconds: float) -> int:
    return min(int(LONGEST_WAIT), math.ceil(seconds))


def limits_of(answer: Answer) -> tuple[int, int, float] | None:
    """What X-RateLimit-… says: the limit, what is left of it, in how many seconds it starts anew."""
    names = ("x-ratelimit-limit", "x-ratelimit-remaining")
    values = [answer.headers.get(name, "") for name in names]
    reset = _until_reset(answer.headers.get("x-ratelimit-reset", ""))
    if reset is None or not all(value.isascii() and value.isdecimal() and len(value) < 10 for value in values):
        return None
    return int(values[0]), int(values[1]), _clamped(reset)


def _retry_after(value: str) -> float | None:
    seconds = _number(value)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(value)
        return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None


def _until_reset(value: Any) -> float | None:
    """Seconds until a reset that is told in epoch seconds, in milliseconds (Vercel's `resetMs`), or in seconds."""
    number = _number(value)
    if number is None:
        return None
    moment = number / 1000 if number > _MILLISECONDS else number
    return moment - time.time() if moment > _EPOCH else number


def _body_reset(answer: Answer) -> float | None:
    try:
        error = json.loads(answer.body)["error"]["limit"]
        return _until_reset(error.get("reset") or error.get("resetMs"))
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _number(value: Any) -> float | None:
    try:
        number = float(value)
    except (ValueError, TypeError):
        return None
    return number if math.isfinite(number) else None


def plain(text: str, length: int = MAX_TEXT) -> str:
    """Text of a provider for a message of ours: printable, on one line, cut."""
    shown = "".join(character if character.isprintable() else " " for character in text[: length * 2])
    return " ".join(shown.split())[:length]


def link(url: object) -> str | None:
    """`url` where it is a link that people may be shown: http or https, with a host, without credentials."""
    if not isinstance(url, str) or len(url) > 2048 or not url.isprintable() or any(c in url for c in ' "<>\\'):
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError when it is not a number
    except ValueError:
        return None
    return url if parts.scheme in {"http", "https"} and parts.hostname and "@" not in parts.netloc else None


def askable(url: object) -> str | None:
    """`url` where it is a link that a request can be made of. Not each is: browsers read host names that IDNA refuses,
    and text that begins with `xn--` may be no name at all."""
    found = link(url)
    try:
        _ = found and httpx.URL(found).host  # read as each request reads it
    except (httpx.InvalidURL, UnicodeError):
        return None
    return found
