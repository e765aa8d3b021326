"""The log of a build that has ended. Netlify documents no way to it; this is the one that its own command line takes.

Its other way, a socket that tells lines as they come, is not used: nobody promises it, it cannot be resumed, and the
token goes over it in a message.
"""

from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError
from pydantic_core import from_json

from domain.log import LogLevel, LogLine
from providers.http import plain
from providers.netlify.api import Api
from providers.netlify.calls import LOG, Record

LONGEST_TEXT = 128 * 1024
"""Whoever stores a line cuts it far below, after it has been masked."""

LEVELS = {"error": LogLevel.ERROR, "warning": LogLevel.WARN, "warn": LogLevel.WARN}


async def read_log(api: Api, build_id: str) -> list[LogLine]:
    """
    Raises:
        DeploymentError: when there is none to be had.
    """
    answer = await api.call(LOG, id=build_id)
    try:
        records = from_json(answer.body)
    except ValueError:
        raise answer.unusable("no JSON") from None
    if not isinstance(records, list):
        raise answer.unusable("no list")
    lines = [_line(record) for record in records]
    told = [line for line in lines if line is not None]
    if len(told) < len(lines):
        missing = f"{len(lines) - len(told)} records of netlify's log could not be read"
        told.append(note(missing, level=LogLevel.WARN))
    return told


def note(message: str, *, level: LogLevel | None = None) -> LogLine:
    """A line about the deployment, not of its build."""
    return LogLine(timestamp=datetime.now(UTC), message=message, source="deploy", level=level)


def _line(record: Any) -> LogLine | None:
    try:
        read = Record.model_validate(record)
    except ValidationError:
        return None
    text = read.log if read.log is not None else read.message
    if text is None:
        return None
    return LogLine(
        timestamp=_moment(read.ts),
        message=text[:LONGEST_TEXT].removesuffix("\n"),
        step=plain(read.section, 60) if read.section else None,
        level=LEVELS.get((read.level or "").lower()),
    )


def _moment(value: Any) -> datetime:
    """A text, or milliseconds since 1970; of what is neither, now."""
    try:
        if isinstance(value, str):
            read = datetime.fromisoformat(value)
            return read.astimezone(UTC) if read.tzinfo else read.replace(tzinfo=UTC)
        return datetime.fromtimestamp(value / 1000, UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        return datetime.now(UTC)
