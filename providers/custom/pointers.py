"""What is read of an answer by a description's JSON pointers (RFC 6901): hostile input, so each type is asked for.

Rule: what is not there, or of another type than wanted, is None.
"""

import math
from datetime import UTC, datetime
from typing import Any

import jsonpointer
from jsonpointer import JsonPointer, JsonPointerException
from pydantic import TypeAdapter, ValidationError

from providers.http import link

jsonpointer.VERBOSE_EXCEPTIONS = False  # else a member that is missing costs as much as writing down the whole answer

MOST_LINKS = 20
_LONGEST_ID = 200
_LONGEST_TEXT = 20_000
"""Far more than is shown of one, so that none is shown in part that has to be masked as a whole."""
_LONGEST_CURSOR = 1000
_LARGEST = 10**20
_SANE = (1970, 2200)
_MOMENT = TypeAdapter(datetime)


def check_pointer(pointer: str) -> str:
    try:
        JsonPointer(pointer)
    except JsonPointerException:
        raise ValueError("is no JSON pointer (RFC 6901), such as /deployment/id") from None
    return pointer


def pointer_of(*parts: str) -> str:
    return str(JsonPointer.from_parts(parts).path)


def at(document: Any, pointer: str | None) -> Any:
    return None if pointer is None else JsonPointer(pointer).resolve(document, None)


def text_at(document: Any, pointer: str | None) -> str | None:
    found = at(document, pointer)
    return found[:_LONGEST_TEXT] if isinstance(found, str) and found else None


def identifier_at(document: Any, pointer: str | None) -> str | None:
    """An id, which some write as a number."""
    found = at(document, pointer)
    if _is_number(found):
        found = str(found)
    return found if isinstance(found, str) and 0 < len(found) <= _LONGEST_ID and found.isprintable() else None


def word_at(document: Any, pointer: str) -> str | None:
    """A status; of numbers and truth values as JSON writes them."""
    found = at(document, pointer)
    if isinstance(found, bool):
        return "true" if found else "false"
    return str(found)[:_LONGEST_TEXT] if isinstance(found, str) or _is_number(found) else None


def cursor_at(document: Any, pointer: str | None) -> str | int | None:
    found = at(document, pointer)
    return found if _is_number(found) or (isinstance(found, str) and 0 < len(found) <= _LONGEST_CURSOR) else None


def links_at(document: Any, pointer: str | None) -> list[str]:
    """One address or a list of them; what is no link is left out."""
    found = at(document, pointer)
    urls = [link(url) for url in (found[:MOST_LINKS] if isinstance(found, list) else [found])]
    return [url for url in urls if url is not None]


def moment_at(document: Any, pointer: str | None) -> datetime | None:
    """RFC 3339, or seconds or milliseconds since 1970."""
    found = at(document, pointer)
    if isinstance(found, bool) or (isinstance(found, float) and not math.isfinite(found)):
        return None
    try:
        moment = _MOMENT.validate_python(found)
        moment = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValidationError, OverflowError, ValueError):
        return None
    return moment if _SANE[0] <= moment.year <= _SANE[1] else None


def _is_number(value: Any) -> bool:
    """A whole one, of a size that ids and cursors have: Python refuses to write down those of thousands of digits."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
