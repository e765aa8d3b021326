"""Secret values are taken out of whatever a build or a provider says, before the first byte of it is stored.

Rules:
1. Whole lines are masked, made readable before: who cuts a long line masks it first. Of a line that is too long to be
   kept whole, `longest` characters beyond the cut are enough for what stands before it, colours not counted.
2. A build may ask for more by a line `::add-mask::VALUE` (or `##[add-mask]VALUE`). `added` has what it asked for: that
   is to be remembered sealed, and given to the next `Mask` by `add`.
3. Too short or too ordinary values are not masked (`unmasked_reason`): who sets one is told so.
4. It is one search over all lines, whose time does not depend on what they say.

docs/secrets-in-logs.md has what is found and what is not.
"""

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate, chain
from urllib.parse import unquote

import re2

from domain.configuration import HIDDEN
from domain.ordinary import unmasked_reason
from domain.spellings import LONGEST_SPELLING, PIECE, parts, patterns

__all__ = ["Mask", "unmasked_reason"]

_BETWEEN = "\uffff"
"""A character that Unicode promises never to use stands between lines while they are searched together."""

_ASKS = re.compile(r"^(.*?)(::add-mask(?: [^:\n]*)?::|##\[add-mask\])(.*)$", re.MULTILINE)
_BEFORE = re.compile(r"(?:\s|\x1b\[[0-9;:]*m)*")
_ESCAPED = re.compile("%0D|%0A|%25")
_MOST_ADDED = 500
_MOST_ADDED_CHARACTERS = 64 * 1024
_ADDED_TOGETHER = 16
"""So many are searched as one, so that the next one does not cost a new search for all."""

_COLOUR = re.compile(rb"\x1b\[[0-9;:]*m")
_UNSEEN = re.compile(
    rb"[\x00-\x08\x0b-\x1f\x7f\\\xc2\xe2\xef](?:"
    rb"(?<=\x1b)(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\xef]*(?:\x07|\x1b\\)|[ -/]*[0-Z\\^-~])"
    rb"|(?<=\\)\\*(?:u001[bB]|x1[bB]|033|[eE])\[[0-9;:]*m"
    rb"|(?<=[\x00-\x08\x0b-\x1f\x7f])"
    rb"|(?<=\xc2)(?:\x9b[0-?]*[ -/]*[@-~]|[\x80-\x9f\xad])"  # C1, and the soft hyphen
    rb"|(?<=\xe2)(?:\x80[\x8b-\x8f\xa8-\xae]|\x81[\xa0-\xa9])|(?<=\xef)\xbb\xbf)"  # of no width, of direction
)
"""Control sequences (ECMA-48; colours in JSON or source code, too) and what else takes no place on a screen."""

_MEMORY_BYTES = 256 * 1024 * 1024
"""What one search may take; that for forty secrets takes about 10 MiB. With less, a large one would get slow."""
_MOST_PATTERN_BYTES = 384 * 1024
"""A search for more is several."""


def _search_for(pattern: bytes) -> re2._Regexp:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.longest_match = True
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    return re2.compile(pattern, options)


_HAS_UNSEEN = _search_for(
    rb"[\x00-\x08\x0b-\x1f\x7f]|\\(?:u001[bB]|x1[bB]|033|[eE])\[[\d;:]*m"
    rb"|\xc2[\x80-\x9f\xad]|\xe2(?:\x80[\x8b-\x8f\xa8-\xae]|\x81[\xa0-\xa9])|\xef\xbb\xbf"
)
"""Quicker than the other, and finds whether there is one."""


