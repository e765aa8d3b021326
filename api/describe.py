"""How a route says what it answers: its success, and the codes that it may refuse with.

Rule: a route names codes; their statuses, their headers and the shape of a refusal are said once, here.
"""

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel

from api.limits import POLICY, QUOTA
from api.problems import MEDIA_TYPE, STATUS_OF
from domain.errors import ErrorCode

Code = ErrorCode | int
Document = dict[str, Any]

REFERENCE = "#/components/schemas/{model}"
_ALWAYS: tuple[Code, ...] = (ErrorCode.INTERNAL, ErrorCode.UNAVAILABLE)
GUARDED: tuple[Code, ...] = (ErrorCode.UNAUTHENTICATED, ErrorCode.INSUFFICIENT_PERMISSIONS)
BODY: tuple[Code, ...] = (400, 413, 415, ErrorCode.INVALID_REQUEST)
CREATING: tuple[Code, ...] = (*BODY, ErrorCode.IDEMPOTENCY_MISMATCH, ErrorCode.CONFLICT)
LISTED: tuple[Code, ...] = (ErrorCode.INVALID_REQUEST,)

_BY_CAUSE = {
    400: "the body is not JSON, or a header cannot be read",
    408: "the body did not come in time",
    413: "the body is too large",
    415: "the body's Content-Type is not application/json",
}
_TEXT: Document = {"type": "string"}
HEADERS: dict[str, Document] = {
    "ETag": {"description": "strong; for If-None-Match and If-Match", "schema": _TEXT, "required": True},
    "Location": {"description": "where what was made is found", "schema": _TEXT, "required": True},
    "Link": {"description": 'the next page, with rel="next"; absent on the last one', "schema": _TEXT},
    "Idempotency-Replayed": {"description": "`true` when this is the first answer again", "schema": _TEXT},
    "RateLimit-Policy": {"description": f"such as `{POLICY.format(limit=10)}`", "schema": _TEXT, "required": True},
    "RateLimit": {"description": f"such as `{QUOTA.format(remaining=7, reset=21)}`", "schema": _TEXT},
    "Retry-After": {"description": "seconds to wait", "schema": {"type": "integer", "minimum": 0}, "required": True},
    "WWW-Authenticate": {"description": "the scheme: Bearer", "schema": _TEXT, "required": True},
    "Content-Disposition": {"description": "a file's name, for a download", "schema": _TEXT},
}
_HEADERS_TAKEN: dict[Code, str] = {
    ErrorCode.IDEMPOTENCY_MISMATCH: "`Idempotency-Key` (1 to 255 printable characters, quoted or bare): the same key"
    " and body get the first answer again, for 24 h.",
    ErrorCode.PRECONDITION_FAILED: "`If-Match` with its entity tag: refused when somebody was faster.",
}
"""Told in words and not as parameters: a stale tag, or a key that was used before, is well-formed and still refused.
That is what they are for, but testers that go by parameters call each such refusal a contradiction."""

_HEADERS_OF_STATUS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


def described(
    status: int,
    answer: type[BaseModel] | Document | None,
    *codes: Code | Iterable[Code],
    headers: Iterable[str] = (),
    limited: bool = False,
    unmodified: bool = False,
    what: str = "",
    otherwise: tuple[int, type[BaseModel], str] | None = None,
) -> dict[str, Any]:
    """Arguments of a route's decorator: its answer (a model, or content by media type) and the codes it refuses with.

    `otherwise` is another answer that is no problem document.
    """
    everywhere = ("RateLimit-Policy", "RateLimit") if limited else ()
    responses: dict[int, Document] = {status: _answer(answer, (*headers, *everywhere), what)}
    if unmodified:
        responses[304] = {"description": "not modified since", "headers": {"ETag": HEADERS["ETag"]}}
    told = ["`If-None-Match` with its entity tag: 304 while it holds."] if unmodified else []
    for number, wanted in _by_status([*codes, *_ALWAYS]).items():
        responses[number] = _problem(number, wanted, everywhere)
        told += [_HEADERS_TAKEN[code] for code in wanted if code in _HEADERS_TAKEN]
    if otherwise is not None:
        number, model, why = otherwise
        responses[number] = _answer(model, _HEADERS_OF_STATUS.get(number, ()), why)
    return {"status_code": status, "response_model": None, "responses": responses, "description": " ".join(told)}


def takes(name: str, example: Document | None = None, *, required: bool = True) -> Document:
    """`openapi_extra` of a route with a body, by the body's name in `requests.NAMES`."""
    content: Document = {"schema": {"$ref": REFERENCE.format(model=name)}}
    if example is not None:
        content["example"] = example
    return {"requestBody": {"required": required, "content": {"application/json": content}}}


def _answer(answer: type[BaseModel] | Document | None, headers: Iterable[str], what: str) -> Document:
    response: Document = {"description": what or "done"}
    if isinstance(answer, dict):
        response["content"] = answer
    elif answer is not None:
        response["model"] = answer
    if described_headers := {name: HEADERS[name] for name in headers}:
        response["headers"] = described_headers
    return response


def _by_status(codes: Iterable[Code | Iterable[Code]]) -> dict[int, list[Code]]:
    grouped: dict[int, list[Code]] = {}
    for entry in codes:
        for code in [entry] if isinstance(entry, (ErrorCode, int)) else entry:
            status = STATUS_OF[code] if isinstance(code, ErrorCode) else code
            same = grouped.setdefault(status, [])
            if code not in same:
                same.append(code)
    return dict(sorted(grouped.items()))


def _problem(status: int, codes: list[Code], headers: Iterable[str]) -> Document:
    words = [
        f"`{code}`" if isinstance(code, ErrorCode) else f"`deployment/invalid-request`: {_BY_CAUSE[code]}"
        for code in codes
    ]
    named = {name: HEADERS[name] for name in (*_HEADERS_OF_STATUS.get(status, ()), *headers)}
    content = {MEDIA_TYPE: {"schema": {"$ref": REFERENCE.format(model="Problem")}}}
    return {"description": "; ".join(words), "content": content, **({"headers": named} if named else {})}
