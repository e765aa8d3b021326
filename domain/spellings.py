"""In how many ways a secret value may stand in a text: patterns for RE2, which searches all of them in linear time.

Rules:
1. A pattern says character by character how it may be written, so that what is encoded in part is found like the rest.
2. A long value is looked for in pieces, each of which is a secret of its own. So a pattern has a bounded length, and
   base64 that a tool has broken into lines is found in each of them.
3. Patterns match bytes of UTF-8.

Sources: RFC 3986 (percent), RFC 4648 (base64), RFC 8259 (JSON), the shells' manuals (quoting), HTML's named characters.
"""

import base64
import json
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
from urllib.parse import quote

import re2

from domain.ordinary import unmasked_reason

PIECE = 48
"""Characters of a value that are one pattern."""
LONGEST_SPELLING = 16
"""Characters that one of a value may become: `\\\\\\\\ud83d\\\\\\\\ude00`, in JSON within JSON."""

_ENCODED_PIECE = 8
_FREELY, _LONGEST_FREELY = 8 * 1024, 1024
_ENCODED = 32 * 1024
"""Of so many characters of all values together, the shortest values first, every spelling is looked for. Up to the
second limit, and in a longer value, letters and digits are looked for as they are: no usual encoding changes them.
What is beyond is looked for as it is and as JSON and percent encoding write it."""

_BACKSLASH = rb"(?:\\|%(?:25)*5[Cc])"
_QUOTE = rb"[\\'\"$]*"
_QUOTES = rb"(?:[\\'\"$]|%(?:25)*5[Cc])*"
"""What quoting puts between two characters: `'it'\\''s'`, `it\\'s`, `$'it\\'s'`, JSON in JSON, JSON in an address."""
_LETTERS = {"\n": b"n", "\r": b"r", "\t": b"t", "\b": b"b", "\f": b"f", "\v": b"v", "\a": b"a", "\x1b": b"[eE]"}
_NAMES = {"&": b"amp", "<": b"lt", ">": b"gt", '"': b"quot", "'": b"apos"}
_BASE64 = {ord("+"): rb"(?:[+\-]|%2[Bb])", ord("/"): rb"(?:\\*[/_]|%2[Ff])"}
_BASE64_END = rb"[A-Za-z0-9+/_\-]?"
"""The last character may hold bits of what comes after the value."""


def patterns(values: Iterable[str]) -> list[bytes]:
    """For all spellings of the values: alternatives of one search."""
    beginnings: dict[bytes, set[bytes]] = defaultdict(set)
    whole: set[bytes] = set()
    size = 0
    for value in sorted(values, key=len):
        size += len(value)
        if size > _ENCODED:
            whole.update(_exactly(form) for piece in _pieces(value) for form in (piece, _json(piece), quote(piece, "")))
            continue
        freely = size <= _FREELY and len(value) <= _LONGEST_FREELY
        for piece in _pieces(value):
            beginning, *rest = _spelled(piece, freely=freely)
            beginnings[beginning].add(b"".join(rest))
        whole.update(_encoded(value))
    # Those that begin alike share their beginning: that keeps the search small.
    raw = [beginning + b"(?:" + b"|".join(sorted(rests)) + b")" for beginning, rests in sorted(beginnings.items())]
    return raw + sorted(whole)


def parts(value: str) -> set[str]:
    """What of a value is secret: the whole, and each of its lines, but for what is too short or too ordinary."""
    value = value.replace("\r\n", "\n")
    found = {part.strip() for part in (value, *value.splitlines())}
    return {part for part in found if unmasked_reason(part) is None}


def _pieces(value: str) -> Iterator[str]:
    for part in parts(value):
        for form in {part, unicodedata.normalize("NFC", part), unicodedata.normalize("NFD", part)}:
            for piece in _cut(form, PIECE):
                if unmasked_reason(piece) is None:
                    yield piece


def _cut(whole: str, length: int) -> list[str]:
    """In pieces of that length, the last of which may overlap the one before."""
    if len(whole) <= length:
        return [whole]
    return [whole[start : start + length] for start in (*range(0, len(whole) - length, length), len(whole) - length)]


