"""What lines say of themselves becomes level, step and metadata; it never becomes anything else."""

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.log import LogLevel, LogLine
from domain.log_meaning import Meaning
from domain.masking import Mask
from tests.domain.lines import line

SECRET = "correct-horse-battery"


def read(*messages: str, step: str | None = None, **fields: object) -> list[LogLine]:
    return Meaning(Mask([SECRET])).read([line(message, step=step, **fields) for message in messages])


def steps(lines: list[LogLine]) -> list[str | None]:
    return [found.step for found in lines]


def test_an_ordinary_line_is_handed_on_as_it_is() -> None:
    lines = [line(f"[{n}/9] built", step="build") for n in range(9)]
    assert all(after is before for after, before in zip(Meaning(Mask([SECRET])).read(lines), lines, strict=True))


def test_a_level_that_the_provider_says_counts() -> None:
    assert read("error: not so bad", level="warn")[0].level == LogLevel.WARN
    assert read("error: bad")[0].level == LogLevel.ERROR


@pytest.mark.parametrize(
    ("text", "level", "message", "metadata"),
    [
        ("::error::boom", "error", "boom", None),
        ("::warning file=a.c,line=3,title=Odd::boom", "warn", "boom", {"file": "a.c", "line": 3, "title": "Odd"}),
        (
            "::error file=a.c,line=1,endLine=2,col=3,endColumn=4::x",
            "error",
            "x",
            {"file": "a.c", "line": 1, "endLine": 2, "col": 3, "endColumn": 4},
        ),
        ("::notice::see", "info", "see", None),
        ("  ::Debug::see", "debug", "see", None),
        ("::error title=a%2Cb%3A 100%25::50%25 of%0Ait%0D", "error", "50% of it", {"title": "a,b: 100%"}),
        ("::error::%253A", "error", "%3A", None),
        ("::error file=C:/a.c,line=one,line=99999999999,evil=1::x", "error", "x", {"file": "C:/a.c"}),
        ("::error file=,line=::x", "error", "x", None),
        ("::error::a::b", "error", "a::b", None),
        ("::error::", "error", "", None),
        ("##[error]Process completed with exit code 1.", "error", "Process completed with exit code 1.", None),
        ("##[warning file=a.c;line=3]old", "warn", "old", {"file": "a.c", "line": 3}),
    ],
)
def test_an_annotation_is_its_message_with_level_and_place(
    text: str, level: str, message: str, metadata: dict[str, Any] | None
) -> None:
    (found,) = read(text)
    assert (found.level, found.message, found.metadata) == (level, message, metadata)


@pytest.mark.parametrize(
    "text",
    [
        *("std::error::Error", "::", "::::", "::unknown::x", "::error boom", "a ::error::b", "::set-output name=a::b"),
        *("::set-env name=PATH::/evil", "::save-state name=a::b", "::add-path::/evil", "::add-matcher::x.json"),
        *("^^^ +++", "---", "------", "--- ", "+++", "section_start:x:y", "::group::", "::stop-commands::"),
        *("--- a/main.c", "+++ b/main.c", "--- /dev/null", "--- main.c\t2024-05-01", "--- Logging error ---"),
        "--- PASS: TestAdd (0.00s)",
    ],
)
def test_everything_else_stays_as_it_is(text: str) -> None:
    found, after = read(text, "after", step="build")
    assert (found.message, found.level, found.step, found.metadata) == (text, None, "build", None)
    assert after.step == "build"


def test_lines_of_a_group_have_its_title_as_their_step_and_the_providers_beside() -> None:
    lines = read("before", "::group::Install", "in", "::error::boom", "::endgroup::", "after", step="build")
    assert steps(lines) == ["build", "Install", "Install", "Install", "Install", "build"]
    assert [found.metadata for found in lines] == [None, *[{"outerStep": "build"}] * 4, None]
    assert lines[1].message == "::group::Install"
    assert (lines[3].message, lines[3].level) == ("boom", LogLevel.ERROR)


