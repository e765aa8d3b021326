"""Secret values never reach a log, however they are written; ordinary words always do."""

import base64
import json
import random
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.corpus import recorded
from domain.configuration import HIDDEN
from domain.masking import Mask, unmasked_reason
from tests.spellings import SPELLINGS, all_escaped, in_base64, percent

KEY = "-----BEGIN KEY-----\n" + "\n".join(base64.b64encode(bytes(range(n, n + 48))).decode() for n in range(4))
ODD = "aZ09 +/=%\\'\"$&<;:.,-_~#@!()[]{}|^`né\u0301ß中😀\u200d"
visible = st.sampled_from(ODD) | st.characters(codec="utf-8", exclude_categories=("Cc", "Cf", "Zl", "Zp"))
secrets = st.text(visible, min_size=6, max_size=50).map(str.strip).filter(lambda value: unmasked_reason(value) is None)
surroundings = st.text(visible | st.sampled_from("ux0n25%\\"), max_size=12)


spellings = st.sampled_from(sorted(SPELLINGS))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("value", ['p@ss "w"o\'r\\d/+é\n😀 $x%41&<b>', "correct-horse-battery", "Zm9vYmFy+/==", KEY])
def test_every_spelling_is_found(spelling: str, value: str) -> None:
    spelled = SPELLINGS[spelling](value)
    masked = Mask([value]).text(f"value: {spelled}; so")
    assert HIDDEN in masked
    frame = SPELLINGS[spelling]("")
    # Quotes around it, padding, and bits that it shares with its neighbours may stay.
    assert len(masked.replace(HIDDEN, "")) <= len("value: ; so") + len(frame) + 4
    assert value not in masked


@settings(max_examples=300, deadline=None)
@given(spelling=spellings, value=secrets, before=surroundings, after=surroundings)
def test_a_value_is_found_whatever_stands_around_it(spelling: str, value: str, before: str, after: str) -> None:
    spelled = SPELLINGS[spelling](value)
    masked = Mask([value]).text(before + spelled + after)
    assert HIDDEN in masked
    assert value not in masked
    kept = len(masked) - masked.count(HIDDEN) * len(HIDDEN)
    assert kept <= len(before) + len(SPELLINGS[spelling]("")) + len(after) + 6


@settings(max_examples=200, deadline=None)
@given(
    spelling=spellings,
    value=secrets,
    code=st.sampled_from(["\x1b[31m", "\x1b[m", "\x1b[38;5;12m", "\x1b[K", "\x1b]0;x\x07", "\x9b1m", "\x08", "\u200b"]),
    data=st.data(),
)
def test_control_sequences_hide_nothing_from_the_mask(
    spelling: str, value: str, code: str, data: st.DataObject
) -> None:
    spelled = SPELLINGS[spelling](value.replace("\u200d", ""))
    places = sorted(data.draw(st.sets(st.integers(0, len(spelled)), min_size=1, max_size=5)))
    parts = [spelled[start:end] for start, end in zip([0, *places], [*places, len(spelled)], strict=True)]
    masked = Mask([value.replace("\u200d", "")]).text(f"say {code.join(parts)} so")
    kept = masked.replace(code, "").replace(HIDDEN, "")
    assert len(kept) <= len("say  so") + len(SPELLINGS[spelling]("")) + 6


@settings(max_examples=50, deadline=None)
@given(values=st.lists(secrets, min_size=1, max_size=3), data=st.data())
def test_lines_masked_together_read_as_if_each_were_masked_alone(values: list[str], data: st.DataObject) -> None:
    words = st.sampled_from([*values, *(value[:5] for value in values), "word ", "\x1b[1m", "\uffff", "\n", ""])
    lines = data.draw(st.lists(st.lists(words, max_size=4).map("".join), max_size=8))
    mask = Mask(values)
    assert mask.texts(lines) == [mask.text(line) for line in lines]


