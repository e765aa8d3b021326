"""Whatever comes becomes text that may be shown: nothing acts, nothing is lost unsaid, no secret is cut in two."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.log_text import LineSplitter, lines_of, plain, readable, shortened

COLOUR = re.compile("\x1b\\[[0-9;:]*m")
SECRET = "correct-horse-battery"


class Secret:
    """Hides one word, and where it is spread over colours."""

    longest = len(SECRET)

    def texts(self, texts: list[str]) -> list[str]:
        pattern = "(?:\x1b\\[[0-9;]*m)*".join(map(re.escape, SECRET))
        return [re.sub(pattern, "***", text) for text in texts]


def split(*chunks: bytes, limit: int = 100) -> list[str]:
    splitter = LineSplitter(Secret(), limit)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end()


def is_harmless(text: str) -> bool:
    bare = COLOUR.sub("", text)
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in bare.replace("\t", " "))


def test_lines_are_put_together_over_chunks() -> None:
    assert split(b"on", b"e\ntw", b"o\n", b"three") == ["one", "two", "three"]


def test_an_empty_line_is_a_line_and_an_empty_end_is_none() -> None:
    assert split(b"\n\na\n") == ["", "", "a"]


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        (b"10%\r50%\r100%", "100%"),
        (b"100%\r", "100%"),
        (b"dos\r", "dos"),
        (b"\x1b[1G\x1b[0K\xe2\xa0\x99\x1b[1G\x1b[0Kadded 5 packages", "added 5 packages"),  # npm's spinner
        (b"old\x1b[2Knew", "new"),
        (b"a\xff\0b", "a\ufffdb"),
        (b"s\0e\0c\0r\0e\0t\0", "secret"),  # UTF-16, so that a secret in it is found
        (b"\xc3\xa9t\xc3\xa9 \xf0\x9f\x9a\x80", "été 🚀"),
        (b"\xf0\x9f\x9a", "\ufffd"),
        (b"\ttab", "\ttab"),
        (b"\x1b[31mred\x1b[0m and \x1b[38;2;1;2;3mown\x1b[m", "\x1b[31mred\x1b[0m and \x1b[38;2;1;2;3mown\x1b[m"),
        (b"\x1b]8;;javascript:alert(1)\x07link\x1b]8;;\x07", "link"),
        (b"\x1b]8;id=1;https://evil.example/\x1b\\link\x1b]8;;\x1b\\", "link"),
        (b"\x1b]52;c;ZXZpbA==\x07copied", "copied"),
        (b"\x1b]0;title\x07x", "x"),
        (b"\x1bPdevice\x1b\\x", "x"),
        (b"\x1b]0;never ended", "0;never ended"),
        (b"\x1b[2J\x1b[H\x1b[10;10Hx\x1b[?25l", "x"),
        (b"\x1b[3\x001m", "31m"),
        (b"\x1b\x1b[31mx", "\x1b[31mx"),
        ("\x9b31mred \x9d0;title\x9cx".encode(), "red x"),
        ("a\u202eb\u2066c\u2028d".encode(), "abcd"),
        (b"section_start:156:first[collapsed=true]\r\x1b[0KIn", "section_start:156:first[collapsed=true] In"),
    ],
)  # fmt: skip
def test_a_line_is_stored_readably(raw: bytes, stored: str) -> None:
    assert split(raw + b"\n") == [stored]
    assert split(raw) == [stored]


@given(st.lists(st.binary(max_size=80)))
def test_any_bytes_become_harmless_text(chunks: list[bytes]) -> None:
    lines = split(*chunks, limit=20)
    assert all(map(is_harmless, lines))
    assert all(readable(line) == line for line in lines)


ESCAPES = st.text(st.sampled_from("\x1b[]0;m\x07\x9b\x9d\\PKGJ8\r\b\x00\u202eab "), max_size=60)


@given(ESCAPES | st.text(max_size=60))
def test_any_text_becomes_harmless_once_and_for_all(text: str) -> None:
    lines = lines_of(text)
    assert all(map(is_harmless, lines))
    assert [readable(line) for line in lines] == lines
    assert "\x1b" not in plain("".join(lines))


@given(st.lists(st.binary(max_size=30) | st.sampled_from([b"\r", b"\n", b"x" * 70])))
def test_how_bytes_are_chunked_makes_no_difference(chunks: list[bytes]) -> None:
    assert split(*chunks, limit=50) == split(b"".join(chunks), limit=50)


def test_halves_of_characters_are_joined_or_replaced() -> None:
    assert lines_of("\ud83d\ude80 \ud800") == ["🚀 \ufffd"]


def test_a_message_with_line_feeds_is_several_lines() -> None:
    assert lines_of("one\r\ntwo\n\nthree\n") == ["one", "two", "", "three"]
    assert lines_of("") == [""]


def test_a_progress_bar_of_any_length_costs_no_memory() -> None:
    splitter = LineSplitter(Secret(), 100)
    for n in range(10_000):
        splitter.feed(b"%d of 10000\r" % n)
    assert splitter.waiting < 250
    assert splitter.feed(b"done\n") == ["done"]


def test_a_long_line_is_cut_and_says_by_how_much() -> None:
    assert split(b"x" * 70, b"x" * 80 + b"\nshort\n") == ["x" * 100 + " … [50 bytes of this line cut]", "short"]


def test_a_line_of_megabytes_costs_the_memory_of_one_and_counts_exactly() -> None:
    splitter = LineSplitter(Secret(), 100)
    for _ in range(1000):
        splitter.feed(b"x" * 65536)
        assert splitter.waiting < 200
    assert splitter.feed(b"\n") == ["x" * 100 + f" … [{65536 * 1000 - 100} bytes of this line cut]"]


def test_what_was_overwritten_is_not_counted_as_cut() -> None:
    assert split(b"x" * 300 + b"\r", b"done\n") == ["done"]


def test_a_cut_leaves_whole_characters_and_whole_colours() -> None:
    assert shortened("é" * 60, 101) == "é" * 50 + " … [20 bytes of this line cut]"
    assert shortened("x" * 97 + "\x1b[31mred", 100) == "x" * 97 + " … [8 bytes of this line cut]"


def test_what_was_cut_is_not_cut_again() -> None:
    once = shortened("x" * 150, 100)
    assert shortened(once, 100) == once
    assert shortened("x" * 150 + " … [5 bytes of this line cut]", 100).startswith("x" * 100 + " … [")


@pytest.mark.parametrize("before", range(60, 125))
@pytest.mark.parametrize("chunk", [7, 1000])
@pytest.mark.parametrize("secret", [SECRET, "\x1b[1m".join(SECRET)])
def test_a_cut_leaves_no_part_of_a_secret(before: int, chunk: int, secret: str) -> None:
    """Also where what came before it has shrunk by masking or by colours that were taken out."""
    raw = (SECRET + "." * before + secret + "." * 40 + secret * 9 + "\n").encode()
    (line,) = split(*(raw[at : at + chunk] for at in range(0, len(raw), chunk)))
    assert "cut]" in line
    assert "c" not in plain(line).partition(" … [")[0]


@pytest.mark.parametrize(
    "evil",
    ["\x9d", "\x1b]", "\x1b[", "\x9b;", "\x1b[2K", "\r", "section_start:1:", "section_end:1:a[", "\x1b[1", "\x1bP"],
)
def test_nothing_evil_takes_more_than_its_length(evil: str) -> None:
    """Would take hours if any pattern looked at a line again and again."""
    assert is_harmless(readable(evil * 200_000))
    assert is_harmless(readable("\r" + evil * 200_000 + "\rx"))