def test_where_the_provider_says_no_step_there_is_no_outer_one() -> None:
    assert [(found.step, found.metadata) for found in read("::group::A", "x")] == [("A", None), ("A", None)]


def test_a_group_ends_where_the_next_begins() -> None:
    assert steps(read("::group::A", "a", "##[group]B", "b", "##[endgroup]", "c")) == ["A", "A", "B", "B", "B", None]


def test_buildkites_headings_last_until_the_next() -> None:
    texts = ["--- :npm: Install", "a", "~~~ Quiet", "b", "+++ \x1b[32mTests\x1b[0m", "c", "^^^ +++", "d"]
    expected = [":npm: Install"] * 2 + ["Quiet"] * 2 + ["Tests"] * 4
    assert steps(read(*texts)) == expected


def test_gitlabs_sections_lie_in_each_other() -> None:
    texts = [
        "section_start:1:outer[collapsed=true]\r\x1b[0KOuter section",
        "a",
        "\x1b[0Ksection_start:2:inner\r\x1b[0K",
        "b",
        "section_end:3:inner\r\x1b[0Ksection_start:4:next\r\x1b[0KNext",
        "c",
        "section_end:5:outer\r\x1b[0K",
        "d",
    ]
    outer, inner, following = "Outer section", "inner", "Next"
    assert steps(read(*texts)) == [outer, outer, inner, inner, following, following, following, None]


def test_groups_of_steps_that_run_side_by_side_do_not_mix() -> None:
    lines = [line("::group::A", step="one"), line("x", step="two"), line("y", step="one")]
    assert steps(Meaning(Mask([])).read(lines)) == ["A", "two", "A"]


def test_commands_are_text_while_they_are_stopped() -> None:
    texts = ["::stop-commands::t0k", "::error::no", "::group::no", "::other::", "--- Yes", "::t0k::", "::error::yes"]
    lines = read(*texts)
    assert [found.message for found in lines] == [*texts[:-1], "yes"]
    assert [found.level for found in lines[:-1]] == [None] * 6
    assert steps(lines) == [None] * 4 + ["Yes"] * 3


def test_what_a_build_asks_to_mask_is_masked_and_remembered() -> None:
    first = Meaning(Mask([]))
    lines = first.read([line("::add-mask::hunter2-hunter2"), line("it is hunter2-hunter2")])
    second = Meaning(Mask([]), first.memory)
    again = second.read([line("still hunter2-hunter2")])
    assert [found.message for found in lines + again] == ["::add-mask::***", "it is ***", "still ***"]
    assert second.memory == first.memory


def test_a_secret_in_any_part_of_a_line_is_masked() -> None:
    lines = read(
        f"::error file={SECRET},title={SECRET}::{SECRET}",
        f"::group::{SECRET}",
        "::error::" + SECRET.replace("-", "%2D") + " 100%25 " + SECRET,
        step=f"step {SECRET}",
        metadata={"a": [SECRET, {SECRET: f"x{SECRET}"}]},
    )
    assert SECRET not in repr(lines)
    assert lines[0].metadata == {"a": ["***", {"***": "x***"}], "file": "***", "title": "***"}


def test_a_secret_that_comes_out_of_an_escape_is_masked() -> None:
    meaning = Meaning(Mask(["50%-horse-battery"]))
    (found,) = meaning.read([line("::error title=50%25-horse-battery::50%25-horse-battery")])
    assert (found.message, found.metadata) == ("***", {"title": "***"})


def test_words_of_a_provider_are_made_harmless_too() -> None:
    deep: dict[str, Any] = {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}, "n": 1.5, "t": True, "o": object()}
    (found,) = read("x", step="\x1b]0;evil\x07in\nstall" + "x" * 300, metadata={"k\x00": "\x1b[2Jv", **deep})
    assert found.step == ("install" + "x" * 300)[:200]
    assert found.metadata is not None
    assert (found.metadata["k"], found.metadata["n"], found.metadata["t"]) == ("v", 1.5, True)
    assert found.metadata["a"] == {"b": {"c": {"d": {"e": None}}}}


