"""Every refusal and failure as `application/problem+json` (RFC 9457).

Rule: this is the one border between errors and HTTP. Routes raise; here it is decided what a caller sees, and nothing
that was not meant for a caller leaves.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from api.trace import trace_id
from domain.errors import RETRYABLE, DeploymentError, ErrorCode
from domain.wire import Wire

MEDIA_TYPE = "application/problem+json"

STATUS_OF: dict[ErrorCode, int] = {
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.ENVIRONMENT_NOT_FOUND: 404,
    ErrorCode.PROJECT_NOT_FOUND: 404,
    ErrorCode.ALREADY_RUNNING: 409,
    ErrorCode.CONFLICT: 409,
    ErrorCode.INVALID_SOURCE_REF: 422,
    ErrorCode.INVALID_REQUEST: 422,  # 400, 405, 413 and 415 by cause: `Refused`
    ErrorCode.IDEMPOTENCY_MISMATCH: 422,
    ErrorCode.PRECONDITION_FAILED: 412,
    ErrorCode.UNAUTHENTICATED: 401,
    ErrorCode.INSUFFICIENT_PERMISSIONS: 403,
    ErrorCode.RATE_LIMITED: 429,
    ErrorCode.PROVIDER_ERROR: 502,
    ErrorCode.UNAVAILABLE: 503,
    ErrorCode.INTERNAL: 500,
}

ENDINGS = frozenset(
    {
        ErrorCode.BUILD_FAILED,
        ErrorCode.DEPLOY_FAILED,
        ErrorCode.TIMEOUT,
        ErrorCode.CANCELED,
        ErrorCode.TERMINATED,
    }
)
"""Codes that only a deployment's `error` has: they are never an answer."""

_CODE_OF_STATUS = {
    401: ErrorCode.UNAUTHENTICATED,
    403: ErrorCode.INSUFFICIENT_PERMISSIONS,
    404: ErrorCode.NOT_FOUND,
    503: ErrorCode.UNAVAILABLE,
}
_UNAVAILABLE_SECONDS = 2

_log = structlog.get_logger()


class FieldProblem(Wire):
    pointer: str = Field(description="JSON pointer into the body, or /query/NAME or /header/NAME")
    detail: str


class Problem(Wire):
    """RFC 9457, with our code, whether trying again may help, one entry per bad field, and the id in our log."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: ErrorCode
    retryable: bool
    errors: list[FieldProblem]
    trace_id: str


class Refused(DeploymentError):
    """An invalid request whose status is not 422: the body's size, type or syntax, a header."""

    def __init__(self, status: int, message: str, fields: list[tuple[str, str]] | None = None) -> None:
        super().__init__(ErrorCode.INVALID_REQUEST, message, fields=fields)
        self.status = status


def problem(
    request: Request,
    code: ErrorCode,
    detail: str,
    *,
    status: int | None = None,
    fields: Sequence[tuple[str, str]] = (),
    headers: Mapping[str, str] | None = None,
    details: Mapping[str, Any] | None = None,
) -> Response:
    document = Problem(
        type="urn:problem:" + code.replace("/", ":"),
        title=code.partition("/")[2].replace("-", " ").capitalize(),
        status=status or STATUS_OF[code],
        detail=detail,
        instance=request.url.path,
        code=code,
        retryable=code in RETRYABLE,
        errors=[FieldProblem(pointer=pointer, detail=wrong) for pointer, wrong in fields],
        trace_id=trace_id(request.scope),
    )
    members = {**(details or {}), **document.model_dump(mode="json", by_alias=True)}
    return Response(
        orjson.dumps(members), document.status, {"Cache-Control": "no-store", **(headers or {})}, media_type=MEDIA_TYPE
    )


def install(app: FastAPI) -> None:
    app.add_exception_handler(DeploymentError, of_deployment_error)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(HTTPException, _of_http_exception)


def of_unexpected(request: Request, error: Exception) -> Response:
    """A bug of ours: the caller gets an id, the log gets everything."""
    _log.error("unexpected error", path=request.url.path, trace_id=trace_id(request.scope), exc_info=error)
    return problem(request, ErrorCode.INTERNAL, "something went wrong here; the log has it under this traceId")


async def of_deployment_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, DeploymentError) or error.code in ENDINGS:
        return of_unexpected(request, error)
    if error.code is ErrorCode.INTERNAL:
        _log.error("cannot be answered", path=request.url.path, trace_id=trace_id(request.scope), reason=error.message)
    details = dict(error.details)
    if error.code is ErrorCode.RATE_LIMITED:
        details["violated-policies"] = ["trigger"]
    return problem(
        request,
        error.code,
        error.message,
        status=error.status if isinstance(error, Refused) else None,
        fields=error.fields,
        headers=_headers_of(error),
        details=details,
    )


def _headers_of(error: DeploymentError) -> dict[str, str]:
    if error.code is ErrorCode.UNAUTHENTICATED:
        return {"WWW-Authenticate": 'Bearer realm="headway"'}
    if error.code is ErrorCode.UNAVAILABLE or error.retry_after_seconds is not None:
        return {"Retry-After": str(error.retry_after_seconds or _UNAVAILABLE_SECONDS)}
    return {}


async def _of_validation(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    fields = [("/" + "/".join(escaped(part) for part in entry["loc"]), entry["msg"]) for entry in found]
    return problem(request, ErrorCode.INVALID_REQUEST, summary(fields), fields=fields)


def summary(fields: Sequence[tuple[str, str]]) -> str:
    shown = "; ".join(f"{pointer}: {wrong}" for pointer, wrong in fields[:3])
    return shown + (f"; and {len(fields) - 3} more" if len(fields) > 3 else "")


def escaped(part: object) -> str:
    """A member's name inside a JSON pointer (RFC 6901)."""
    return str(part).replace("~", "~0").replace("/", "~1")


async def _of_http_exception(request: Request, error: Exception) -> Response:
    """The framework's own refusals: no such route, no such method."""
    if not isinstance(error, HTTPException):
        return of_unexpected(request, error)
    status = error.status_code
    if status == 405:
        allowed = ", ".join(_allowed(request, (error.headers or {}).get("Allow", "")))
        detail = f"{request.method} is not accepted here; accepted: {allowed}"
        return problem(request, ErrorCode.INVALID_REQUEST, detail, status=405, headers={"Allow": allowed})
    code = _CODE_OF_STATUS.get(status, ErrorCode.INVALID_REQUEST)
    detail = "there is nothing at this address" if status == 404 else HTTPStatus(status).phrase
    return problem(request, code, detail, status=status)


def _allowed(request: Request, named: str) -> list[str]:
    """Of all routes at this address: the router itself names those of the first one alone."""
    methods = {method.strip() for method in named.split(",") if method.strip()}
    for route in request.app.state.routes:
        if route.matches(request.scope)[0] is not Match.NONE:
            methods |= route.methods
    return sorted(methods)
