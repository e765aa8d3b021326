"""From bytes to lines: whole, numbered, within limits, without secrets."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.log import LogLevel
from providers.internal.follow import Page, read_lines
from providers.internal.limits import Limits
from providers.internal.log_file import LineSplitter, LogFile, level_of


def split(*chunks: bytes, longest: int = 100) -> list[str]:
    splitter = LineSplitter(longest)
    return [line for chunk in chunks for line in splitter.feed(chunk)] + splitter.end()


def test_lines_are_put_together_over_chunks() -> None:
    assert split(b"on", b"e\ntw", b"o\n", b"three") == ["one", "two", "three"]


def test_an_empty_line_is_a_line_and_an_empty_end_is_none() -> None:
    assert split(b"\n\na\n") == ["", "", "a"]


def test_a_progress_bar_keeps_its_last_state() -> None:
    assert split(b"10%\r50%\r", b"100%\nnext\r\n") == ["100%", "next"]


def test_a_progress_bar_of_any_length_costs_no_memory() -> None:
    splitter = LineSplitter(100)
    for n in range(10_000):
        splitter.feed(b"%d of 10000\r" % n)

    assert len(splitter.rest) < 200
    assert splitter.feed(b"done\n") == ["done"]


def test_bytes_that_are_no_text_are_replaced_and_nul_is_dropped() -> None:
    assert split(b"a\xff\0b\n") == ["a\ufffdb"]


def test_a_long_line_is_cut_and_says_by_how_much() -> None:
    assert split(b"x" * 70, b"x" * 80 + b"\nshort\n") == ["x" * 100 + " … [50 bytes of this line cut]", "short"]


@given(st.lists(st.binary(max_size=30)))
def test_how_bytes_are_chunked_makes_no_difference(chunks: list[bytes]) -> None:
    assert split(*chunks, longest=10_000) == split(b"".join(chunks), longest=10_000)


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ("error: it broke", LogLevel.ERROR),
        ("Error: it broke", LogLevel.ERROR),
        ("fatal: no", LogLevel.ERROR),
        ("npm ERR! code 1", LogLevel.ERROR),
        ("warning: old", LogLevel.WARN),
        ("npm warn deprecated", LogLevel.WARN),
        ("errors: 0", LogLevel.INFO),
        ("error pages written", LogLevel.INFO),
        ("0 warnings", LogLevel.INFO),
    ],
)
def test_levels_come_from_the_words_that_lines_begin_with(message: str, level: LogLevel) -> None:
    assert level_of(message) == level


def test_lines_are_numbered_and_read_back_from_any_place(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", Limits(), [])
    for n in range(2500):
        log.write("build", f"line {n}")
    log.close()

    pages: list[Page] = []
    offset = 0
    while not pages or not pages[-1].complete:
        pages.append(read_lines(tmp_path / "log", offset))
        offset = pages[-1].offset

    assert [len(page.lines) for page in pages] == [1000, 1000, 500]
    assert [line.message for page in pages for line in page.lines] == [f"line {n}" for n in range(2500)]
    numbers = [json.loads(line)["number"] for line in (tmp_path / "log").read_text().splitlines()]
    assert numbers == list(range(1, 2501))


def test_half_a_line_is_not_read(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", Limits(), [])
    log.write("build", "whole")
    log.close()
    whole = (tmp_path / "log").read_bytes()
    (tmp_path / "log").write_bytes(whole + whole[:20])

    page = read_lines(tmp_path / "log", 0)

    assert [line.message for line in page.lines] == ["whole"]
    assert page.offset == len(whole)


def test_secrets_and_each_of_their_lines_are_hidden_the_longest_first(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", Limits(), ["pass", "password-1", "one line\ntwo line", "on"])

    hidden = log.without_secrets("password-1 pass two line on")
    log.close()

    assert hidden == "*** *** *** on"


def test_within_its_budget_a_log_is_whole(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log", Limits(log_bytes=1_000_000), [])
    for n in range(5000):
        log.write("build", str(n))
    log.close()

    assert len((tmp_path / "log").read_bytes().splitlines()) == 5000
