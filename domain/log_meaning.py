"""From what a provider tells to the lines that are stored: readable, masked, with the level and the step they speak of.

Rules:
1. What a line says annotates it, and those after it. It never changes what becomes of the deployment.
2. What a provider says of a line counts; its own words count where the provider is silent. A command is explicit: its
   level counts.
3. Whoever takes a log over goes on with `memory`: open groups, masks that were asked for, commands that are stopped.
4. An ordinary line is handed on as it is, for about a microsecond: one look goes over all lines together, and only
   those that it finds are looked at by themselves.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from domain import log_commands, log_levels
from domain.log import LogLine
from domain.log_commands import Annotation, Closes, Command, Opens, Stops, commands_of, is_github, resumes
from domain.log_levels import level_of
from domain.log_text import LINE_BYTES, lines_of, plain, readable, shortened
from domain.masking import Mask

_WORDS = [word.encode() for word in (*log_levels.WORDS, *log_commands.WORDS)]
_INDENT = r"(?:\x1b\[[\d;:]*+m|[ \t]|\xe2\x80\x89)*+"
_CLOCK = r"(?=[#\[\d])(?:#\d++ [\d.]++ ++)?+(?:\[?\d[\dtz.:,+-]++[ \]]++){0,2}+"
_STARTS = re.compile(rf"\n{_INDENT}(?:{_CLOCK})?+(?:{log_commands.STARTS}|{log_levels.STARTS})".encode())
"""U+2009, as pnpm indents, is three bytes: this is searched in bytes, whose small letters are made ten times faster."""

_STEP_LENGTH = 200
_MOST_STEPS = 50
_MOST_GROUPS = 10
_MOST_DEPTH = 5


class Meaning:
    """Reads the lines of one stream, in their order."""

    def __init__(self, mask: Mask, memory: dict[str, Any] | None = None) -> None:
        memory = memory or {}
        self._mask = mask
        self._stopped: str = memory.get("stopped", "")
        self._groups: dict[str, list[list[str]]] = {**memory.get("groups", {})}
        for value in memory.get("masks", ()):
            mask.add(value)

    @property
    def memory(self) -> dict[str, Any]:
        """What has to be known of the lines so far. It holds secrets."""
        groups = {step: [[*group] for group in groups] for step, groups in self._groups.items()}
        everything = {"stopped": self._stopped, "groups": groups, "masks": [*self._mask.added]}
        return {name: value for name, value in everything.items() if value}

    def read(self, lines: list[LogLine]) -> list[LogLine]:
        """The lines as they are to be stored. Those in which nothing was found are the same objects."""
        lines = self._cleaned(lines)
        raw = [line.message for line in lines]
        texts = self._mask.texts(raw)
        if max(map(len, texts), default=0) * 4 > LINE_BYTES:
            texts = [shortened(text) for text in texts]
        speaking = sorted(set(_speaking(texts)))
        commands = {n: said for n in speaking if (said := commands_of(texts[n]))}
        if self._groups or any(isinstance(command, Opens) for said in commands.values() for command in said):
            changing: Iterable[int] = range(len(lines))
        else:
            changing = sorted({*speaking, *(n for n, text in enumerate(texts) if text != raw[n])})
        heard = set(speaking)
        for n in changing:
            lines[n] = self._line(lines[n], texts[n], commands.get(n, []), speaks=n in heard)
        return lines

    def _line(self, line: LogLine, text: str, commands: list[Command], *, speaks: bool) -> LogLine:
        commands = self._heeded(text, commands) if self._stopped else commands
        says: dict[str, Any] = {"message": text, "metadata": line.metadata}
        if speaks and line.level is None and not commands:
            says["level"] = level_of(text)
        for command in commands:
            if isinstance(command, Annotation):
                says |= {"level": command.level, "message": self._masked(command.message)}
                says["metadata"] = {**(line.metadata or {}), **self._masked(command.metadata)} or None
            elif isinstance(command, Stops):
                self._stopped = command.token
        heading = any(isinstance(command, Opens) for command in commands)
        if heading:
            self._regroup(line.step or "", commands)
        if groups := self._groups.get(line.step or ""):
            says["step"] = groups[-1][1]
            if line.step is not None:
                says["metadata"] = {**(says["metadata"] or {}), "outerStep": line.step}
        if not heading:
            self._regroup(line.step or "", commands)
        changed = {name: value for name, value in says.items() if value != getattr(line, name)}
        return line.model_copy(update=changed) if changed else line

    def _heeded(self, text: str, commands: list[Command]) -> list[Command]:
        """None while commands are stopped; other tools' headings are none of those."""
        if resumes(text, self._stopped):
            self._stopped = ""
        return [command for command in commands if not is_github(text)]

    def _regroup(self, step: str, commands: list[Command]) -> None:
        """A heading without a name takes the place of the one before, since nothing closes most of them."""
        groups = self._groups.get(step, [])
        for command in commands:
            match command:
                case Opens(title, name):
                    kept = groups if name else [group for group in groups if group[0]]
                    groups = [*kept, [name, self._masked(title)]][-_MOST_GROUPS:]
                case Closes(name):
                    names = [group[0] for group in groups]
                    groups = groups[: names.index(name)] if name in names else groups
        self._groups.pop(step, None)
        if groups:
            self._groups[step] = groups
        while len(self._groups) > _MOST_STEPS:
            del self._groups[next(iter(self._groups))]

    def _cleaned(self, lines: list[LogLine]) -> list[LogLine]:
        """Each line readable, and as many as its message has; step and metadata are somebody's words, too."""
        odd_steps = {step for step in {line.step for line in lines} if step is not None and step != self._step(step)}
        cleaned: list[LogLine] = []
        begin = 0
        for n, line in enumerate(lines):
            if not line.message.isprintable() or line.metadata is not None or line.step in odd_steps:
                cleaned += lines[begin:n]
                cleaned += self._parts(line)
                begin = n + 1
        return cleaned + lines[begin:]

    def _parts(self, line: LogLine) -> list[LogLine]:
        said: dict[str, Any] = {}
        if line.step is not None:
            said["step"] = self._step(line.step) or None
        if line.metadata is not None:
            said["metadata"] = self._masked(line.metadata)
        messages = lines_of(line.message)
        if len(messages) == 1 and messages[0] == line.message and all(getattr(line, n) == v for n, v in said.items()):
            return [line]
        return [line.model_copy(update={**said, "message": message}) for message in messages]

    def _step(self, step: str) -> str:
        return plain(readable(self._mask.text(step)))[:_STEP_LENGTH]

    def _masked(self, value: Any, depth: int = 0) -> Any:
        """All texts in it readable and without secrets."""
        if isinstance(value, str):
            return shortened(self._mask.text(readable(value)))
        if depth >= _MOST_DEPTH:
            return None
        if isinstance(value, dict):
            return {self._masked(str(name)): self._masked(part, depth + 1) for name, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._masked(part, depth + 1) for part in value]
        return value if value is None or isinstance(value, bool | int | float) else self._masked(str(value))


def _speaking(texts: list[str]) -> Iterator[int]:
    """The numbers of the lines that may have a level or a command."""
    joined = b"\n" + "\n".join(texts).encode().lower()
    for word in _WORDS:
        yield from _numbers(joined, _once_a_line(joined, word))
    yield from _numbers(joined, (start.end() for start in _STARTS.finditer(joined)))


def _numbers(joined: bytes, places: Iterable[int]) -> Iterator[int]:
    number = -1
    counted = 0
    for place in places:
        number += joined.count(b"\n", counted, place)
        counted = place
        yield number


def _once_a_line(joined: bytes, word: bytes) -> Iterator[int]:
    place = joined.find(word)
    while place >= 0:
        yield place
        end = joined.find(b"\n", place)
        place = joined.find(word, end) if end >= 0 else -1
