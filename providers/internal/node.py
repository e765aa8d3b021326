"""Which Node.js a build gets: the one it asks for where that is installed, and a plain refusal where it is not."""

import glob
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from domain.errors import DeploymentError, ErrorCode

Version = tuple[int, int, int]

_PLACES = (
    "~/.nvm/versions/node/*/bin",
    "~/.volta/tools/image/node/*/bin",
    "~/.local/share/fnm/node-versions/*/installation/bin",
    "~/.asdf/installs/nodejs/*/bin",
    "/usr/local/n/versions/node/*/bin",
    "/opt/node*/bin",
)
_NUMBERS = re.compile(r"v?(\d+)(?:\.(\d+|x|\*))?(?:\.(\d+|x|\*))?", re.IGNORECASE)
_COMPARISON = re.compile(r"(>=|<=|>|<|=|\^|~)?\s*(v?\d+(?:\.(?:\d+|x|\*)){0,2})", re.IGNORECASE)
_ANY = frozenset({"", "*", "x", "latest", "node", "current"})


@dataclass(frozen=True)
class Node:
    version: Version
    directory: Path

    @property
    def prefix(self) -> Path:
        """What has to be readable for it to run."""
        return self.directory.parent

    def __str__(self) -> str:
        return ".".join(map(str, self.version))


def installed_nodes(path: str, home: Path) -> list[Node]:
    """Those on `path` and where version managers put them; the first of `path` first."""
    directories = [part for part in path.split(os.pathsep) if part]
    for place in _PLACES:
        directories += sorted(glob.glob(place.replace("~", str(home), 1)), reverse=True)
    nodes = [node for directory in dict.fromkeys(directories) if (node := node_in(directory))]
    return list({node.version: node for node in reversed(nodes)}.values())[::-1]


def choose_node(asked: str, nodes: Iterable[Node]) -> Node:
    """The newest installed one that `asked` means (`20`, `20.x`, `>=18`, `^18.2`, `18 || 20`).

    Raises:
        DeploymentError: invalid-request, saying which are installed.
    """
    there = sorted(nodes, key=lambda node: node.version, reverse=True)
    try:
        fitting = [node for node in there if satisfies(node.version, asked)]
    except ValueError:
        fitting = []
    if fitting:
        return fitting[0]
    installed = ", ".join(map(str, there)) or "none"
    raise DeploymentError(
        ErrorCode.INVALID_REQUEST,
        f"nodeVersion {asked!r} is not installed on this builder; installed: {installed}",
        details={"hint": f"ask for one of: {installed}" if there else "install Node.js on the builder"},
    )


def satisfies(version: Version, asked: str) -> bool:
    """Whether `version` is in a range as package.json writes it.

    Raises:
        ValueError: this is not a range (`lts/iron`).
    """
    return any(_in_all(version, part.strip()) for part in asked.split("||"))


def _in_all(version: Version, text: str) -> bool:
    if text.lower() in _ANY:
        return True
    low, dash, high = text.partition(" - ")
    comparisons = [(">=", low), ("<=", high)] if dash else _COMPARISON.findall(text)
    if not comparisons or (not dash and _COMPARISON.sub("", text).strip()):
        raise ValueError(f"{text!r} is not a range of versions")
    return all(_fits(version, operator or "=", wanted.strip()) for operator, wanted in comparisons)


def _fits(version: Version, operator: str, wanted: str) -> bool:
    given = _given(wanted)
    low = (*given, 0, 0, 0)[:3]
    if operator in {"<", ">="}:
        return (version < low) == (operator == "<")
    if operator in {">", "<="}:
        # `>20` is beyond all of 20: only the parts that were given are compared.
        return (version[: len(given)] > given) == (operator == ">")
    if operator == "^":
        fixed = next((n for n, part in enumerate(given) if part), len(given) - 1) + 1
        return version >= low and version[:fixed] == given[:fixed]
    fixed = min(len(given), 2) if operator == "~" else len(given)
    return version >= low and version[:fixed] == given[:fixed]


def _given(text: str) -> tuple[int, ...]:
    """The numbers before the first `x`."""
    match = _NUMBERS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a version")
    numbers: list[int] = []
    for part in match.groups():
        if part is None or not part.isdigit():
            break
        numbers.append(int(part))
    return tuple(numbers)


def node_in(path: str) -> Node | None:
    """The first one on `path`."""
    program = shutil.which("node", path=path)
    if program is None:
        return None
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    numbers = _given(said.stdout.strip()) if _NUMBERS.fullmatch(said.stdout.strip()) else ()
    return Node((numbers[0], numbers[1], numbers[2]), _home_of(Path(program))) if len(numbers) == 3 else None


def _home_of(program: Path) -> Path:
    """Where npm lies beside it: a link on the path may lead to where both are."""
    real = program.resolve().parent
    return real if (real / "npm").exists() else program.parent
