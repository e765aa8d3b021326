"""Reading JSON of strangers: what is not there, or of another type than expected, is None."""

import re
from collections.abc import Iterable
from typing import Any

from domain.source import repository_key
from domain.webhook import Push

_OURS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_MOST = 8
_LONGEST = 200
_LONGEST_REF = 300
_LONGEST_ADDRESS = 2048


def at(document: Any, *path: str) -> Any:
    for name in path:
        document = document.get(name) if isinstance(document, dict) else None
    return document


def text(value: Any, longest: int = _LONGEST) -> str | None:
    """A line of text that every reader takes."""
    return value if isinstance(value, str) and 0 < len(value) <= longest and value.isprintable() else None


def identifier(value: Any) -> str | None:
    """An id, which some senders write as a number."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def commit(value: Any) -> str | None:
    return value if isinstance(value, str) and _COMMIT.fullmatch(value) else None


def first_line(value: Any) -> str | None:
    """Of a commit's message."""
    lines = value.splitlines() if isinstance(value, str) else []
    return text(lines[0][:_LONGEST].strip()) if lines else None


def some(values: Iterable[str | None]) -> list[str]:
    """Those that are there, each once, and not too many."""
    return list(dict.fromkeys(value for value in values if value))[:_MOST]


def ours(*values: Any) -> list[str]:
    """What could be ids of our deployments in these texts, or in the values of these maps."""
    parts = [part for value in values for part in (value.values() if isinstance(value, dict) else [value])]
    return some(found for part in parts if isinstance(part, str) for found in _OURS.findall(part[:_LONGEST]))


def push_of(document: Any, addresses: Iterable[Any], **more: Any) -> Push | None:
    """A push, where the document tells one: GitHub and GitLab use the same words for what moved where."""
    ref = text(at(document, "ref"), _LONGEST_REF)
    before, after = commit(at(document, "before")), commit(at(document, "after"))
    if not ref or not before or not after:
        return None
    read = [text(address, _LONGEST_ADDRESS) for address in addresses]
    keys = some(repository_key(address) for address in read if address)
    return Push(repositories=keys, ref=ref, before=before, after=after, **more)
