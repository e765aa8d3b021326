"""From what a provider tells to the lines that are stored: readable, masked, with the level and the step they speak of.

Rules:
1. What a line says annotates it, and those after it. It never changes what becomes of the deployment.
2. What a provider says of a line counts; its own words count where the provider is silent. A command is explicit: its
   level counts.
3. Whoever takes a log over goes on with `memory`: open groups, masks that were asked for, commands that are stopped.
4. An ordinary line is handed on as it is, for about a microsecond: one look goes over all lines together, and only
   those that it finds are looked at by themselves.
"""

from collections.abc import Iterator
from typing import Any

import re2

from domain import log_commands, log_levels
from domain.log import LogLine
from domain.log_commands import Annotation, Closes, Command, Opens, Stops, commands_of, is_github, resumes
from domain.log_levels import level_of
from domain.log_text import LINE_BYTES, lines_of, plain, readable, shortened
from domain.masking import Mask


def _look_for() -> re2._Regexp:
    """One search for all that may speak, over the bytes of many lines, in linear time."""
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = False
    options.never_capture = True
    indent = r"(?:\x1b\[[\d;:]*m|[ \t]|\xe2\x80\x89)*"  # U+2009, as pnpm indents
    clock = r"(?:#\d+ [\d.]+ +)?(?:\[?\d[\dtz.:,+-]+[ \]]+){0,2}"
    begins = rf"\n{indent}{clock}(?:{log_commands.STARTS}|{log_levels.STARTS})"
    anything = "|".join((*log_levels.WORDS, *log_commands.WORDS, begins))
    return re2.compile(rf"(?:{anything})[^\n]*".encode(), options)


_SPEAKS = _look_for()
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
        speaking = [*_speaking(texts)]
        commands = {n: said for n in speaking if (said := commands_of(texts[n]))}
        for n in {*speaking, *_differing(texts, raw)} - commands.keys():
            lines[n] = _levelled(lines[n], texts[n])
        if commands or self._groups or self._stopped:
            for n, line in enumerate(lines):
                lines[n] = self._annotated(line, texts[n], commands.get(n, []))
        return lines

    def _annotated(self, line: LogLine, text: str, commands: list[Command]) -> LogLine:
        """With what it says, and those before it."""
        level, metadata = line.level, line.metadata
        if self._stopped:
            commands = self._heeded(text, commands)
        for command in commands:
            if isinstance(command, Annotation):
                level, text = command.level, self._masked(command.message)
                metadata = {**(metadata or {}), **self._masked(command.metadata)} or None
        step = self._step_of(line, commands)
        if step != line.step and line.step is not None:
            metadata = {**(metadata or {}), "outerStep": line.step}
        if text == line.message and (level, step, metadata) == (line.level, line.step, line.metadata):
            return line
        return LogLine(line.timestamp, text, step, line.source, metadata, level)

    def _heeded(self, text: str, commands: list[Command]) -> list[Command]:
        """While commands are stopped; other tools' headings are none of those."""
        if resumes(text, self._stopped):
            self._stopped = ""
        return [command for command in commands if not is_github(text)]

    def _step_of(self, line: LogLine, commands: list[Command]) -> str | None:
        """The innermost group that is open. A line that opens one, or closes it, is a part of it."""
        outer = line.step or ""
        opens = any(isinstance(command, Opens) for command in commands)
        if opens:
            self._obey(outer, commands)
        groups = self._groups.get(outer)
        if commands and not opens:
            self._obey(outer, commands)
        return groups[-1][1] if groups else line.step

    def _obey(self, step: str, commands: list[Command]) -> None:
        """A heading without a name takes the place of the one before, since nothing closes most of them."""
        groups = self._groups.pop(step, [])
        for command in commands:
            match command:
                case Opens(title, name):
                    kept = groups if name else [group for group in groups if group[0]]
                    groups = [*kept, [name, self._masked(title)]][-_MOST_GROUPS:]
                case Closes(name):
                    names = [group[0] for group in groups]
                    groups = groups[: names.index(name)] if name in names else groups
                case Stops(token):
                    self._stopped = token
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
        step = self._step(line.step) or None if line.step is not None else None
        metadata = self._masked(line.metadata)
        messages = lines_of(line.message)
        if (messages, step, metadata) == ([line.message], line.step, line.metadata):
            return [line]
        return [LogLine(line.timestamp, message, step, line.source, metadata, line.level) for message in messages]

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


def _differing(texts: list[str], raw: list[str]) -> list[int]:
    if texts is raw:
        return []
    return [n for n, (text, before) in enumerate(zip(texts, raw, strict=True)) if text is not before]


def _levelled(line: LogLine, text: str) -> LogLine:
    level = line.level or level_of(text)
    if level is line.level and text == line.message:
        return line
    return LogLine(line.timestamp, text, line.step, line.source, line.metadata, level)


def _speaking(texts: list[str]) -> Iterator[int]:
    """The numbers of the lines that may have a level or a command, in order."""
    joined = b"\n" + "\n".join(texts).encode()
    number, counted = -1, 0
    for found in _SPEAKS.finditer(joined):
        number += joined.count(b"\n", counted, found.end())
        counted = found.end()
        yield number
