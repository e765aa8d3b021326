"""The id that ties an answer to its lines in our log: the caller's trace (W3C Trace Context) or a new one."""

import re
import secrets
from collections.abc import MutableMapping
from typing import Any

_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?")


def trace_id(scope: MutableMapping[str, Any]) -> str:
    """Decided once for a request."""
    state = scope.setdefault("state", {})
    if "trace_id" not in state:
        sent = [value for name, value in scope["headers"] if name == b"traceparent"]
        match = _TRACEPARENT.fullmatch(sent[0]) if len(sent) == 1 else None
        state["trace_id"] = match[1].decode() if match else secrets.token_hex(16)
    known: str = state["trace_id"]
    return known
