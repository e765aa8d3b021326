"""A line of a log, with what a test does not care about filled in."""

from datetime import UTC, datetime

from domain.log import LogLine


def line(message: str, **fields: object) -> LogLine:
    return LogLine.model_validate({"timestamp": datetime.now(UTC), "message": message, **fields})
