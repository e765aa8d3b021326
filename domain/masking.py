"""Secret values are taken out of whatever a build or a provider says, before the first byte of it is stored.

Rules:
1. Whole lines are masked, not pieces of them: who cuts a long line masks it first. Of a line that is too long to be kept
   whole, `longest` characters beyond the cut are enough for what stands before it.
2. A build may ask for more by a line `::add-mask::VALUE`. `added` has what it asked for: it is to be remembered sealed,
   and given to the next `Mask` together with the deployment's secrets.
3. Too short or too ordinary values are not masked (`unmasked_reason`): who sets one is told so.
"""

import re
from collections.abc import Iterable

from domain.configuration import HIDDEN

MIN_LENGTH = 6
_ADD_MASK = re.compile(r"\s*::add-mask(?: [^:]*)?::(.*)", re.IGNORECASE | re.DOTALL)
_ORDINARY = frozenset("production development staging preview localhost password 127.0.0.1 enabled disabled".split())


class Mask:
    """`secrets` are all values that the deployment knows; those of its provider too."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.added: list[str] = []
        self._values: set[str] = set()
        for value in secrets:
            self._take(value)

    @property
    def longest(self) -> int:
        """More characters than any masked form has."""
        return 16 * max(map(len, self._values), default=0)

    def text(self, s: str) -> str:
        """`s` with `***` in the place of each secret."""
        return self.texts([s])[0]

    def texts(self, messages: list[str]) -> list[str]:
        """The same for many lines at once, in the time of a few; it is `messages` itself where nothing was found."""
        return [self._one(message) for message in messages]

    def add(self, value: str) -> None:
        """Masks `value` from now on, unless it is too short or too ordinary."""
        if value not in self._values and unmasked_reason(value) is None:
            self.added.append(value)
            self._take(value)

    def _one(self, message: str) -> str:
        if asked := _ADD_MASK.match(message):
            self.add(asked[1])
            return message[: asked.start(1)] + HIDDEN
        for value in sorted(self._values, key=len, reverse=True):
            message = message.replace(value, HIDDEN)
        return message

    def _take(self, value: str) -> None:
        parts = {part.strip() for part in (value, *value.splitlines())}
        self._values |= {part for part in parts if unmasked_reason(part) is None}


def unmasked_reason(value: str) -> str | None:
    """Why a value will not be masked; None when it will."""
    value = value.strip()
    if len(value) < MIN_LENGTH:
        return f"shorter than {MIN_LENGTH} characters"
    return "too ordinary" if value.casefold() in _ORDINARY else None
