"""Writes what was counted into a document: each kind of fault and each scenario has a block.

It goes from `<!-- counted: NAME -->` to `<!-- end -->`.

Rule: a figure stands beside the command that repeats it, and beside what it was taken on.
"""

import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from stack import executable
from tests.chaos.round import GROUPS, PARTS, Round
from tests.chaos.scenarios import Told
from tests.chaos.target import Target
from tests.drawings import ROOT, table

_BLOCK = "<!-- counted: {name} -->\n{text}\n<!-- end -->"


def write(document: Path, name: str, text: str) -> None:
    """Replaces the block of that name."""
    before = document.read_text()
    pattern = re.compile(rf"<!-- counted: {name} -->\n.*?<!-- end -->", re.DOTALL)
    after, replaced = pattern.subn(lambda _: _BLOCK.format(name=name, text=text), before)
    if not replaced:
        raise LookupError(f"{document} has no block <!-- counted: {name} -->")
    document.write_text(after)


async def circumstances(target: Target, seed: int) -> str:
    """When, by which command, of what, on what."""
    [row] = await target.rows("show server_version")
    kind = _said("git", "rev-parse", "--short", "HEAD") + ("+" if _said("git", "status", "--porcelain") else "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    words = [word for word in sys.argv[1:] if not word.startswith("--seed=")]
    if "--seed" not in words:
        words += ["--seed", str(seed)]
    return "\n".join(
        [
            f"`python -m tests.chaos {shlex.join(words)}`",
            "",
            f"Taken on {datetime.now(UTC):%d %B %Y} at commit {kind}: Python {platform.python_version()},",
            f"{_said(executable('temporal'), '--version')}, PostgreSQL {row['server_version']},",
            f"Caddy {_said(executable('caddy'), 'version').split()[0]}, Linux on {platform.machine()},",
            f"{os.cpu_count()} cores (load {os.getloadavg()[2]:.1f} in the last 15 minutes), {memory:.0f} GiB.",
        ]
    )


def faults(rounds: Iterable[Round]) -> str:
    """Faults of one kind and the deployments that they hit, by part and status; and what was not as it has to be."""
    rounds = list(rounds)
    everyone = sum(len(one.everyone) for one in rounds)
    hit = sum(sum(one.hit.values()) for one in rounds)
    wrong = [f"{one.part}: {problem}" for one in rounds for problem in one.problems]
    head = f"{len(rounds)} faults hit {hit} deployments, of {everyone} that ran."
    told = f"**{len(wrong)} things were not as they have to be:**" if wrong else "**All was as it has to be.**"
    return "\n".join([head, "", told, *(f"- {line}" for line in wrong), "", _table(rounds)])


def scenario(told: Told) -> str:
    wrong = "**Not as it has to be:**" if told.problems else "**All was as it has to be.**"
    return "\n".join([table(("what", "figure"), *told.figures), "", wrong, *(f"- {line}" for line in told.problems)])


def _table(rounds: list[Round]) -> str:
    head = ("part", *GROUPS, "faults", "goes on after: median", "worst", "all ended after: worst")
    rows = []
    for part in PARTS:
        found = [one for one in rounds if one.part == part]
        if found:
            waits = [seconds for one in found for seconds in one.recovery] or [0.0]
            figures = (statistics.median(waits), max(waits), max(one.settled_seconds for one in found))
            cells = [_cell(found, group) for group in GROUPS]
            rows.append((part, *cells, str(len(found)), *(f"{figure:.1f} s" for figure in figures)))
    return table(head, *rows)


def _cell(rounds: list[Round], group: str) -> str:
    """How many were hit, and how many of these came out right where that is not all."""
    intents = [(one, intent) for one in rounds for intent in one.intents.get(group, [])]
    hit = [(one, intent) for one, intent in intents if intent.found == GROUPS[group]]
    right = [intent for one, intent in hit if not any(intent.id in problem for problem in one.problems)]
    if not intents:
        return "–"
    return str(len(hit)) if len(right) == len(hit) else f"{len(right)} of {len(hit)}"


def _said(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True, cwd=ROOT).stdout.strip()
