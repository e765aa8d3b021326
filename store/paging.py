"""Pages of a list: by offset or by an opaque cursor, newest first where nothing else is said."""

import base64
import binascii
from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from psycopg.errors import DataError
from sqlalchemy import ColumnElement, Select, String, cast, func, literal, select, tuple_
from sqlalchemy.dialects.postgresql import psycopg as dialect

from domain.errors import DeploymentError, ErrorCode
from domain.page import Page, PageRequest
from store.database import Connection, Row

Item = TypeVar("Item")
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
    """One page of `chosen`. `order` is what is sorted by and the id that makes it unique; neither may be null.

    Raises:
        DeploymentError: invalid-request, for a cursor that is not ours.
    """
    total = (await run(connection, select(func.count().label("total")).select_from(chosen.subquery())))[0]["total"]
    key, identity = order
    # As text: it may be infinity, which Python has no moment for.
    part = chosen.add_columns(cast(key, String).label("page_key"))
    if request.cursor is not None:
        place = tuple_(*_place(request.cursor, order))
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
    return base64.urlsafe_b64encode(orjson.dumps([str(row["page_key"]), str(row["id"])])).decode().rstrip("=")


def _place(cursor: str, order: tuple[ColumnElement[Any], ColumnElement[Any]]) -> list[ColumnElement[Any]]:
    try:
        words = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        key, identity = (str(word) for word in words)
    except (ValueError, TypeError, binascii.Error):
        raise _not_a_cursor() from None
    return [cast(literal(value, String), column.type) for value, column in zip((key, identity), order, strict=True)]


def _not_a_cursor() -> DeploymentError:
    return DeploymentError(
        ErrorCode.INVALID_REQUEST,
        "cursor: expected the nextCursor of a page of this list",
        fields=[("/cursor", "not a cursor of this list")],
    )
