"""What a build says to whoever shows its log, in the three manners that are in use. It annotates lines and no more.

Sources: GitHub's "Workflow commands for GitHub Actions" (`::name key=value::message`, and `##[name]` as its own runner
prints them); Buildkite's "Managing log output" (`---`, `+++`, `~~~`); GitLab's "Custom collapsible sections".
"""

import re
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from domain.log import LogLevel
from domain.log_text import plain, readable

WORDS = ("section_",)
STARTS = r"::|##\[|--- |\+\+\+ |~~~ "
"""Every line with a command has one of these somewhere, or begins like that: patterns of RE2."""

_GITHUB = re.compile(r"\s*+::([A-Za-z-]+)(?: ([^:]*(?::(?!:)[^:]*)*))?::(.*)", re.DOTALL)
_GITHUB_PRINTED = re.compile(r"\s*+##\[([A-Za-z-]+)(?: ([^\]]*))?\](.*)", re.DOTALL)
_BUILDKITE = re.compile(r"(?:---|\+\+\+|~~~) (?!(?:FAIL|PASS|SKIP|BENCH): )(?!a/|b/|/dev/null)([^\t]*)(?<! ---)\Z")
_GITLAB = re.compile(r"section_(start|end):\d{1,20}:([^\s\[]{1,200})(?:\[[^\]\s]{0,200}\])?")

_LEVELS = {
    "debug": LogLevel.DEBUG,
    "notice": LogLevel.INFO,
    "warning": LogLevel.WARN,
    "error": LogLevel.ERROR,
}
_NUMBERS = {"line": "line", "endLine": "endLine", "col": "col", "column": "col", "endColumn": "endColumn"}
_TEXTS = ("file", "title")
_NUMBER = re.compile(r"\d{1,9}")
_TITLE_LENGTH = 200
_TOKEN_LENGTH = 200
_PATH_LENGTH = 1000
_MOST_PROPERTIES = 20
_MOST_SECTIONS = 10
"""In one line. What is bounded here keeps a hostile line from taking more time than its length."""


@dataclass(frozen=True)
class Annotation:
    """A line that says how it is meant."""

    level: LogLevel
    message: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Opens:
    """A heading: what follows is `title`. One with a `name` lasts until that is closed, others until the next."""

    title: str
    name: str = ""


@dataclass(frozen=True)
class Closes:
    name: str = ""


@dataclass(frozen=True)
class Stops:
    """Commands from here on are text, until `token` is said."""

    token: str


Command = Annotation | Opens | Closes | Stops


def commands_of(text: str) -> list[Command]:
    """What a line commands; mostly nothing, and one thing else (GitLab's sections may follow each other in a line)."""
    if github := _GITHUB.match(text):
        return _named(github[1].lower(), github[2] or "", github[3], ",")
    if printed := _GITHUB_PRINTED.match(text):
        return _named(printed[1].lower(), printed[2] or "", printed[3], ";")
    if buildkite := _BUILDKITE.match(text):
        return _opens(buildkite[1])
    if "section_" in text:
        return _sections(text)
    return []


def is_github(text: str) -> bool:
    """Whether a command is of the kind that `Stops` stops."""
    return text.lstrip().startswith(("::", "##["))


def resumes(text: str, token: str) -> bool:
    """Whether the line ends what `Stops` began."""
    return text.strip() == f"::{token}::"


def _named(name: str, properties: str, message: str, separator: str) -> list[Command]:
    if level := _LEVELS.get(name):
        return [Annotation(level, readable(_unescaped(message).replace("\n", " ")), _metadata(properties, separator))]
    if name == "group":
        return _opens(message)
    if name == "endgroup":
        return [Closes()]
    if name == "stop-commands" and message.strip() and len(message) <= _TOKEN_LENGTH:
        return [Stops(message.strip())]
    return []


def _opens(heading: str, name: str = "") -> list[Command]:
    title = " ".join(plain(readable(_unescaped(heading).replace("\n", " "))).split())[:_TITLE_LENGTH]
    return [Opens(title, name)] if title or name else []


def _sections(text: str) -> list[Command]:
    """GitLab's. Their heading is what follows on the line; without one it is the name."""
    found: list[Command] = []
    for section in islice(_GITLAB.finditer(text), _MOST_SECTIONS):
        kind, name = section[1], section[2]
        heading = text[section.end() :].partition("section_")[0].strip()
        found += [Closes(name)] if kind == "end" else _opens(heading or name, name)
    return found


def _metadata(properties: str, separator: str) -> dict[str, Any]:
    said: dict[str, Any] = {}
    for part in properties.split(separator, _MOST_PROPERTIES):
        key, _, raw = part.strip().partition("=")
        value = plain(readable(_unescaped(raw, properties=True)))
        if key in _NUMBERS and _NUMBER.fullmatch(value):
            said[_NUMBERS[key]] = int(value)
        elif key in _TEXTS and value:
            said[key] = value[:_PATH_LENGTH]
    return said


def _unescaped(text: str, *, properties: bool = False) -> str:
    """GitHub's escapes; `%25` last, so that nothing is unescaped twice."""
    if "%" not in text:
        return text
    if properties:
        text = text.replace("%3A", ":").replace("%2C", ",")
    return text.replace("%0D", "").replace("%0A", "\n").replace("%25", "%")
