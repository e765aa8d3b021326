"""Text of a log: from whatever comes to lines that may be shown anywhere. Colours stay, everything else that acts goes.

Rules:
1. A stored line has no control characters but tabs and ANSI colours (SGR: ESC [ … m), no line feed, no half character.
2. Secrets are masked before a line is cut, and a cut leaves no part of one.
3. What is cut is counted. Memory is that of one line of the longest kind, whatever comes.

Sources: ECMA-48 (escape sequences); Unicode UAX #9 (the marks that turn the direction of text); GitLab's documentation
of custom collapsible sections, whose heading is a line that returns to its beginning.
"""

import re
from typing import Protocol

LINE_BYTES = 64 * 1024

_COLOUR = r"\[[0-9;:]{0,64}m"
_TO_ITS_END = "[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\\\|\x9c)"
_COLOURS = re.compile("\x1b" + _COLOUR)
_NOISE = re.compile(
    "|".join(
        (
            # ESC that begins no colour, with what belongs to it: CSI, OSC and its like, others, or alone
            rf"\x1b(?!{_COLOUR})(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_]{_TO_ITS_END}|[ -/]+[0-~]|[0-~])?",
            # the same in one byte (C1)
            r"\x9b[0-?]*[ -/]*[@-~]",
            rf"[\x90\x98\x9d\x9e\x9f]{_TO_ITS_END}",
            # every other control character, separators that some take for line feeds, marks that turn text around
            "[\x00-\x08\n-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]",
        )
    )
)
_RETURN = re.compile("\x1b\\[(?:[01]?G|2K)")
"""To the first column, or away with the line: for a log the same as a carriage return."""

_SECTION = re.compile("(section_(?:start|end):[0-9]{1,20}:[^\\s\\[]{1,200}+(?:\\[[^\\]\\s]{0,200}\\])?)\r")
_HALF_COLOUR = re.compile("\x1b[^m]*\\Z")
_CUT = re.compile(r" … \[\d+ bytes of this line cut\]\Z")


class Hiding(Protocol):
    """What is needed of `domain.masking.Mask`."""

    @property
    def longest(self) -> int: ...

    def texts(self, texts: list[str]) -> list[str]: ...


def plain(text: str) -> str:
    """Without colours: for search, text and terminals."""
    return _COLOURS.sub("", text) if "\x1b" in text else text


def readable(text: str) -> str:
    """One line as it is stored. Of what a terminal would have overwritten (a progress bar), the last state stays."""
    if text.isprintable():
        return text
    text = _RETURN.sub("\r", text)
    if "\r" in text:
        text = _last_state(text)
    return _NOISE.sub("", _whole_characters(text))


def lines_of(message: str) -> list[str]:
    """The lines of a message, readable. A line feed at its end begins none."""
    return [readable(part) for part in message.removesuffix("\n").split("\n")]


def shortened(text: str, limit: int = LINE_BYTES, missing: int = 0) -> str:
    """At most `limit` bytes, then how many there were beyond: those, and `missing` that were left out before.

    What was shortened is not shortened again.
    """
    if not missing and len(text) * 4 <= limit:
        return text
    whole = text.encode()
    if not missing and (len(whole) <= limit or _is_shortened(text, limit)):
        return text
    kept = _HALF_COLOUR.sub("", whole[:limit].decode("utf-8", "ignore"))
    return f"{kept} … [{len(whole) - len(kept.encode()) + missing} bytes of this line cut]"


class LineSplitter:
    """Cuts bytes into lines that may be stored: readable, masked, shortened."""

    def __init__(self, mask: Hiding, limit: int = LINE_BYTES) -> None:
        self._mask = mask
        self._limit = limit
        self._rest = bytearray()
        self._cut = 0

    @property
    def waiting(self) -> int:
        """Bytes of a line whose end has not come."""
        return len(self._rest)

    def feed(self, chunk: bytes) -> list[str]:
        whole, ended, rest = chunk.rpartition(b"\n")
        lines = []
        if ended:
            first, more, others = whole.partition(b"\n")
            self._append(first)
            lines = [self._take()]
            if more:
                lines += self._whole(others)
        self._append(rest)
        return lines

    def end(self) -> list[str]:
        """The last line, where it did not end with a line feed."""
        return [self._take()] if self._rest else []

    @property
    def _room(self) -> int:
        """Bytes of a line that are kept before its secrets are masked: one at the limit is whole in there."""
        return self._limit + 4 * self._mask.longest

    def _whole(self, lines: bytes) -> list[str]:
        if len(lines) <= self._room:
            return self._finished(lines.decode("utf-8", "replace").split("\n"))
        taken = []
        for line in lines.split(b"\n"):
            self._append(line)
            taken.append(self._take())
        return taken

    def _append(self, part: bytes) -> None:
        self._rest += part
        if len(self._rest) > self._room:
            self._make_room(self._room)

    def _make_room(self, room: int) -> None:
        body = self._rest.rstrip(b"\r")
        returned = body != self._rest
        _, overwritten, state = body.rpartition(b"\r")
        if overwritten:
            self._cut = 0
        self._cut += max(0, len(state) - room)
        self._rest = state[:room] + (b"\r" if returned else b"")

    def _take(self) -> str:
        text, cut = readable(self._rest.decode("utf-8", "replace")), self._cut
        self._rest, self._cut = bytearray(), 0
        if not cut:
            return self._finished([text])[0]
        # Its end may be the beginning of a secret, which no mask knows.
        masked = self._mask.texts([text])[0]
        kept = _without_end(masked, self._mask.longest)
        return shortened(kept, self._limit, cut + len(masked.encode()) - len(kept.encode()))

    def _finished(self, texts: list[str]) -> list[str]:
        masked = self._mask.texts([readable(text) for text in texts])
        return [shortened(text, self._limit) for text in masked]


def _last_state(text: str) -> str:
    """What a terminal would show in the end of a line that returns to its beginning."""
    if "section_" in text:
        text = _SECTION.sub(r"\1 ", text)
    return text.rstrip("\r").rpartition("\r")[2]


def _whole_characters(text: str) -> str:
    """Halves of characters (surrogates, from somebody's JSON) become one, or U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _is_shortened(text: str, limit: int) -> bool:
    marker = _CUT.search(text, max(0, len(text) - 64))
    return marker is not None and len(text[: marker.start()].encode()) <= limit


def _without_end(text: str, characters: int) -> str:
    """Without its last `characters`, colours not counted."""
    end = max(0, len(plain(text)) - characters)
    for colour in _COLOURS.finditer(text):
        if colour.start() >= end:
            break
        end += len(colour.group())
    return text[:end]
