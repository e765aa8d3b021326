"""`python -m tests.chaos`: kills, stops and cuts off parts of a real stack under traffic, and counts what became of it.

    python -m tests.chaos --cells worker:building,api:created --kind kill --rounds 2 --deployments 10 --seed 7

Without `--cells`, all parts at all statuses. One fault hits deployments of all statuses of its part at once. With
`--scenario`, that one instead. The exit code is 1 when anything was not as it has to be.
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from tests.chaos import report
from tests.chaos.round import GROUPS, PARTS, SUPERVISED, Round, World, world
from tests.chaos.scenarios import Told, Wish, api_answers, history, postgres_away, temporal_away, terminate
from tests.chaos.soak import soak
from tests.chaos.target import CUTS, KINDS, Kind, target

AWAY_SECONDS = 18.0
"""More than a heartbeat time-out, so that what is stopped is given up by others, and comes back all the same."""

SCENARIOS: dict[str, tuple[Callable[[World, Wish], Awaitable[Told]], int]] = {
    "api-answers": (api_answers, 100),
    "temporal-away": (temporal_away, 50),
    "postgres-away": (postgres_away, 50),
    "terminate": (terminate, 20),
    "history": (history, 20_000),
    "soak": (soak, 0),
}
"""With what `--deployments` is as a rule; of `history`, it is the signals."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--cells", default="", help="PART:STATUS,… ; PART alone is all of its statuses")
    parser.add_argument("--kind", action="append", choices=KINDS, help="several may be given; default: all")
    parser.add_argument("--rounds", type=int, default=2, help="faults of each kind at each part")
    parser.add_argument("--deployments", type=int, help="at each status in each round (10), or of the scenario")
    parser.add_argument("--scenario", choices=SCENARIOS)
    parser.add_argument("--seconds", type=float, default=120.0, help="of a scenario's absence")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--pause-seconds", type=float, default=0.0, help="of each client of the soak, between two")
    parser.add_argument("--away-seconds", type=float, default=AWAY_SECONDS, help="how long a stop or a cut lasts")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--report", type=Path, help="the document whose figures are replaced")
    return parser.parse_args()


def cells(said: str) -> dict[str, tuple[str, ...]]:
    """The statuses at which each part is struck."""
    chosen: dict[str, list[str]] = {}
    for word in said.split(",") if said else PARTS:
        part, _, group = word.partition(":")
        if part not in PARTS or (group and group not in GROUPS):
            sys.exit(f"{word} is no cell: accepted are {', '.join(PARTS)}, each alone or with :{', :'.join(GROUPS)}")
        chosen.setdefault(part, []).extend([group] if group else GROUPS)
    return {part: tuple(one for one in GROUPS if one in groups) for part, groups in chosen.items()}


def rounds(asked: argparse.Namespace) -> list[Round]:
    planned = []
    for part, groups in cells(asked.cells).items():
        for kind in asked.kind or KINDS:
            for number in range(asked.rounds):
                at = fitting(part, kind, groups)
                if at:
                    chance = random.Random(f"{asked.seed} {part} {kind} {number}")
                    planned.append(Round(part, kind, at, asked.deployments or 10, asked.away_seconds, chance))
    return planned


def fitting(part: str, kind: Kind, groups: tuple[str, ...]) -> tuple[str, ...]:
    """A build has a supervisor from its start to its release. What speaks to nobody cannot be cut off, and parts that
    hold still together are one that does."""
    if part == "supervisor":
        groups = tuple(one for one in groups if one in SUPERVISED)
    possible = {"kill": True, "stop": part != "all", "cut": part in CUTS}
    return groups if possible[kind] else ()


async def run(asked: argparse.Namespace, directory: Path) -> bool:
    """Whether all was as it has to be."""
    async with target(directory) as stack, world(stack, directory) as around:
        if asked.scenario:
            run_one, number = SCENARIOS[asked.scenario]
            chance = random.Random(asked.seed)
            wish = Wish(asked.deployments or number, asked.seconds, asked.minutes, asked.pause_seconds, chance)
            told = await run_one(around, wish)
            texts, well = {asked.scenario: report.scenario(told)}, not told.problems
            print(texts[asked.scenario])
        else:
            planned = rounds(asked)
            for one in planned:
                await one.run(around)
                tell(one)
            found = {kind: [one for one in planned if one.kind == kind] for kind in KINDS}
            texts = {kind: report.faults(all_of_it) for kind, all_of_it in found.items() if all_of_it}
            well = not any(one.problems for one in planned)
        if asked.report:
            known = await report.circumstances(stack, asked.seed)
            for name, text in texts.items():
                report.write(asked.report, name, f"{known}\n\n{text}")
    return well


def tell(one: Round) -> None:
    hit = ", ".join(f"{number} {name}" for name, number in one.hit.items())
    found = f"{len(one.everyone)} deployments, {len(one.problems)} problems"
    load = f"{one.seconds:.0f} s, load {os.getloadavg()[0]:.1f}"
    print(
        f"{one.kind} {one.part}: hit {hit}; {found}; went on after {max(one.recovery, default=0):.1f} s at most; {load}"
    )
    for problem in one.problems:
        print(f"    {problem}")
    sys.stdout.flush()


def main() -> None:
    asked = arguments()
    print(f"seed {asked.seed}; " + (asked.scenario or f"{len(rounds(asked))} faults"), flush=True)
    with tempfile.TemporaryDirectory(prefix="headway-chaos-") as directory:
        Path(directory).chmod(0o755)
        well = uvloop.run(run(asked, Path(directory)))
    sys.exit(0 if well else 1)


if __name__ == "__main__":
    main()
