"""Pages of a list: by offset or by an opaque cursor, newest first where nothing else is said."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from psycopg.errors import DataError
from sqlalchemy import BigInteger, ColumnElement, Select, String, case, cast, extract, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import psycopg as dialect

from domain.errors import DeploymentError, ErrorCode
from domain.page import Page, PageRequest
from store.database import Connection, Row

Item = TypeVar("Item")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = "never"
_CURSOR = re.compile(rf"({_NEVER}|[0-9]{{1,16}})_(.+)")
"""Microseconds since 1970 and the id: all texts of this form are places, so that its grammar can be told to callers."""

_DIALECT = dialect.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy's dialects carry no annotations


async def run(connection: Connection, statement: Select[Any]) -> list[Row]:
    """Rows of a statement that SQLAlchemy has put together, fetched without a session."""
    compiled = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    cursor = await connection.execute(str(compiled).encode(), dict(compiled.params))
    return await cursor.fetchall()


async def fetch_page(
    connection: Connection,
    chosen: Select[Any],
    order: tuple[ColumnElement[Any], ColumnElement[Any]],
    request: PageRequest,
    read: Callable[[Row], Item],
    *,
    descending: bool = True,
) -> Page[Item]:
    """One page of `chosen`. `order` is the moment that is sorted by and the id that makes it unique, neither null.

    Raises:
        DeploymentError: invalid-request, for a cursor that is not ours.
    """
    total = (await run(connection, select(func.count().label("total")).select_from(chosen.subquery())))[0]["total"]
    key, identity = order
    # What never happens is sorted by infinity, which Python has no moment for.
    part = chosen.add_columns(
        case((func.isfinite(key), cast(extract("epoch", key) * 1_000_000, BigInteger))).label("page_key")
    )
    if request.cursor is not None:
        place = tuple_(*_place(request.cursor, order, descending=descending))
        part = part.where(tuple_(key, identity) < place if descending else tuple_(key, identity) > place)
    else:
        part = part.offset(request.offset)
    part = part.order_by(*(column.desc() if descending else column.asc() for column in order)).limit(request.limit + 1)
    try:
        rows = await run(connection, part)
    except DataError:
        raise _not_a_cursor() from None
    more = len(rows) > request.limit
    rows = rows[: request.limit]
    return Page(
        items=[read(row) for row in rows],
        total=total,
        limit=request.limit,
        offset=request.offset,
        next_cursor=_cursor(rows[-1]) if more else None,
    )


def _cursor(row: Row) -> str:
    return f"{_NEVER if row['page_key'] is None else row['page_key']}_{row['id']}"


def _place(
    cursor: str, order: tuple[ColumnElement[Any], ColumnElement[Any]], *, descending: bool
) -> list[ColumnElement[Any]]:
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise _not_a_cursor()
    if match[1] == _NEVER:
        moment: Any = literal("-infinity" if descending else "infinity", String)
    else:
        moment = literal(_EPOCH + timedelta(microseconds=int(match[1])), order[0].type)
    return [cast(moment, order[0].type), cast(literal(match[2], String), order[1].type)]


def _not_a_cursor() -> DeploymentError:
    return DeploymentError(
        ErrorCode.INVALID_REQUEST,
        "cursor: expected the nextCursor of a page of this list",
        fields=[("/query/cursor", "not a cursor of this list")],
    )
