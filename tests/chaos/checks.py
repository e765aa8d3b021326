"""What has to be true once the dust has settled. Each check says what is not, in a sentence; none is good.

Rule: nobody is taken at his word. Promises are looked up in the database, effects at the provider and at the edge, what
a stream told in the record that it told of.
"""

import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import httpx

from domain.deployment import workflow_id
from domain.states import Status
from providers.internal.edge import ANSWERED_BY
from providers.internal.follow import read_lines
from tests.chaos.target import Target
from tests.chaos.traffic import Intent
from tests.servers import eventually
from tests.test_stack import processes_of

if TYPE_CHECKING:
    from tests.chaos.round import World

SOON_SECONDS = 30.0
_COUNTS = re.compile(
    r"^(headway_(?:zombies|orphan_workflows|held_lanes_of_finished))(?:\{[^}]*\})? ([\d.e+]+)$", re.MULTILINE
)

Check = Callable[["World", list[Intent]], Awaitable[list[str]]]


async def statuses(target: Target, ids: Iterable[str]) -> dict[str, Status]:
    rows = await target.rows(
        "select id::text, status from deployments where id = any(%(ids)s::uuid[])", ids=[one for one in ids if one]
    )
    return {row["id"]: Status(row["status"]) for row in rows}


async def all_of(world: "World", intents: list[Intent]) -> list[str]:
    wrong = list(world.clients.contradictions)
    for check in CHECKS:
        wrong += [f"{check.__name__.lstrip('_').replace('_', ' ')}: {said}" for said in await check(world, intents)]
    return wrong


async def _acknowledged_is_there(world: "World", intents: list[Intent]) -> list[str]:
    """Each key has one deployment, and there is none beside."""
    rows = await _rows(world, intents)
    promised = {intent.id for intent in intents}
    if len(promised) < len(intents):
        return ["two keys were answered with one deployment"]
    lost = [f"{one} was acknowledged, and is not there" for one in promised - rows.keys()]
    return lost + [f"{one} is there, and was acknowledged to nobody" for one in rows.keys() - promised]


async def _ends_as_it_has_to(world: "World", intents: list[Intent]) -> list[str]:
    rows, wrong = await _rows(world, intents), []
    for intent in intents:
        row = rows.get(intent.id, {})
        code = (row.get("error") or {}).get("code")
        if intent.expected is not None and (row.get("status"), code) != (intent.expected, intent.code):
            wrong.append(
                f"{intent.provider} {intent.id} (found {intent.found}, held {intent.hold}) is {row.get('status')},"
                f" not {intent.expected}: {row.get('error')}, waits for {row.get('waiting_reason')}"
            )
    return wrong


async def _one_build_for_one_intent(world: "World", intents: list[Intent]) -> list[str]:
    wrong = []
    for intent in intents:
        builds = world.provider.builds[intent.id] if intent.provider == "custom" else _begun(world.target, intent)
        least = 1 if intent.expected is Status.SUCCEEDED else 0
        if not least <= builds <= 1:
            wrong.append(f"{intent.provider} {intent.id} has {builds} builds")
    return wrong


async def _what_succeeded_is_reached(world: "World", intents: list[Intent]) -> list[str]:
    """At its own host, or published at its provider."""
    wrong = [
        f"{one.id} was not published"
        for one in intents
        if one.provider == "custom" and one.expected is Status.SUCCEEDED and not world.provider.published[one.id]
    ]
    port = world.target.edge_port
    async with httpx.AsyncClient(trust_env=False) as http:
        for intent in intents:
            if intent.provider == "internal" and intent.expected is Status.SUCCEEDED:

                async def answers(one: str = intent.id) -> bool:
                    try:
                        answer = await http.get(f"http://127.0.0.1:{port}/", headers={"Host": f"{one}.localhost"})
                    except httpx.TransportError:
                        return False
                    return bool(answer.headers.get(ANSWERED_BY) == one)

                wrong += await _soon(answers, f"{intent.id} is not served at its host")
    return wrong


async def _each_change_is_told_once_and_in_order(world: "World", intents: list[Intent]) -> list[str]:
    rows = await world.target.rows(
        "select deployment_id::text, version, status from events where deployment_id = any(%(ids)s::uuid[])"
        " order by version",
        ids=[one.id for one in intents],
    )
    recorded: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in rows:
        recorded[row["deployment_id"]].append((row["version"], row["status"]))
    told = {one.id: [(seen.version, str(seen.status)) for seen in one.changes] for one in intents if one.watched}
    return [f"{one}: {told[one]}, recorded is {recorded[one]}" for one in told if told[one] != recorded[one]]


