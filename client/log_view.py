"""How lines of logs look. On a terminal: with their colours, below headings; piped: a line each, without any code.

Rule: of what a line holds, text and colours reach a terminal and nothing else does, whoever has stored it.
"""

from rich.console import Console
from rich.text import Text

from client.show import plain
from domain.log import DeploymentLog, LogLevel, LogMatch
from domain.log_text import lines_of

_COLOR_OF = {LogLevel.ERROR: "red", LogLevel.WARN: "yellow", LogLevel.DEBUG: "dim"}
_ORIGIN = 8
"""How wide the step is written."""


def message_text(line: DeploymentLog, style: str = "") -> Text:
    """Its own colours win over that of its level."""
    between = "\n" + " " * (_ORIGIN + 1)
    return Text.from_ansi(between.join(lines_of(line.message)), style=style or _COLOR_OF.get(line.level, ""))


class LogPrinter:
    """Prints a log line by line."""

    def __init__(self, console: Console, *, as_text: bool = False) -> None:
        self._console = console
        self._as_text = as_text
        self._heading: str | None = None

    def show(self, line: DeploymentLog) -> None:
        if self._as_text:
            self._print(plain(line.as_text()))
            return
        origin = line.step or line.source
        if not self._console.is_terminal:
            self._print(Text.assemble(plain(f"{origin:>{_ORIGIN}} "), message_text(line)))
            return
        if origin != self._heading:
            self._heading = origin
            self._print(plain(f"── {origin} ──", "bold"))
        self._print(message_text(line))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)


class MatchPrinter:
    """Prints what a search has found: below each deployment numbered lines, and `--` where some lie between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: DeploymentLog | None = None

    def show(self, match: LogMatch) -> None:
        for line in (*match.before, match, *match.after):
            self._show(line, is_match=line is match)

    def _show(self, line: DeploymentLog, *, is_match: bool) -> None:
        last, number = self._last, int(line.id)
        if last is None or last.deployment_id != line.deployment_id:
            self._print(plain(f"deployment {line.deployment_id}", "bold"))
        elif number <= int(last.id):
            return  # in the context of the match before
        elif number > int(last.id) + 1:
            self._print(plain("--", "dim"))
        self._last = line
        mark = ":" if is_match else "-"
        self._print(Text.assemble(plain(f"{number}{mark} ", "dim"), message_text(line, "" if is_match else "dim")))

    def _print(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
