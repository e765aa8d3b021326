"""The log on disk: whole lines, read back from any place, within limits, without secrets."""

import json
from pathlib import Path
from typing import Any

import pytest

from domain.log import LogLevel
from domain.masking import Mask
from providers.base import MOST_LINES
from providers.internal.follow import Page, read_lines
from providers.internal.limits import Limits
from providers.internal.log_file import LogFile

SECRET = "correct-horse-battery"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.jsonl"


def log_file(path: Path, **limits: int) -> LogFile:
    return LogFile(path, Limits(**limits), Mask([SECRET]))


def rows(path: Path) -> list[dict[str, Any]]:
    """Every line, with what is said for all of its row."""
    found = [json.loads(row) for row in path.read_text().splitlines()]
    assert all(row["lines"] == len(row["messages"]) for row in found)
    return [{**row, "message": message} for row in found for message in row["messages"]]


def test_lines_are_read_back_from_any_place(path: Path) -> None:
    log = log_file(path)
    for n in range(MOST_LINES + 500):
        log.write("build", f"line {n}")
    log.close()

    pages: list[Page] = []
    offset = 0
    while not pages or not pages[-1].complete:
        pages.append(read_lines(path, offset))
        offset = pages[-1].offset

    assert [len(page.lines) for page in pages] == [MOST_LINES, 500]
    assert [line.message for page in pages for line in page.lines] == [f"line {n}" for n in range(MOST_LINES + 500)]


def test_half_a_line_is_not_read_and_holds_nobody_up(path: Path) -> None:
    """A supervisor that was killed while it wrote leaves one."""
    log = log_file(path)
    log.write("build", "whole")
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])

    page = read_lines(path, 0)

    assert [line.message for line in page.lines] == ["whole"]
    assert (page.offset, page.complete) == (len(whole), True)


def test_a_spoilt_line_is_replaced_by_a_marker(path: Path) -> None:
    log = log_file(path)
    log.write("build", "before")
    log.close()
    path.write_bytes(path.read_bytes() + b"\0\0\0{\n" + path.read_bytes())

    messages = [line.message for line in read_lines(path, 0).lines]

    assert messages == ["before", "… a part of the log file cannot be read", "before"]


def test_a_level_is_written_where_it_is_known(path: Path) -> None:
    log = log_file(path)
    log.write("clone", "of ours", LogLevel.WARN)
    log.add("build", ["error: of theirs"])
    log.close()

    assert [line.level for line in read_lines(path, 0).lines] == [LogLevel.WARN, None]


def test_what_a_command_says_is_readable_and_masked_before_it_is_written(path: Path) -> None:
    log = log_file(path)
    splitter = log.splitter()
    for chunk in (b"10%\r20%\nit is correct-", b"horse-battery\n::add-mask::hunter2-hunter2\n\0hunter2", b"-hunter2"):
        log.add("build", splitter.feed(chunk))
    log.add("build", splitter.end())
    log.close()

    assert [row["message"] for row in rows(path)] == ["20%", "it is ***", "::add-mask::***", "***"]
    assert log.excerpt == ["20%", "it is ***", "::add-mask::***", "***"]


def test_what_we_say_ourselves_is_masked_too_and_has_no_line_feeds(path: Path) -> None:
    log = log_file(path, line_bytes=40)
    log.write("build", f"$ one\n two {SECRET}\n" + "x" * 50)
    log.close()

    assert [row["message"] for row in rows(path)] == [
        "$ one",
        " two ***",
        "x" * 40 + " … [10 bytes of this line cut]",
    ]


def test_an_excerpt_is_of_one_step_and_plain(path: Path) -> None:
    log = log_file(path)
    log.write("install", "before")
    log.begin()
    log.add("build", [f"\x1b[31m{n}\x1b[0m" for n in range(30)])
    log.close()

    assert log.excerpt == [str(n) for n in range(10, 30)]


def test_within_its_budget_a_log_is_whole(path: Path) -> None:
    log = log_file(path, log_lines=5000, log_bytes=5000 * 4)
    log.add("build", [f"{n:04}" for n in range(2500)])
    for n in range(2500, 5000):
        log.add("build", [f"{n:04}"])
    log.close()

    assert [row["message"] for row in rows(path)] == [f"{n:04}" for n in range(5000)]


@pytest.mark.parametrize("limits", [{"log_lines": 4000}, {"log_bytes": 16000}, {"log_lines": 4000, "log_bytes": 16000}])
def test_beyond_its_budget_it_counts_what_is_missing(path: Path, limits: dict[str, int]) -> None:
    messages = [f"é{n}" for n in range(10_000, 15_000)]
    log = log_file(path, **limits)
    for at in range(0, 5000, 7):
        log.add("build", messages[at : at + 7])
    log.close()

    written = rows(path)
    at = next(n for n, row in enumerate(written) if "metadata" in row)
    missing = messages[at : at - len(written) + 1]
    assert [row["message"] for row in written[:at]] == messages[:at]
    assert [row["message"] for row in written[at + 1 :]] == messages[at - len(written) + 1 :]
    assert written[at]["metadata"] == {"missingLines": len(missing), "missingBytes": len("".join(missing).encode())}
    assert (written[at]["level"], written[at]["source"]) == ("warn", "system")
