"""Time-outs and retries as data. Sources for the numbers: `docs/decisions/0003-cancel-and-deadline.md`."""

from datetime import timedelta
from typing import Any

from temporalio.common import RetryPolicy

HEARTBEAT = timedelta(seconds=15)
"""A worker that is gone is noticed after this. Longer than a restart of the Temporal server takes."""

LOOK_AGAIN = timedelta(hours=6)
"""Before its turn: a signal that never came costs no more than this."""

BUILD_TIMEOUT = timedelta(minutes=45)
CANCEL_TIMEOUT = timedelta(minutes=10)
FIND_TIMEOUT = timedelta(minutes=1)
"""For asking whether a build was started, of which nothing is known; few have one."""
TAKEN_TIMEOUT = timedelta(seconds=5)
"""For a worker to take up that question."""
BUILDER_AWAY = timedelta(minutes=2)
"""For the builder that holds a release to take up its publication; later it is built anew, by any builder."""
REPAIR_TIMEOUT = timedelta(seconds=15)
"""For each question to a provider before a deployment is finished whose workflow is gone: its lane is waited for."""
LATE = timedelta(minutes=2)
"""After it, what a step of that workflow had begun is over: what it has started can be found, and stopped."""
COLLECT_TIMEOUT = timedelta(minutes=2)
ATTEMPT = timedelta(minutes=2)
"""One attempt of a short step."""

RETRY = RetryPolicy(
    initial_interval=timedelta(milliseconds=500), backoff_coefficient=2, maximum_interval=timedelta(seconds=10)
)
"""No limit of attempts: a step is bounded by its own time-out and by the deployment's deadline."""


def bounds(limit: timedelta) -> dict[str, Any]:
    """A step that may be tried again and again within `limit`."""
    return {
        "start_to_close_timeout": min(ATTEMPT, limit),
        "schedule_to_close_timeout": limit,
        "heartbeat_timeout": HEARTBEAT,
        "retry_policy": RETRY,
    }


def until_done() -> dict[str, Any]:
    """A step that is tried until it has been done, however long that takes."""
    return {"start_to_close_timeout": ATTEMPT, "heartbeat_timeout": HEARTBEAT, "retry_policy": RETRY}