class Mask:
    """`secrets` are all values that the deployment knows; those of its provider too."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self.added: list[str] = []
        self._groups = [[value for value in {*secrets} if parts(value)]]
        self._searches: list[list[re2._Regexp]] = []

    @property
    def longest(self) -> int:
        """More characters than anything that is masked as one has."""
        return LONGEST_SPELLING * PIECE

    def text(self, s: str) -> str:
        """`s` with `***` in the place of each secret."""
        return self.texts([s])[0]

    def texts(self, messages: list[str]) -> list[str]:
        """The same for many lines at once, in the time of a few. It is `messages` itself where nothing was found."""
        joined = _BETWEEN.join(messages)
        if "add-mask" not in joined:
            return self._masked(messages, joined)
        masked: list[str] = []
        waiting: list[str] = []
        for message in messages:
            if "add-mask" not in message:
                waiting.append(message)
                continue
            if any("add-mask" not in before for before in waiting):
                masked += self._masked(waiting)
                waiting = []
            waiting.append(_ASKS.sub(self._heeded, message))
        return masked + self._masked(waiting)

    def add(self, value: str) -> None:
        """Masks `value` from now on, unless it is too short or too ordinary, or there were too many before."""
        room = len(self.added) < _MOST_ADDED and sum(map(len, self.added)) + len(value) <= _MOST_ADDED_CHARACTERS
        if not room or not parts(value) or any(value in group for group in self._groups):
            return
        self.added.append(value)
        if len(self._groups) == 1 or len(self._groups[-1]) >= _ADDED_TOGETHER:
            self._groups.append([])
        self._groups[-1].append(value)
        del self._searches[len(self._groups) - 1 :]

    def _heeded(self, asks: re.Match[str]) -> str:
        """A line that asks for a mask, or only speaks of it, without what is to be masked, whatever that is."""
        if _BEFORE.fullmatch(asks[1]):
            self.add(_ESCAPED.sub(lambda escaped: unquote(escaped[0]), asks[3]).strip())
        return asks[1] + asks[2] + HIDDEN

    def _masked(self, messages: list[str], joined: str | None = None) -> list[str]:
        text = (joined if joined is not None else _BETWEEN.join(messages)).encode("utf-8", "surrogatepass")
        spans = self._spans(text) if any(self._groups) else []
        if not spans:
            return messages
        masked = b"".join(_without(text, spans)).decode("utf-8", "surrogatepass").split(_BETWEEN)
        if len(masked) == len(messages):
            return masked
        # A line holds the character that none should hold: each by itself, then.
        if len(messages) == 1:
            return [_BETWEEN.join(masked)]
        return [self._masked([message])[0] for message in messages]

    def _spans(self, text: bytes) -> list[tuple[int, int]]:
        """Where secrets stand, in order, those that touch each other as one."""
        found = [*self._found(text)]
        if _HAS_UNSEEN.search(text):
            seen = _Seen(text)
            found += [seen.place(*span) for span in _united([*self._found(seen.text)])]
        return _united(found)

    def _found(self, text: bytes) -> Iterator[tuple[int, int]]:
        """The longest at each place where one begins."""
        for group in self._groups[len(self._searches) :]:
            self._searches.append([_search_for(b"|".join(some)) for some in _batches(patterns(group))])
            re2.purge()  # what it keeps of patterns would be the secrets, for as long as the process lives
        for search in chain.from_iterable(self._searches):
            found = search.search(text)
            while found:
                yield found.span()
                found = search.search(text, found.start() + 1)


class _Seen:
    """A text as a screen shows it, and where its parts stand in the text."""

    def __init__(self, text: bytes) -> None:
        self.text = _UNSEEN.sub(b"", text)
        unseen = [found.span() for found in _UNSEEN.finditer(text)]
        self._gone = [0, *accumulate(end - start for start, end in unseen)]
        self._places = [start - gone for (start, _), gone in zip(unseen, self._gone, strict=False)]

    def place(self, start: int, end: int) -> tuple[int, int]:
        return self._place(start), self._place(end - 1) + 1

    def _place(self, seen: int) -> int:
        return seen + self._gone[bisect_right(self._places, seen)]


def _batches(all_patterns: list[bytes]) -> Iterator[list[bytes]]:
    batch: list[bytes] = []
    size = 0
    for pattern in all_patterns:
        if size + len(pattern) > _MOST_PATTERN_BYTES and batch:
            yield batch
            batch, size = [], 0
        batch.append(pattern)
        size += len(pattern)
    if batch:
        yield batch


def _united(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    united: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if united and start <= united[-1][1]:
            united[-1] = (united[-1][0], max(end, united[-1][1]))
        else:
            united.append((start, end))
    return united


def _without(text: bytes, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    """Colours that change within a secret stay."""
    done = 0
    for start, end in spans:
        yield text[done:start]
        yield HIDDEN.encode()
        yield from _COLOUR.findall(text, start, end)
        done = end
    yield text[done:]
