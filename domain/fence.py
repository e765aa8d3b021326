"""Who may still write: an attempt of a step that a later one has taken over may not.

Rule: what an attempt may change ends with the first write of a later attempt, of its own step or of a later one. It is
known by the moment at which Temporal scheduled it: its number begins anew when an operator resets a step or a workflow
is started again.
"""

from contextvars import ContextVar
from datetime import datetime

ATTEMPT: ContextVar[datetime | None] = ContextVar("attempt", default=None)
"""The attempt that is under way here; None for those who write outside of steps."""


class Overtaken(Exception):
    """Somebody later was here, so that nothing was changed. It ends an attempt of which nobody waits for an answer."""


def refuse_overtaken(fence: datetime | None) -> None:
    """Raises Overtaken when an attempt later than ours has set the fence."""
    attempt = ATTEMPT.get()
    if attempt is not None and fence is not None and attempt < fence:
        raise Overtaken(f"the attempt of {attempt:%FT%T.%fZ} was taken over by that of {fence:%FT%T.%fZ}")
