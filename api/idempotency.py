"""The idempotency key of a request, from its header or its body (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
import re
from typing import Any

import orjson
from fastapi import Request, Response

from api.bodies import Received
from api.problems import Refused
from domain.wire import Request as RequestModel
from store.idempotency import IdempotentRequest

HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"

_BARE = re.compile(r"[\x20-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')


def idempotent(request: Request, received: Received[RequestModel], scope: str) -> IdempotentRequest | None:
    """What makes this request one intent; None when no key was sent. `scope` is the project, or ''."""
    header = _header_key(request)
    in_body: str | None = getattr(received.model, "idempotency_key", None)
    if header is not None and in_body is not None and header != in_body:
        raise _refused("the header and the body's idempotencyKey differ; send one of them, or the same in both")
    key = header if header is not None else in_body
    if key is None:
        return None
    route = f"{request.method} {request.scope['route'].path}"
    return IdempotentRequest(scope, route, key, _fingerprint(request, received.document))


def _fingerprint(request: Request, document: dict[str, Any]) -> bytes:
    """Of what was asked: the body, wherever its key stands, and the address: one key for two objects is a mistake."""
    body = {name: value for name, value in document.items() if name != "idempotencyKey"}
    said = orjson.dumps([request.url.path, body], option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(said).digest()


def _header_key(request: Request) -> str | None:
    sent = request.headers.getlist(HEADER)
    if not sent:
        return None
    if len(sent) > 1:
        raise _refused("it was sent more than once")
    key = sent[0].strip()
    if key.startswith('"'):
        quoted = _QUOTED.fullmatch(key)
        key = re.sub(r'\\(["\\])', r"\1", quoted[1]) if quoted else ""
    if not _BARE.fullmatch(key):
        raise _refused("accepted: 1 to 255 printable ASCII characters, quoted (RFC 8941) or bare")
    return key


def mark(response: Response, *, replayed: bool) -> Response:
    if replayed:
        response.headers[REPLAYED] = "true"
    return response


def _refused(why: str) -> Refused:
    return Refused(400, f"{HEADER}: {why}", [(f"/header/{HEADER}", why)])
