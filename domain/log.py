"""A line of a deployment's log, and what a reader may ask for."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from domain.wire import Timestamp, Wire

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


class LogLine(Wire):
    """What a provider says, before it has a number."""

    timestamp: Timestamp
    level: LogLevel = LogLevel.INFO
    message: str
    step: str | None = None
    source: LogSource = "build"
    metadata: dict[str, Any] | None = None


class DeploymentLog(LogLine):
    """A stored line. `id` is its sequence number within the deployment, from 1, gapless."""

    id: str = Field(pattern=r"^[1-9][0-9]*$")
    deployment_id: str


class LogFilter(Wire):
    """Which lines a reader wants; all of it together. `level` means that and above; `query` is a substring."""

    level: LogLevel | None = None
    step: str | None = None
    source: LogSource | None = None
    since: Timestamp | None = None
    query: str | None = None


class LogBatch(Wire):
    """Lines of one stream of a log (`build`, `publish`): those between the cursors `after` and `cursor`."""

    stream: str
    after: str
    cursor: str
    lines: list[LogLine]
