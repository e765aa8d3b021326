"""Which level a line has by its own words, where nobody says it. Rather none than a wrong one.

Rule: a tool says at the beginning of a line what it is, or where it is. Words in the middle of a sentence say nothing:
`0 errors`, `error-handler.js built`.
"""

import re

from domain.log import LogLevel
from domain.log_text import plain

_SAID = r"(?:\[[\w-]+\])?:(?=\s|$)(?!\s*0\b)"
_PLACE = r"[^\s:][^:]*:\d+(?::\d+)?: "
_PLACE_IN_BRACKETS = r"[^\s(][^(]*\(\d+(?:,\d+)*\)\s?: "
_PROGRAM = r"[\w./+-]+: "

LEVELS: dict[LogLevel, tuple[str, ...]] = {
    LogLevel.ERROR: (
        r"(?i:fatal error|fatal|error|critical)" + _SAID,  # most; rust has a code in brackets
        r"(?:ERROR|FATAL)\b(?![:=-])(?!\s*0\b)",  # webpack, pnpm, loggers
        r"\[(?:ERROR|FATAL|CRITICAL|error|fatal)\](?=\s)",  # maven, loggers
        _PLACE + r"(?:fatal )?error(?=[: ])",  # gcc, clang, mypy, javac
        _PLACE_IN_BRACKETS + r"(?:fatal )?error\b",  # tsc, MSVC, C#
        r"\S+:\d+:\d+ - error\b",  # tsc for people
        r"\d+:\d+\s+error\s",  # eslint
        r"✖ [1-9]\d* problems? \([1-9]\d* error",  # eslint
        _PROGRAM + r"(?:fatal )?error: ",  # ld, collect2, clang
        r"\S+:(?: \S+:)? undefined reference to ",  # ld
        r"npm (?:ERR!|error)(?:\s|$)",
        r"error (?:Command|An unexpected error|Couldn't|Could not|[A-Z]\w*Error)\b",  # yarn 1
        r"ERR_PNPM_\w+",
        r"Traceback \(most recent call last\):",
        r"(?:Uncaught )?(?:[A-Za-z_][\w.]*\.)?[A-Z]\w*(?:Error|Exception)(?:: |$)",  # Python, Java, Node
        r"(?:Exception in thread |Caused by: )",  # Java
        r"E {2,}\S",  # pytest
        r"(?:FAILED|ERROR) \S+(?:::| - )",  # pytest's summary
        r"(?=\S*::)\S++ (?:FAILED|ERROR)\b",  # pytest -v
        r"=+ (?:ERRORS|FAILURES|.*\b[1-9]\d* (?:failed|errors?)\b.*) =+$",  # pytest
        r"(?:FAIL|ERROR): test\w* \(",  # unittest
        r"FAILED \((?:failures|errors)=",  # unittest
        r"FAIL (?:\S+/)?\S+\.[cm]?[jt]sx?\b",  # jest
        r"Tests:\s+[1-9]\d* failed\b",  # jest
        r"Found [1-9]\d* errors?\b",  # tsc, mypy
        r"--- FAIL: ",  # go
        r"FAIL(?:\t|$)",  # go
        r"panic: ",  # go
        r"[\w./-]+\.go:\d+:\d+: ",  # go build, go vet
        r"thread '.*' (?:\(\d+\) )?panicked at ",  # rust
        r"test \S+ \.\.\. FAILED$",  # rust
        r"test result: FAILED\b",  # rust
        r"g?make(?:\[\d+\])?: \*\*\* ",
        r"CMake Error\b",
        r"FAILED: \S",  # ninja
        r"ninja: build stopped",
        r"FAILURE: ",  # gradle
        r"> Task \S+ FAILED",  # gradle
        r"BUILD FAILED\b",  # gradle, ant
        r"e: \S+\.kts?\b",  # kotlin
        r"E: \S",  # apt
        r"Err:\d+ ",  # apt
        r"#\d+ ERROR: ",  # docker build
        r"(?:\S*/)?(?:ba|da|z|k)?sh: .*(?:not found|No such file or directory|Permission denied)$",
    ),
    LogLevel.WARN: (
        r"(?i:warning|warn)" + _SAID,
        r"(?:WARNING|WARN)\b(?![:=-])(?!\s*0\b)",
        r"\[(?:WARNING|WARN|warning|warn)\](?=\s)",
        _PLACE + r"warning(?=[: ])",
        _PLACE_IN_BRACKETS + r"warning\b",
        r"\d+:\d+\s+warning\s",  # eslint
        _PROGRAM + r"warning: ",
        r"npm (?:WARN|warn)\b",
        r"warning (?:[\"A-Z]|\S+ > |package\.json:)",  # yarn 1
        r"\S+\.py:\d+: \w*Warning: ",
        r"\(node:\d+\) (?:\[\w+\] )?\w*Warning: ",
        r"CMake (?:Deprecation )?Warning\b",
        r"w: \S+\.kts?\b",  # kotlin
        r"W: \S",  # apt
    ),
    LogLevel.DEBUG: (
        r"(?i:debug)" + _SAID,
        r"(?:DEBUG|TRACE)\b(?![:=-])",
        r"\[(?:DEBUG|TRACE|debug|trace)\](?=\s)",
    ),
}
"""How lines begin, after what `_BEFORE` lets pass. The first level that fits counts."""

_MOMENT = r"\[?(?:\d{4}-\d\d-\d\d[T ])?\d\d:\d\d:\d\d(?:[.,]\d++)?(?:Z|[+-]\d\d:?\d\d)?\]? "
_BEFORE = rf"\s*+(?:#\d++ \d++\.\d++ )?+(?:{_MOMENT})?+\s*+"
"""Indentation, the clock of `docker build`, a time. Nothing here is tried twice: a hostile line costs its length."""

_LENGTH = 400
"""Characters of a line that are looked at."""

_LEVEL = re.compile(
    _BEFORE + "(?:" + "|".join(f"(?P<{level}>{'|'.join(patterns)})" for level, patterns in LEVELS.items()) + ")"
)

WORDS = ("error", "warn", "fail", "exception", "panic", "sh: ", r"\.go:", "undefined ref")
STARTS = r"\[?(?:debug|trace|fatal|critical)|[ew]:|e  |err[:_]|npm err|caused by|make|gmake|ninja"
"""Every line with a level has one of these somewhere, or begins like that: patterns of RE2, whatever the case."""


def level_of(text: str) -> LogLevel | None:
    """What a line says of itself; None when it says nothing."""
    said = _LEVEL.match(plain(text[: 2 * _LENGTH])[:_LENGTH])
    return LogLevel(said.lastgroup) if said and said.lastgroup else None
