"""Chunks: what goes in comes out, heads tell the truth, and a filter finds what looking at each line would find."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import DeploymentError, ErrorCode
from domain.log import DeploymentLog, LogFilter, LogLevel, LogLine
from domain.log_text import plain
from store.chunks import (
    LIVE_EFFORT,
    MERGED_LINES,
    MOST_BYTES,
    Choice,
    Chunk,
    Head,
    Lines,
    columns_of,
    pack,
    split,
)
from store.log_match import Budget, Matcher

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
WORDS = [
    "error",
    "Error:",
    "ERROR",
    "",
    "straße",
    "STRASSE",
    "\x1b[31mred\x1b[0m",
    "er\x1b[1mror",
    "a\nb",
    "x" * 90,
    "ſ",
]
MOMENTS = st.integers(-(10**16), 10**7).map(lambda microseconds: NOON + timedelta(microseconds=microseconds))
"""Of now and long ago."""
STEPS = [None, "install", "build"]


def lines() -> st.SearchStrategy[list[LogLine]]:
    messages = st.one_of(st.text(max_size=20), st.lists(st.sampled_from(WORDS), max_size=4).map(" ".join))
    return st.lists(
        st.builds(
            LogLine,
            timestamp=MOMENTS,
            message=messages,
            level=st.none() | st.sampled_from(LogLevel),
            step=st.sampled_from(STEPS),
            source=st.sampled_from(["build", "deploy", "system"]),
            metadata=st.none()
            | st.fixed_dictionaries({"outerStep": st.sampled_from(STEPS[1:]), "line": st.integers(0, 9)}),
        ),
        min_size=1,
        max_size=40,
    )


def read(chunk: Chunk) -> list[DeploymentLog]:
    opened = Lines(chunk)
    return opened.logs("d", range(opened.count))


def stored(number: int, line: LogLine) -> DeploymentLog:
    """What is handed out of a line: times to the millisecond, no NUL."""
    return DeploymentLog(
        **{**asdict(line), "level": line.level or LogLevel.INFO, "message": line.message.replace("\x00", "")},
        id=str(number),
        deployment_id="d",
    ).model_copy(update={"timestamp": whole(line.timestamp)})


def whole(moment: datetime) -> datetime:
    """Without what is below a millisecond."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@given(lines(), st.integers(1, 10**9))
def test_lines_come_out_of_a_chunk_as_they_went_in(written: list[LogLine], first: int) -> None:
    chunk = pack(columns_of(written), LIVE_EFFORT, first)
    assert read(chunk) == [stored(first + index, line) for index, line in enumerate(written)]
    assert pack(Lines(chunk).columns(), LIVE_EFFORT, first) == chunk


@given(lines())
def test_a_head_tells_what_is_in_the_chunk(written: list[LogLine]) -> None:
    chunk = pack(columns_of(written), LIVE_EFFORT)
    there = read(chunk)
    head = chunk.head.at(7)
    assert (head.first_line, head.last_line, head.lines) == (7, 6 + len(written), len(written))
    assert (head.began, head.ended) == (min(line.timestamp for line in there), max(line.timestamp for line in there))
    assert head.bytes == sum(len(line.message.encode()) for line in there)
    steps = {line.step for line in there} | {line.metadata["outerStep"] for line in there if line.metadata}
    assert head.steps == sorted(step for step in steps if step)


def test_what_has_no_utf8_or_no_json_is_kept_as_near_as_can_be() -> None:
    metadata = {"title": "\ud800", "id": 2**70, "since": object}
    line = LogLine(timestamp=NOON, message="a\ud800b", step="\ud800\x00", metadata=metadata)
    chunk = pack(columns_of([line]), LIVE_EFFORT)
    entry = read(chunk)[0]
    assert (entry.message, chunk.head.steps) == ("a?b", ["?"])
    assert entry.metadata == {"title": "?", "id": 2**70, "since": str(object)}