@pytest.mark.parametrize(
    ("values", "text", "shown"),
    [
        (["s3cret-value"], "token=s3cret-value;", "token=***;"),
        (["s3cret-value", "s3cret-value-2"], "s3cret-value-2", "***"),
        (["abcdef-1", "ef-1ghi"], "xabcdef-1ghix", "x***x"),
        (["one-secret", "two-secret"], "one-secrettwo-secret", "***"),
        (["aba-aba"], "aba-aba-aba-aba", "***"),
        (["-----BEGIN-----\nMIIEpAIBAAK\n-----END-----"], "key: MIIEpAIBAAK", "key: ***"),
        (["-----BEGIN-----\r\nMIIEpAIBAAK\r\n"], '"-----BEGIN-----\\nMIIEpAIBAAK\\n"', '"***\\n"'),
        (["one\ntwo\nthree"], "one two three", "one two three"),
        (["one\ntwo\nthree"], "'one\\ntwo\\nthree'", "'***'"),
        (["a.c*e+[x"], "a.c*e+[x and abcce", "*** and abcce"),
        (["s3cret-value\n"], "s3cret-value", "***"),
        (["se\u0301cret-1"], "s\u00e9cret-1", "***"),
        (["short"], "short words stay readable", "short words stay readable"),
        (["s3cret-value"], "\x1b[31ms3c\x1b[0mret-value\x1b[1m on", "\x1b[31m***\x1b[0m\x1b[1m on"),
        (["s3cret-" * 20], "\x1b[1m".join("s3cret-" * 20), "***" + "\x1b[1m" * 139),
        (["s3cret-value"], "half \ud800 s3cret-value", "half \ud800 ***"),
        (["\ud800-secret"], "x \ud800-secret", "x ***"),
        ([], "nothing to hide", "nothing to hide"),
    ],
)
def test_exactly_the_value_is_masked(values: list[str], text: str, shown: str) -> None:
    assert Mask(values).text(text) == shown


@pytest.mark.parametrize("width", [60, 64, 76])
@pytest.mark.parametrize("before", ["", "x", "user:", "{'k': '"])
def test_base64_and_hex_that_a_tool_breaks_into_lines_are_found_in_each(width: int, before: str) -> None:
    mask = Mask([KEY])
    for digits in (in_base64(KEY, before), (before + KEY).encode().hex()):
        lines = [digits[start : start + width] for start in range(0, len(digits), width)]
        kept = "".join(mask.texts(lines)).replace(HIDDEN, "")
        assert len(kept) < 2 * len(before) + len(lines) * 14


def test_a_value_of_any_length_is_found_whole_and_by_its_lines() -> None:
    chance = random.Random(1)
    alphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOP0123456789+/="
    values = ["".join(chance.choices(alphabet, k=length)) for length in (6, 100, 4000, 36_000)]
    values.append("\n".join("".join(chance.choices(alphabet, k=70)) for _ in range(100)))
    mask = Mask([*values])
    for value in values:
        assert mask.text(f"<{value}>").replace(HIDDEN, "").strip() == "<>"
        assert mask.text(f"<{quote(value, safe='')}>") == "<***>"
        assert mask.text(f"<{json.dumps(value)[1:-1]}>") == "<***>"
        assert mask.texts(value.split("\n")) == ["***"] * (1 + value.count("\n"))


def test_a_cut_line_shows_nothing_of_a_value_when_it_was_masked_with_its_overlap() -> None:
    value = "é-secret-" + "value-" * 15
    mask = Mask([value])
    for spelled in (value, all_escaped(value), percent(value)):
        for beyond in range(0, len(spelled), 7):
            line = "." * (1000 - len(spelled) + beyond) + spelled + "." * 2 * mask.longest
            assert mask.text(line[: 1000 + mask.longest])[:1000].strip(".") in ("***", "**", "*", "")


def test_a_build_asks_for_a_mask_from_then_on() -> None:
    mask = Mask(["known-secret"])
    said = ["before asked-for", "::add-mask::asked-for", "after asked-for", '{"t": "asked\\u002dfor"}', "known-secret"]
    assert mask.texts(said) == ["before asked-for", "::add-mask::***", "after ***", '{"t": "***"}', "***"]
    assert mask.added == ["asked-for"]
    later = Mask(["known-secret"])
    later.add("asked-for")
    assert (later.text("asked-for"), later.added) == ("***", ["asked-for"])