def test_a_message_of_several_lines_is_several_lines_of_the_log() -> None:
    lines = read("one\r\n::group::A\nthree", step="build")
    assert [(found.message, found.step) for found in lines] == [("one", "build"), ("::group::A", "A"), ("three", "A")]


def test_memory_is_bounded_whatever_is_opened() -> None:
    meaning = Meaning(Mask([]))
    for n in range(300):
        text = f"section_start:1:{n}{'n' * 190}\r{'t' * 1000}"
        meaning.read([line(text, step=f"step {n % 70}") for _ in range(20)])
    assert sum(len(groups) for groups in meaning.memory["groups"].values()) <= 500
    assert len(repr(meaning.memory)) < 300_000


CORPUS = [
    *("plain", "::group::A", "::endgroup::", "::error::x", "--- B", "+++ C", "::stop-commands::t", "::t::"),
    *("section_start:1:a\rS", "section_end:1:a\r", "::add-mask::masked-value", "has masked-value", "warning: w"),
    *(f"with {SECRET}", "a\nb", "10%\r20%"),
]


@given(st.lists(st.tuples(st.sampled_from(CORPUS), st.sampled_from([None, "one", "two"])), max_size=25), st.data())
def test_it_makes_no_difference_where_another_takes_over(
    said: list[tuple[str, str | None]], data: st.DataObject
) -> None:
    lines = [line(message, step=step) for message, step in said]
    whole = Meaning(Mask([SECRET])).read(lines)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(lines)), max_size=4)))
    memory: dict[str, Any] = {}
    parts = []
    for begin, end in itertools.pairwise([0, *cuts, len(lines)]):
        meaning = Meaning(Mask([SECRET]), memory)
        parts += meaning.read(lines[begin:end])
        memory = meaning.memory
    assert parts == whole


INJECTIONS = [
    f"{before}{evil}{after}"
    for before in ("", " ", "\t", "x ", "\x1b[0m", "\r", "\x00")
    for after in ("", "\n::error::x", "\x07", "\r", "%0A::error::x", "\u2028::error::x")
    for evil in (
        *("\x1b]8;;javascript:alert(1)\x07x", "\x1b]52;c;ZXZpbA==\x07", "\x1b[2J\x1b[1;1H", "\u202egpj.exe", "\x9b31m"),
        *("<script>alert(1)</script>", "::add-mask::a", "::set-env name=LD_PRELOAD::/x", "::stop-commands::"),
        *("2031-01-01T00:00:00Z [error] forged", '{"level":"error","timestamp":0}', "::error file=javascript:x::y"),
        *("section_start:1:\x1b[2Ja\r\x1b[0Kt", "--- \x1b]0;t\x07title"),
    )
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_a_planted_line_annotates_and_does_no_more(text: str) -> None:
    """Level, step and metadata of the lines in question are all that it may reach; time and source are not its own."""
    given_line = line(text, source="build", step="build")
    for found in Meaning(Mask([SECRET])).read([given_line]):
        assert (found.timestamp, found.source) == (given_line.timestamp, "build")
        assert not set("\x00\x07\x08\r\n\x9b\x9d\u202e\u2028") & set(
            found.message + repr(found.metadata) + str(found.step)
        )
        assert "\x1b" not in str(found.step) + repr(found.metadata)
        assert found.message.count("\x1b") == found.message.count("\x1b[0m")
        assert set(found.metadata or {}) <= {"file", "line", "endLine", "col", "endColumn", "title", "outerStep"}


@pytest.mark.parametrize(
    "evil",
    ["::a ", "::error a=", "::error ,", ":: ", "##[a ", "section_start:1:", "section_end:1:a[", "--- ", "%25", "a=1,"],
)
@pytest.mark.parametrize("before", ["", "::error ", "::group::", "--- ", "section_start:1:x"])
def test_a_hostile_line_takes_no_longer_than_its_length(evil: str, before: str) -> None:
    """Would take hours if anything tried again and again."""
    Meaning(Mask([SECRET])).read([line(before + evil * (60_000 // len(evil))) for _ in range(5)])
