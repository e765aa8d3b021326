"""Placeholders of a description: `{name}` in an address, in a header, in a parameter, in a text of a JSON body.

Rule: what is filled in is a value. It is never read as a template again, nor as a part of an address or of JSON.
"""

from collections.abc import Iterator, Mapping
from string import Formatter
from typing import Any

DEEPEST = 20
"""How far a body may be nested."""

Values = Mapping[str, Any]
"""By placeholder. One that is not there, or None, has no value."""


def placeholders(text: str) -> list[str]:
    """
    Raises:
        ValueError: for braces that are no placeholder.
    """
    return [name for _, name in _parts(text) if name is not None]


def is_whole(text: str) -> bool:
    """Whether it is one placeholder and nothing else: it then takes the value as it is, not as a text."""
    return [literal for literal, name in _parts(text) if literal or name is not None] == [""]


def filled(template: Any, values: Values) -> Any:
    """A body with its values; a member or an item whose placeholder has no value is left out."""
    if isinstance(template, str):
        return values.get(placeholders(template)[0]) if is_whole(template) else filled_text(template, values)
    if isinstance(template, dict):
        members = {name: filled(value, values) for name, value in template.items()}
        return {name: value for name, value in members.items() if value is not None or template[name] is None}
    if isinstance(template, list):
        items = [(item, filled(item, values)) for item in template]
        return [value for item, value in items if value is not None or item is None]
    return template


def filled_text(template: str, values: Values) -> str:
    """What has no value is empty."""
    return "".join(literal + _text(values.get(name or "")) for literal, name in _parts(template))


def filled_texts(templates: Mapping[str, str], values: Values) -> dict[str, str]:
    """Headers or parameters; those that are a placeholder without a value are left out."""
    return {
        name: filled_text(template, values)
        for name, template in templates.items()
        if filled(template, values) is not None
    }


def leaves(template: Any, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """The texts of a body and where they stand.

    Raises:
        ValueError: when it is nested too deeply.
    """
    if len(path) > DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} levels deep")
    if isinstance(template, str):
        yield path, template
    items = (
        template.items() if isinstance(template, dict) else enumerate(template) if isinstance(template, list) else ()
    )
    for name, value in items:
        yield from leaves(value, *path, str(name))


def _parts(text: str) -> Iterator[tuple[str, str | None]]:
    """A literal text, and the placeholder after it."""
    try:
        parsed = list(Formatter().parse(text))
    except ValueError:
        raise ValueError("has a brace of its own: write {{ and }} where { and } are meant") from None
    for literal, name, form, conversion in parsed:
        if form or conversion:
            raise ValueError(f"has the placeholder {(name or '')[:40]!r} with more than a name")
        yield literal, name


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)
