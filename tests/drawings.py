"""What documents show of the code: a block from `<!-- drawn: NAME -->` to `<!-- end -->` is drawn from it.

`python -m tests.drawings` draws all of them anew; `test_docs.py` fails while one is stale.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from domain.configuration import DEFAULT_TIMEOUT_SECONDS
from domain.gate import LINE_TIMEOUT
from domain.protection import APPROVAL_TIMEOUT_SECONDS
from domain.states import TRANSITIONS, diagram
from providers.registry import ALL
from workflows import policies

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"(<!-- drawn: ([a-z]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def redrawn(text: str) -> str:
    return _BLOCK.sub(lambda block: f"{block[1]}{_DRAWINGS[block[2]]()}\n{block[3]}", text)


def table(*rows: tuple[str, ...]) -> str:
    head, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *others])


def states() -> str:
    return f"```mermaid\n{diagram()}\n```"


def transitions() -> str:
    rows = [
        (f"`{status}`", "<br>".join(f"{event} → `{to}`" for event, to in row.items()))
        for status, row in TRANSITIONS.items()
    ]
    return table(("status", "event → status"), *((status, moves or "final") for status, moves in rows))


def timeouts() -> str:
    whole = timedelta(seconds=DEFAULT_TIMEOUT_SECONDS)
    return table(
        ("level", "at most", "and then"),
        ("accepted, Temporal away", "no limit", "stays `created` until Temporal is back"),
        ("in line for a lane", _said(LINE_TIMEOUT), "`timeout`"),
        (
            "waiting for approval",
            f"`protection.approvalTimeout`; default {_said(timedelta(seconds=APPROVAL_TIMEOUT_SECONDS))}",
            "`timeout`",
        ),
        (
            "build on a builder of ours",
            f"{_said(policies.BUILD_TIMEOUT)}, or the whole if that is shorter",
            "`timeout`, the build is canceled",
        ),
        ("build at a provider", "the whole", "as above; the provider may have a limit of its own"),
        (
            "whole, from its turn on",
            f"`timeoutSeconds`; default {_said(whole)}",
            "`timeout`, the build is canceled",
        ),
        (
            "a provider that is away, no free builder",
            "the whole",
            "it waits; `waitingOn: provider` says since when and why",
        ),
        ("figures of the build", _said(policies.COLLECT_TIMEOUT), "a warning in the result"),
        ("stopping a build", _said(policies.CANCEL_TIMEOUT), "the deployment ends all the same, `error.hint` says so"),
        ("asking for a build of which nothing is known", _said(policies.FIND_TIMEOUT), "likewise"),
        ("writing the ending", "no limit", "tried until the database is back"),
        ("one attempt of a step without a build's length", _said(policies.ATTEMPT), "the next attempt"),
        ("heartbeat of a step", _said(policies.HEARTBEAT), "the next attempt, on another worker"),
    )


def providers() -> str:
    rows = [(f"`{provider.name}`", ", ".join(sorted(f"`{can}`" for can in provider.capabilities))) for provider in ALL]
    return table(("provider", "capabilities"), *rows)


def _said(length: timedelta) -> str:
    minutes, seconds = divmod(int(length.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return " ".join(f"{n} {unit}" for n, unit in ((hours, "h"), (minutes, "min"), (seconds, "s")) if n)


_DRAWINGS: dict[str, Callable[[], str]] = {
    "providers": providers,
    "states": states,
    "timeouts": timeouts,
    "transitions": transitions,
}


if __name__ == "__main__":
    for document in documents():
        document.write_text(redrawn(document.read_text()))
