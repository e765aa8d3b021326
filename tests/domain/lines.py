"""A line of a log, with what a test does not care about filled in."""

from datetime import UTC, datetime
from typing import Any

from domain.log import LogLine


def line(message: str, **fields: Any) -> LogLine:
    return LogLine(datetime.now(UTC), message, **fields)