async def _each_line_is_told_once_and_without_a_gap(world: "World", intents: list[Intent]) -> list[str]:
    rows = await world.target.rows(
        "select deployment_id::text, lines from logs where deployment_id = any(%(ids)s::uuid[])",
        ids=[one.id for one in intents],
    )
    stored = {row["deployment_id"]: int(row["lines"]) for row in rows}
    wrong = []
    for intent in intents:
        if not intent.log_watched:
            continue
        numbers = [number for number, _ in intent.lines]
        if numbers != list(range(1, stored.get(intent.id, 0) + 1)):
            wrong.append(
                f"{intent.provider} {intent.id}: lines {numbers[:3]} … {numbers[-3:]} of {stored.get(intent.id)}"
            )
        ticks = [said for _, said in intent.lines if said.startswith("tick ")]
        if ticks != [f"tick {number}" for number in range(1, len(ticks) + 1)]:
            wrong.append(f"{intent.provider} {intent.id}: ticks {ticks}")
        if intent.expected is Status.SUCCEEDED and f"ticks {len(ticks)}" not in [said for _, said in intent.lines]:
            wrong.append(f"{intent.provider} {intent.id} has {len(ticks)} ticks in its log, and built others")
    return wrong


async def _lanes_are_free_and_were_granted_in_order(world: "World", intents: list[Intent]) -> list[str]:
    rows = await _rows(world, intents)
    wrong = [f"{one} has ended and its lane is {row['lane']}" for one, row in rows.items() if row["lane"] in TAKEN]
    lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows.values():
        if row["concurrency"] == "queue" and row["started_at"]:
            lines[row["project_id"]].append(row)
    for line in lines.values():
        for earlier, later in pairwise(sorted(line, key=lambda row: int(row["sequence"]))):
            if not earlier["finished_at"] or earlier["finished_at"] > later["started_at"]:
                wrong.append(f"{later['id']} began before {earlier['id']} had ended")
    return wrong


async def _nothing_is_left_running(world: "World", intents: list[Intent]) -> list[str]:
    """No open workflow of a deployment that has ended, and no process of a build."""
    ours = {workflow_id(intent.id) for intent in intents}

    async def all_closed() -> bool:
        open_ones = world.target.temporal.list_workflows('ExecutionStatus = "Running"')
        return not ours & {found.id async for found in open_ones}

    async def no_process() -> bool:
        return not processes_of(world.target.data_dir / "builds")

    wrong = await _soon(all_closed, "a workflow is open, and its deployment has ended")
    return wrong + await _soon(no_process, "a process of a build is left")


async def _the_reconciler_counts_nothing(world: "World", intents: list[Intent]) -> list[str]:
    del intents
    found: dict[str, float] = {}

    async def all_zero() -> bool:
        async with httpx.AsyncClient(trust_env=False) as http:
            page = (await http.get(f"{world.target.up.said['apiUrl']}/metrics")).text
        found.update({name: float(value) for name, value in _COUNTS.findall(page)})
        return not any(found.values())

    return await _soon(all_zero, f"{found}")


TAKEN = ("held", "waiting", "gated")

CHECKS: tuple[Check, ...] = (
    _acknowledged_is_there,
    _ends_as_it_has_to,
    _one_build_for_one_intent,
    _what_succeeded_is_reached,
    _each_change_is_told_once_and_in_order,
    _each_line_is_told_once_and_without_a_gap,
    _lanes_are_free_and_were_granted_in_order,
    _nothing_is_left_running,
    _the_reconciler_counts_nothing,
)


async def _rows(world: "World", intents: list[Intent]) -> dict[str, dict[str, Any]]:
    rows = await world.target.rows(
        "select deployments.*, deployments.id::text as id, concurrency from deployments"
        " join projects on projects.id = project_id where project_id = any(%(projects)s)",
        projects=sorted({intent.project for intent in intents}),
    )
    return {row["id"]: row for row in rows}


def _begun(target: Target, intent: Intent) -> int:
    """How often a builder of ours has begun to build it, by its own file."""
    log, offset, begun = target.data_dir / "builds" / intent.id / "log.jsonl", 0, 0
    while True:
        page = read_lines(log, offset)
        begun += sum(line.message == f"begin {intent.token}" for line in page.lines)
        offset = page.offset
        if page.complete:
            return begun


async def _soon(condition: Callable[[], Awaitable[bool]], otherwise: str) -> list[str]:
    try:
        await eventually(condition, SOON_SECONDS)
    except AssertionError:
        return [otherwise]
    return []
