"""Lists on the wire: every one has this shape."""

from typing import Generic, TypeVar

from pydantic import Field

from domain.wire import Wire

Item = TypeVar("Item")

MAX_OFFSET = 10_000


class Page(Wire, Generic[Item]):
    items: list[Item]
    total: int | None = Field(description="null where counting would cost too much")
    limit: int
    offset: int
    next_cursor: str | None = None


class PageRequest(Wire):
    """Which part of a list: `cursor` where there is one, else `offset`."""

    limit: int = 20
    offset: int = 0
    cursor: str | None = None