def _spelled(text: str, *, freely: bool) -> Iterator[bytes]:
    """The pattern of each character, with what may stand before it."""
    yield _character(text[0], freely=freely)
    for before, character in pairwise(text):
        plain = _is_plain(before) and _is_plain(character)
        between = _QUOTES if not plain else _QUOTE if freely else b""
        yield between + _character(character, freely=freely)


def _is_plain(character: str) -> bool:
    return character.isascii() and character.isalnum()


def _character(character: str, *, freely: bool) -> bytes:
    if _is_plain(character):
        return _any_spelling_of_a_plain_one(ord(character)) if freely else character.encode()
    if character == "\n":
        return b"(?:%s%s)?%s" % (_any_spelling("\r"), _QUOTES, _any_spelling("\n"))
    return _any_spelling(character)


def _any_spelling_of_a_plain_one(code: int) -> bytes:
    """As below, in fewer words: there are many of them."""
    return b"(?:%c|(?:%%(?:25)*|\\\\(?:u00|x))%s|\\\\0?%03o)" % (code, _hex(f"{code:02x}"), code)


@lru_cache(maxsize=1024)
def _any_spelling(character: str) -> bytes:
    number = ord(character)
    utf8 = character.encode("utf-8", "surrogatepass")
    utf16 = character.encode("utf-16-be", "surrogatepass").hex()
    escapes = [_escapes(b"u", re.findall("....", utf16)), _escapes(b"x", [f"{byte:02x}" for byte in utf8])]
    escapes.append(_escapes(b"0?", [f"{byte:03o}" for byte in utf8]))
    if not (character.isascii() and character.isprintable()):
        escapes += [
            _escapes(b"x", [f"{number:02x}"]),
            b"U" + _hex(f"{number:08x}"),
            b"u\\{0*%s\\}" % _hex(f"{number:x}"),
        ]
    if character in _LETTERS:
        escapes.append(_LETTERS[character])
    ways = [
        _exactly(character),
        b"".join(b"%%(?:25)*%s" % _hex(f"{byte:02x}") for byte in utf8),
        _BACKSLASH + b"(?:" + b"|".join(escapes) + b")",
    ]
    if character == " ":
        ways.append(rb"\+")
    if character in _NAMES:
        ways.append(b"&(?:amp;)*(?:%s|#(?:0*%d|[xX]0*%s));" % (_NAMES[character], number, _hex(f"{number:x}")))
    return b"(?:" + b"|".join(ways) + b")"


def _exactly(text: str) -> bytes:
    pattern: bytes = re2.escape(text.encode("utf-8", "surrogatepass"))
    return pattern


def _escapes(mark: bytes, units: list[str]) -> bytes:
    """`u00e9`, `xc3\\xa9`: what follows a backslash."""
    return (_BACKSLASH + b"+").join(mark + _hex(unit) for unit in units)


def _hex(digits: str) -> bytes:
    """In capitals or not."""
    return b"(?i:%s)" % digits.encode() if digits.isalnum() and not digits.isdecimal() else digits.encode()


def _encoded(value: str) -> Iterator[bytes]:
    """Base64 and hex: of the value, of its lines ended as in Windows, of what JSON makes of it."""
    value = value.strip()
    if unmasked_reason(value) is not None:
        return
    texts = {value, value.replace("\r\n", "\n"), _json(value), json.dumps(value, ensure_ascii=False)[1:-1]}
    for text in texts:
        whole = text.encode("utf-8", "surrogatepass")
        for digits in {whole.hex(), whole.hex().upper()}:
            yield from (piece.encode() for piece in _cut(digits, 2 * _ENCODED_PIECE))
        for before in range(3):
            yield from _base64(whole, before)


def _json(text: str) -> str:
    return json.dumps(text)[1:-1]


def _base64(whole: bytes, before: int) -> Iterator[bytes]:
    """As it stands in base64 of a longer text: after `before` more bytes, what does not depend on its neighbours."""
    encoded = base64.b64encode(bytes(before) + whole).rstrip(b"=").decode()
    depends = (before + len(whole)) % 3 != 0
    certain = encoded[(0, 2, 3)[before] : len(encoded) - depends]
    *pieces, last = (
        b"".join(_BASE64.get(sign, bytes([sign])) for sign in piece.encode()) for piece in _cut(certain, _ENCODED_PIECE)
    )
    yield from pieces
    yield last + _BASE64_END if depends else last