@pytest.mark.parametrize(
    ("line", "shown", "added"),
    [
        ("::add-mask::two%0Alines-of it%25", "::add-mask::***", ["two\nlines-of it%"]),
        ("  \x1b[0m::add-mask::asked-for ", "  \x1b[0m::add-mask::***", ["asked-for"]),
        ("##[add-mask]asked-for", "##[add-mask]***", ["asked-for"]),
        ("::add-mask::short", "::add-mask::***", []),
        ("::add-mask::production", "::add-mask::***", []),
        ("::add-mask::***", "::add-mask::***", []),
        ("::add-mask::", "::add-mask::***", []),
        ("::add-mask::known-secret", "::add-mask::***", []),
        ("+ echo ::add-mask::asked-for", "+ echo ::add-mask::***", []),
        ("first\n::add-mask::asked-for\nlast", "first\n::add-mask::***\nlast", ["asked-for"]),
    ],
)
def test_a_line_that_asks_never_shows_the_value(line: str, shown: str, added: list[str]) -> None:
    mask = Mask(["known-secret"])
    assert mask.text(line) == shown
    assert mask.added == added


def test_masks_that_a_build_asks_for_are_bounded() -> None:
    mask = Mask([])
    mask.texts([f"::add-mask::value number {number}" for number in range(600)])
    assert len(mask.added) == 500
    mask = Mask([])
    mask.texts([f"::add-mask::{letter * 5000}{letter.upper()}" for letter in "abcdefghijklmnopqrst"])
    assert sum(map(len, mask.added)) <= 64 * 1024
    assert mask.text("::add-mask::" + "t" * 5000 + "T") == "::add-mask::***"


ORDINARY = [
    *("production", "Development", "staging", "localhost", "localhost:3000", "http://localhost:8080/", "password"),
    *("127.0.0.1", "0.0.0.0", "10.0.0.1", "1.2.3.4", "v18.17.0", "100000", "86400", "20240131", "2024-01-31"),
    *("aaaaaaaa", "--------", "= = = =", "******", "true", "false", "enabled", "node_modules", "package.json"),
    *("/usr/local/bin", "/usr/local/bin:/usr/bin:/bin", "./dist/assets", "~/.config", "C:\\Windows\\System"),
    *("https://example.com", "https://packages.example.org/", "us-east-1", "1,234,567", "12:30:59"),
]
SHORT = ["", "a", "on", "yes", "npm", "info", "test", "build", "error", "12345", "é😀é", " abc \n", "1.0.0", "/tmp"]


@pytest.mark.parametrize("value", ORDINARY)
def test_ordinary_values_are_not_masked(value: str) -> None:
    assert unmasked_reason(value) in ("too ordinary", "shorter than 6 characters")
    assert Mask([value]).text(f"has {value} {value}") == f"has {value} {value}"


@pytest.mark.parametrize("value", SHORT)
def test_short_values_are_not_masked(value: str) -> None:
    assert unmasked_reason(value) == "shorter than 6 characters"


@pytest.mark.parametrize(
    "value",
    [
        *(
            "hunter2!",
            "abc123",
            "s3cr3t",
            "correct horse",
            "letmein",
            "Production1",
            "123456789012",
            "1234-5678-9012-3456",
        ),
        *("https://user:pw@example.com/", "/hooks/T0000/B0000/XyZ", "deadbeef", "pass-word", "00000001-aaaa", "ünsafe"),
    ],
)
def test_a_value_that_is_no_plain_word_is_masked_however_weak(value: str) -> None:
    assert unmasked_reason(value) is None
    assert Mask([value]).text(f"has {value}.") == "has ***."


def test_nothing_of_ordinary_output_is_masked_by_mistake() -> None:
    """Output of npm, pip, gcc, Maven, pytest and others; secrets that are short, ordinary, or forty random ones."""
    lines = recorded()
    assert len(lines) > 10_000
    chance = random.Random(7)
    random_ones = ["".join(chance.choices(ODD + "bcdefghij123456", k=chance.randint(6, 60))) for _ in range(40)]
    mask = Mask([*SHORT, *ORDINARY, *random_ones, KEY])
    assert mask.texts(lines) is lines