def test_parts_are_small_enough_for_a_chunk_and_no_line_is_too_large_for_one() -> None:
    sizes = [1, MOST_BYTES // 2, MOST_BYTES // 2, 2 * MOST_BYTES, *[100] * 12_000]
    columns = columns_of([LogLine(timestamp=NOON, message="x" * size) for size in sizes])
    parts = list(split(columns, MERGED_LINES))
    assert [len(message) for part in parts for message in part.messages] == sizes
    for part in parts:
        assert len(part.messages) <= MERGED_LINES
        assert len(part.messages) == 1 or sum(map(len, part.messages)) <= MOST_BYTES
    assert len(parts) == 6


def test_a_chunk_that_sql_wrote_is_read() -> None:
    rows = [
        [1_772_366_400_123, "warn", "build", "deploy", {"line": 3}, "a\nb"],
        [1_772_366_400_100, "info", None, "build", None, ""],
    ]
    head = Head(1, 2, NOON, NOON, 6, 3, ["build"], 3, "json")
    first, second = read(Chunk(head, json.dumps(rows).encode()))
    assert (first.message, first.level, first.step, first.source, first.metadata) == (
        "a\nb",
        "warn",
        "build",
        "deploy",
        {"line": 3},
    )
    assert (second.message, second.level, second.step, second.timestamp) == (
        "",
        "info",
        None,
        NOON + timedelta(milliseconds=100),
    )


def naive(wanted: LogFilter, line: DeploymentLog) -> bool:
    """The filter as it is described, line by line."""
    text = plain(line.message)
    if wanted.query and not wanted.case_sensitive:
        # RE2 folds one character to one; what Python folds to two (ß) stays.
        found = re.search(re.escape(wanted.query), text, re.IGNORECASE) is not None
    else:
        found = (wanted.query or "") in text
    return (
        found
        and (wanted.level is None or line.level in wanted.level.and_above)
        and (wanted.step is None or line.step == wanted.step or (line.metadata or {}).get("outerStep") == wanted.step)
        and (wanted.source is None or line.source == wanted.source)
        and (wanted.since is None or line.timestamp >= whole(wanted.since))
        and (wanted.until is None or line.timestamp < whole(wanted.until))
    )


def filters() -> st.SearchStrategy[LogFilter]:
    return st.builds(
        LogFilter,
        level=st.none() | st.sampled_from(LogLevel),
        step=st.sampled_from(STEPS),
        source=st.none() | st.sampled_from(["build", "deploy", "system"]),
        since=st.none() | MOMENTS,
        until=st.none() | MOMENTS,
        query=st.none() | st.sampled_from([*(word for word in WORDS if "\x1b" not in word), "r", " ", ".", "S"]),
        case_sensitive=st.booleans(),
    )


@given(lines(), filters(), st.integers(0, 50))
def test_a_filter_finds_what_looking_at_each_line_finds(written: list[LogLine], wanted: LogFilter, start: int) -> None:
    chunk = pack(columns_of(written), LIVE_EFFORT)
    expected = [index for index, line in enumerate(read(chunk)) if naive(wanted, line)]
    start = min(start, len(written))
    found, looked = Matcher(wanted).find(Lines(chunk), start, len(written), None, Budget(60))
    assert (found, looked) == ([index for index in expected if index >= start], len(written))
    if expected:
        assert Choice(wanted).takes(chunk.head)


def find(texts: Sequence[str], **wanted: Any) -> list[int]:
    chunk = pack(columns_of([LogLine(timestamp=NOON, message=text) for text in texts]), LIVE_EFFORT)
    return Matcher(LogFilter.model_validate(wanted)).find(Lines(chunk), 0, len(texts), None, Budget(60))[0]


@pytest.mark.parametrize(
    ("pattern", "indexes"),
    [
        ("^b", [1, 3]),
        ("b$", [0, 3]),
        ("^$", [2]),
        ("a|x", [0, 1]),
        (r"a\sb", []),  # no match reaches over the end of a line
        ("a[^z]b", []),
        (r"\Ab", [1, 3]),
        (r"b\z", [0, 3]),
        ("(?-m)^b", [1, 3]),
        ("(?s).*", [0, 1, 2, 3]),
        ("(?i)B", [0, 1, 3]),
        (r"\bb\b", [3]),
    ],
)
def test_each_line_is_a_text_of_its_own_to_a_regular_expression(pattern: str, indexes: list[int]) -> None:
    assert find(["ab", "bxa", "", "b"], query=pattern, regex=True) == indexes


@pytest.mark.parametrize(
    "pattern", [r"(a)\1", "(?=a)", "(?<!a)b", "(", "a{1001}", "[z-a]", r"\pX", "(?P<a>", "a)|(b", "(a{900}){900}"]
)
def test_what_re2_does_not_take_is_refused_and_said(pattern: str) -> None:
    with pytest.raises(DeploymentError) as refused:
        Matcher(LogFilter(query=pattern, regex=True))
    assert refused.value.code is ErrorCode.INVALID_REQUEST
    assert refused.value.fields[0][0] == "/query/q"
    Matcher(LogFilter(query=pattern))


def test_who_has_no_time_left_gets_further_all_the_same() -> None:
    texts = ["x" * 1_000] * 100
    opened = Lines(pack(columns_of([LogLine(timestamp=NOON, message=text) for text in texts]), LIVE_EFFORT))
    matcher, places = Matcher(LogFilter(query="y")), [0]
    while places[-1] < len(texts):
        found, looked = matcher.find(opened, places[-1], len(texts), None, Budget(0))
        assert found == []
        assert looked > places[-1]
        places.append(looked)
    assert len(places) > 3


def test_columns_of_nothing_are_no_chunk() -> None:
    assert list(split(columns_of([]), MERGED_LINES)) == []
