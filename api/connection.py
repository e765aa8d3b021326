"""What lies below an answer: its connection and the server, as far as the server lets us reach them.

Rule: without them nothing breaks. A reader that takes nothing then stays connected until it leaves, and a server that
stops waits for its own time-out.
"""

import signal
import weakref
from collections.abc import Callable, MutableMapping
from typing import Any

_STATE = "connection"


def remember(scope: MutableMapping[str, Any], receive: Callable[..., Any]) -> None:
    """`receive` as the server made it: with uvicorn it is bound to what holds the connection.

    Weakly, since that holds the scope: a circle for every request would be much to collect.
    """
    holder = getattr(receive, "__self__", None)
    if holder is not None:
        scope.setdefault("state", {})[_STATE] = weakref.ref(holder)


def cut(scope: MutableMapping[str, Any]) -> bool:
    """Ends the connection at once. A polite end would wait, for good, until the reader has taken what is under way."""
    holder = scope.get("state", {}).get(_STATE)
    transport = getattr(holder and holder(), "transport", None)
    if transport is None:
        return False
    transport.abort()
    return True


def server_stops() -> bool:
    """Whether the server was asked to stop. It waits for open answers to end, and does not tell them."""
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return bool(getattr(server, "should_exit", False))
