"""Opens what Temporal keeps sealed, for its UI and command line, by Temporal's protocol of codec servers.

Rule: never for anybody. An admin of all projects sends a token. Temporal's UI cannot, so its address holds a key, which
opens and cannot seal.
"""

import secrets
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from api.auth import Operator
from api.bodies import check_type, parsed
from api.describe import BODY, GUARDED, described
from api.services import Wired
from domain.errors import DeploymentError, ErrorCode
from workflows.codec import BASE64

PREFIX = "/v1/temporal/codec"
router = APIRouter(prefix=PREFIX, tags=["operations"])

_BASE64 = {"type": "string", "pattern": BASE64}
_PAYLOAD = {
    "type": "object",
    "properties": {"metadata": {"type": "object", "additionalProperties": _BASE64}, "data": _BASE64},
}
_PAYLOADS: dict[str, Any] = {
    "application/json": {
        "schema": {"type": "object", "properties": {"payloads": {"type": "array", "items": _PAYLOAD}}},
        "example": {"payloads": [{"metadata": {"encoding": "anNvbi9wbGFpbg=="}, "data": "InNpdGUi"}]},
    }
}
_TAKES = {"requestBody": {"required": True, "content": _PAYLOADS}}
_ANSWERS = described(200, _PAYLOADS, BODY, GUARDED, what="the payloads, in the same order")


class UiOrigin:
    """Lets pages of Temporal's UI, and of nobody else, call these routes from a browser."""

    def __init__(self, app: ASGIApp, origin: str) -> None:
        self._app = app
        self._shared = CORSMiddleware(
            app,
            allow_origins=[origin],
            allow_methods=["POST"],
            allow_headers=["Authorization", "Content-Type", "X-Namespace"],
            allow_credentials=True,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        ours = scope["type"] == "http" and scope["path"].startswith(PREFIX + "/")
        await (self._shared if ours else self._app)(scope, receive, send)


async def _document(request: Request) -> Any:
    check_type(request)
    return parsed(await request.body())


Document = Annotated[Any, Depends(_document)]


@router.post(
    "/decode", operation_id="decodePayloads", summary="Open payloads of Temporal", openapi_extra=_TAKES, **_ANSWERS
)
async def decode_payloads(services: Wired, caller: Operator, document: Document) -> Response:
    del caller
    return JSONResponse(await services.codec.decode_document(document))


@router.post(
    "/encode", operation_id="encodePayloads", summary="Seal payloads for Temporal", openapi_extra=_TAKES, **_ANSWERS
)
async def encode_payloads(services: Wired, caller: Operator, document: Document) -> Response:
    del caller
    return JSONResponse(await services.codec.encode_document(document))


async def _check_key(services: Wired, key: str) -> None:
    wanted = services.temporal_ui_key
    if not wanted or not secrets.compare_digest(key.encode(), wanted.encode()):
        raise DeploymentError(ErrorCode.UNAUTHENTICATED, "this is not Temporal's UI's key: see docs/operations.md")


@router.post(
    "/{key}/decode",
    operation_id="decodePayloadsForUi",
    summary="Open payloads of Temporal, for its UI: with HEADWAY_TEMPORAL_UI_KEY in place of a token",
    openapi_extra=_TAKES,
    dependencies=[Depends(_check_key)],
    **_ANSWERS,
)
async def decode_payloads_for_ui(services: Wired, document: Document) -> Response:
    return JSONResponse(await services.codec.decode_document(document))
