"""The life of a deployment as one table: status × event → status. Everything else about statuses is derived from it.

Rule: only `DeploymentWorkflow` decides a move; a status without a row out of it is final, and nothing moves it.
"""

from enum import StrEnum


class Status(StrEnum):
    CREATED = "created"
    QUEUED = "queued"
    INITIALIZING = "initializing"
    BUILDING = "building"
    DEPLOYING = "deploying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    TIMEOUT = "timeout"


class Event(StrEnum):
    """The names of the arrows."""

    TRIGGER = "trigger"
    QUEUE = "queue"
    INITIALIZE = "initialize"
    BUILD_COMPLETE = "build complete"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCEL = "cancel"
    TIMEOUT = "timeout"


_EARLY_ENDS = {Event.FAILURE: Status.FAILED, Event.CANCEL: Status.CANCELED, Event.TIMEOUT: Status.TIMEOUT}

TRANSITIONS: dict[Status, dict[Event, Status]] = {
    Status.CREATED: {Event.TRIGGER: Status.QUEUED, **_EARLY_ENDS},
    Status.QUEUED: {Event.QUEUE: Status.INITIALIZING, **_EARLY_ENDS},
    Status.INITIALIZING: {Event.INITIALIZE: Status.BUILDING, **_EARLY_ENDS},
    Status.BUILDING: {Event.BUILD_COMPLETE: Status.DEPLOYING, **_EARLY_ENDS},
    Status.DEPLOYING: {Event.SUCCESS: Status.SUCCEEDED, **_EARLY_ENDS},
    Status.SUCCEEDED: {},
    Status.FAILED: {},
    Status.CANCELED: {},
    Status.TIMEOUT: {},
}

TERMINAL = frozenset(status for status, row in TRANSITIONS.items() if not row)
ACTIVE = frozenset(TRANSITIONS) - TERMINAL


class IllegalMove(ValueError):
    """An event that the status has no arrow for."""


def next_status(status: Status, event: Event) -> Status:
    """Where `event` leads from `status`.

    Raises:
        IllegalMove: the table has no such arrow.
    """
    try:
        return TRANSITIONS[status][event]
    except KeyError:
        accepted = ", ".join(TRANSITIONS[status]) or "nothing, it is final"
        raise IllegalMove(f"'{event}' does not move a deployment that is {status}; accepted: {accepted}") from None


def moves(status: Status, goal: Status) -> list[Status]:
    """The statuses to go through to bring the news that `goal` is reached; none when the news comes late.

    A stage that nobody saw is made up for: `queued` → `building` passes `initializing`.
    """
    trails: list[list[Status]] = [[status]]
    seen = {status}
    while trails:
        trail = trails.pop(0)
        if trail[-1] is goal:
            return trail[1:]
        for following in TRANSITIONS[trail[-1]].values():
            if following not in seen:
                seen.add(following)
                trails.append([*trail, following])
    return []


def diagram() -> str:
    """The table as a Mermaid state diagram, for the README and `docs/states.md`."""
    lines = ["stateDiagram-v2", "    [*] --> created"]
    for status, row in TRANSITIONS.items():
        lines += [f"    {status} --> {goal}: {event}" for event, goal in row.items()]
        if not row:
            lines.append(f"    {status} --> [*]")
    return "\n".join(lines)
