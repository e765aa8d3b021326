"""Request bodies: JSON, strictly as described, each bad field named by a JSON pointer.

Rules: nothing is coerced (`"5"` is no number). What PostgreSQL's text cannot hold (NUL) is refused here, for every
string of every body.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from email.message import Message
from typing import Any, Generic, TypeVar

import orjson
from fastapi import Request
from pydantic import ValidationError

from api.problems import Refused, escaped, summary
from domain.errors import DeploymentError, ErrorCode
from domain.wire import Request as RequestModel

Model = TypeVar("Model", bound=RequestModel)
Model_co = TypeVar("Model_co", bound=RequestModel, covariant=True)

_EXACT = 2**53
_MAX_DEPTH = 64
"""Less than any writer or reader of JSON on the way to the database gives up at."""

_MAX_FIELDS = 50
"""How many bad fields are named; a hostile body would otherwise get an answer larger than itself."""


@dataclass(frozen=True)
class Received(Generic[Model_co]):
    """`document` is the JSON that was sent, before it was read as `model`."""

    model: Model_co
    document: Any


def body_of(model: type[Model], *, optional: bool = False) -> Callable[[Request], Awaitable[Received[Model]]]:
    """The dependency that reads a body as `model`. An `optional` one may be left out, which is like `{}`."""

    async def read(request: Request) -> Received[Model]:
        text = await request.body()
        if optional and not text:
            text = b"{}"
        else:
            check_type(request)
        document = _plain(parsed(text), "")
        return Received(_validated(model, orjson.dumps(document)), document)

    return read


def check_type(request: Request) -> None:
    header = Message()
    header["Content-Type"] = request.headers.get("content-type", "")
    subtype = header.get_content_subtype()
    if header.get_content_maintype() != "application" or not (subtype == "json" or subtype.endswith("+json")):
        raise Refused(415, "the body's Content-Type is not accepted; accepted: application/json")


def parsed(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is not JSON (RFC 8259): {error}") from None


def _plain(value: Any, pointer: str) -> Any:
    """The document with `1.0` as `1`, as RFC 8785 has it. Refuses a NUL, and what is nested too deeply."""
    if pointer.count("/") > _MAX_DEPTH:
        raise _wrong([(pointer, f"is nested too deeply; accepted: {_MAX_DEPTH} levels")])
    match value:
        case str() if "\x00" in value:
            raise _wrong([(pointer, "holds the character NUL, which is not accepted in text")])
        case dict():
            inside = {name: f"{pointer}/{escaped(name)}" for name in value}
            return {_plain(name, where): _plain(value[name], where) for name, where in inside.items()}
        case list():
            return [_plain(item, f"{pointer}/{index}") for index, item in enumerate(value)]
        case float() if value.is_integer() and abs(value) < _EXACT:
            return int(value)
        case _:
            return value


def _validated(model: type[Model], text: bytes) -> Model:
    try:
        return model.model_validate_json(text, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise _wrong([(_pointer(entry["loc"]), entry["msg"]) for entry in found[:_MAX_FIELDS]]) from None


def _pointer(location: tuple[int | str, ...]) -> str:
    # pydantic marks a member whose name is wrong by a last part of its own.
    return "".join(f"/{escaped(part)}" for part in location if part != "[key]")


def _wrong(fields: list[tuple[str, str]]) -> DeploymentError:
    return DeploymentError(ErrorCode.INVALID_REQUEST, summary(fields), fields=fields)
