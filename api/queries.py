"""Query parameters that several routes share, each with its bounds.

Rule: numbers and truth values are accepted in their one plain spelling, and no text holds NUL.
"""

import re
from datetime import MAXYEAR, MINYEAR, UTC, datetime
from typing import Annotated, Any

from fastapi import Depends, Query
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema

from domain.page import MAX_OFFSET, PageRequest

_DIGITS = re.compile(r"-?[0-9]{1,18}")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_EVER, _NEVER = datetime(MINYEAR + 1, 1, 1, tzinfo=UTC), datetime(MAXYEAR - 1, 12, 31, tzinfo=UTC)
_TRUTHS = {"true": True, "false": False}

MAX_LINE = 10**18 - 1
"""No log and no stream of events is that long; it keeps numbers inside PostgreSQL's bigint."""


def _number(sent: Any) -> Any:
    if isinstance(sent, str) and not _DIGITS.fullmatch(sent):
        raise ValueError("expected a whole number in decimal digits")
    return sent


def _truth(sent: Any) -> Any:
    if isinstance(sent, str):
        if sent not in _TRUTHS:
            raise ValueError("expected true or false")
        return _TRUTHS[sent]
    return sent


def moment(sent: Any) -> Any:
    """RFC 3339, and nothing else that reads as a time."""
    if isinstance(sent, datetime):
        return sent
    if not isinstance(sent, str) or not _RFC3339.fullmatch(sent):
        raise ValueError("expected a time as in RFC 3339, such as 2026-11-23T08:30:00Z")
    return datetime.fromisoformat(sent.upper())


def _in_utc(read: datetime) -> datetime:
    """The first and the last year have hours without a counterpart in UTC: they stand for "ever" and "never"."""
    if read.year in {MINYEAR, MAXYEAR}:
        return _EVER if read.year == MINYEAR else _NEVER
    return read.astimezone(UTC)


_Digits = BeforeValidator(_number)
Number = Annotated[int, Field(ge=0, le=MAX_LINE), _Digits]
"""A number of lines or events."""

Limit = Annotated[int, Field(ge=1, le=100), _Digits]
LineLimit = Annotated[int, Field(ge=1, le=1000), _Digits]
Context = Annotated[int, Field(ge=0, le=10), _Digits]
Offset = Annotated[int, Field(ge=0, le=MAX_OFFSET), _Digits]
Truth = Annotated[bool, BeforeValidator(_truth)]
Moment = Annotated[
    datetime,
    AfterValidator(_in_utc),
    BeforeValidator(moment),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
Text = Annotated[str, StringConstraints(max_length=1024, pattern=r"^[^\x00]*$")]

HOW_MANY = Query(description="how many at most")
SKIPPED = Query(description="how many to skip, where there is no cursor")
_NEXT = Query(description="`nextCursor` of the page before")
_PLACE = r"^(never|[0-9]{1,16})_"
SearchCursor = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}_[0-9]{1,15}$")]
_Cursor = Annotated[str, StringConstraints(pattern=_PLACE + r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
_ProjectCursor = Annotated[str, StringConstraints(pattern=_PLACE + r"[a-z0-9][a-z0-9-]{0,62}$")]


def _page(
    limit: Annotated[Limit, HOW_MANY] = 20,
    offset: Annotated[Offset, SKIPPED] = 0,
    cursor: Annotated[_Cursor | None, _NEXT] = None,
) -> PageRequest:
    return PageRequest(limit=limit, offset=offset, cursor=cursor)


def _page_of_projects(
    limit: Annotated[Limit, HOW_MANY] = 20,
    offset: Annotated[Offset, SKIPPED] = 0,
    cursor: Annotated[_ProjectCursor | None, _NEXT] = None,
) -> PageRequest:
    return PageRequest(limit=limit, offset=offset, cursor=cursor)


def _short_page(
    limit: Annotated[Limit, HOW_MANY] = 20, offset: Annotated[Offset, Query(description="how many to skip")] = 0
) -> PageRequest:
    return PageRequest(limit=limit, offset=offset)


PageQuery = Annotated[PageRequest, Depends(_page)]
ProjectPageQuery = Annotated[PageRequest, Depends(_page_of_projects)]
ShortPageQuery = Annotated[PageRequest, Depends(_short_page)]
"""Of a list that is never long."""
