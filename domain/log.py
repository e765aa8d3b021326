"""A line of a deployment's log, what a reader may ask for, and what a follower hands over."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from domain.log_text import plain
from domain.wire import Timestamp, Wire, rfc3339

LogSource = Literal["build", "deploy", "system"]


class LogLevel(StrEnum):
    """In rising order: a filter by level means that one and those after it."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"

    @property
    def and_above(self) -> "list[LogLevel]":
        levels = list(LogLevel)
        return levels[levels.index(self) :]


@dataclass(slots=True)
class LogLine:
    """What a provider says, before it has a number. A level that it does not tell is recognised on the way in.

    There are millions of them: so not a model, which takes twice the time and five times the memory.
    """

    timestamp: datetime
    message: str
    step: str | None = None
    source: LogSource = "build"
    metadata: dict[str, Any] | None = None
    level: LogLevel | None = None


class DeploymentLog(Wire):
    """A stored line. `id` is its sequence number within the deployment, from 1, gapless."""

    timestamp: Timestamp
    message: str
    step: str | None = None
    source: LogSource = "build"
    metadata: dict[str, Any] | None = None
    id: str = Field(pattern=r"^[1-9][0-9]*$")
    deployment_id: str
    level: LogLevel = LogLevel.INFO

    def as_text(self, *, timestamp: bool = True) -> str:
        """For files and for people who read no JSON: without colours."""
        when = f"{rfc3339(self.timestamp)} " if timestamp else ""
        where = f" [{self.step}]" if self.step else ""
        return f"{when}{self.level:<5}{where} {plain(self.message)}"


class LogMatch(DeploymentLog):
    """A line that a search has found, with the lines around it as they stand in the log."""

    before: list[DeploymentLog] = Field(default_factory=list)
    after: list[DeploymentLog] = Field(default_factory=list)


class LogFilter(Wire):
    """Which lines a reader wants; all of it together. `level` means that and above, `query` a part of the message."""

    level: LogLevel | None = None
    step: str | None = None
    source: LogSource | None = None
    since: Timestamp | None = None
    until: Timestamp | None = Field(default=None, description="lines before then")
    query: str | None = None
    regex: bool = Field(default=False, description="`query` is a regular expression (RE2)")
    case_sensitive: bool = False


class LogPage(Wire):
    """Lines in order. `cursor`: the number to go on after; None when there is nothing more now."""

    lines: list[DeploymentLog]
    cursor: int | None = None


class LogBatch(Wire):
    """Lines of one stream of a log (`build`, `publish`): those between the cursors `after` and `cursor`.

    `memory` is what whoever goes on from `cursor` has to know of the lines before it (an open group, masks that the
    build asked for). It may hold secrets: it is sealed at rest.
    """

    stream: str
    after: str
    cursor: str
    lines: list[LogLine]
    memory: dict[str, Any] = Field(default_factory=dict, repr=False)


class StreamPosition(Wire):
    """Where a stream of a log stands: all up to `cursor` is stored, which is so many lines and bytes of messages."""

    cursor: str = ""
    lines: int = 0
    bytes: int = 0
    memory: dict[str, Any] = Field(default_factory=dict, repr=False)


class LogSweep(Wire):
    """What one round of upkeep has done: logs merged and archived, days dropped, logs deleted from the archive.

    `waiting` says why days that are due are still there; they are tried again by the next round.
    """

    merged: int = 0
    archived: int = 0
    dropped: int = 0
    deleted: int = 0
    waiting: list[str] = Field(default_factory=list)
