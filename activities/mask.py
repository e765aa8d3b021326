"""Secret values are taken out of lines before anything is stored."""

import re
from collections.abc import Iterable

from domain.configuration import HIDDEN
from domain.log import LogLine

MIN_LENGTH = 6
"""Shorter values are in too many honest words to be masked."""


class Mask:
    """Masks the exact values, and each line of those that have several."""

    def __init__(self, secrets: Iterable[str]) -> None:
        parts = {part.strip() for value in secrets for part in (value, *value.splitlines())}
        # The longest first: one value may be the beginning of another.
        long_enough = sorted((part for part in parts if len(part) >= MIN_LENGTH), key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, long_enough))) if long_enough else None

    def text(self, text: str) -> str:
        return self._pattern.sub(HIDDEN, text) if self._pattern else text

    def lines(self, lines: list[LogLine]) -> list[LogLine]:
        if self._pattern is None:
            return lines
        return [line.model_copy(update={"message": self.text(line.message)}) for line in lines]
