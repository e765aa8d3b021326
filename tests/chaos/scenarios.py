"""What no table of parts and statuses shows: answers that are lost, long absences, operators who terminate, much news.

Each scenario takes a world and gives figures, and what was not as it has to be.
"""

import asyncio
import contextlib
import random
import time
from dataclasses import dataclass, field
from typing import Any, Literal

from temporalio.client import WorkflowHandle

from domain.deployment import workflow_id
from domain.states import TERMINAL, Status
from tests.chaos import checks
from tests.chaos.held import let_build_go
from tests.chaos.round import Round, World
from tests.chaos.target import CUTS
from tests.chaos.traffic import Intent
from tests.servers import eventually
from workflows.deployment import DeploymentWorkflow

AT_ONCE = 10
"""Requests whose answer is lost by one kill: as many as the API has connections to the database."""
END_SECONDS = 300.0
RESUMED_SECONDS = 30.0
QUARTER_OF_EVENTS, QUARTER_OF_BYTES = 51_200 // 4, 50 * 2**20 // 4
"""Of what Temporal ends a history at."""
LOOKS_IN_A_MONTH = 30 * 24 // 6
"""Who waits for approval looks at the record every six hours, told or not."""


@dataclass(frozen=True)
class Wish:
    """What was asked for on the command line."""

    number: int
    seconds: float
    minutes: float
    pause_seconds: float
    chance: random.Random


@dataclass
class Told:
    figures: list[tuple[str, str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


# --- answers that are lost ---


class Commits:
    """Holds commits of new deployments at the database's door: on their way there, or on the way back."""

    def __init__(self, way: Literal["there", "back"]) -> None:
        self.held = 0
        self._way = way
        self._needle = b"COMMIT" if way == "there" else b"COMMIT\0"
        self._writing: set[int] = set()
        self._never = asyncio.Event()

    async def watch(self, connection: int, way: Literal["there", "back"], data: bytes) -> bool:
        if b"insert into deployments" in data:
            self._writing.add(connection)
        if way == self._way and connection in self._writing and self._needle in data:
            self.held += 1
            await self._never.wait()
            return False
        return True

    def end(self) -> None:
        self._never.set()


async def api_answers(world: World, wish: Wish) -> Told:
    """The API is killed while commits are on their way to the database, and while their answers are."""
    told, everyone = Told(), []
    for way, when in (("there", "before"), ("back", "after")):
        intents: list[Intent] = []
        kills = 0
        while len(intents) < wish.number:
            batch = await world.intents(AT_ONCE)
            written = await _kill_at_commit(world, batch, "there" if way == "there" else "back")
            expected = 0 if when == "before" else len(batch)
            if written != {expected}:
                told.problems.append(f"a kill {when} the commit left {written} rows of {len(batch)} requests")
            intents += batch
            kills += 1
        ids = {one.id for one in intents}
        told.figures.append((f"requests whose API was killed {when} the commit, in {kills} kills", str(len(intents))))
        told.figures.append(("deployments that there are of them, when the client had been answered", str(len(ids))))
        everyone += intents
    return await ended(world, told, everyone)


async def _kill_at_commit(world: World, batch: list[Intent], way: Literal["there", "back"]) -> set[int]:
    """How many rows there are of these requests, in each table, while the API is dead."""
    door, commits = world.target.doors["api-postgres"], Commits(way)
    door.watch = commits.watch
    asking = asyncio.create_task(world.clients.trigger_all(batch, AT_ONCE))

    async def all_held() -> bool:
        return commits.held >= len(batch)

    counted = asyncio.Event()

    async def not_yet(_connection: int, _way: Literal["there", "back"], _data: bytes) -> bool:
        """The next API process is not to write what the clients ask again before it was counted."""
        await counted.wait()
        return True

    try:
        await eventually(all_held, 60)
        killing = asyncio.create_task(world.target.kill("api"))
        await asyncio.sleep(0)
        door.watch = not_yet
        commits.end()
        written = await _written(world, batch)
        counted.set()
        await killing
    finally:
        door.watch = None
        commits.end()
        counted.set()
    await asking
    return written


async def _written(world: World, batch: list[Intent]) -> set[int]:
    async def no_transaction() -> bool:
        [row] = await world.target.rows(
            "select count(*) from pg_stat_activity where state like 'idle in transaction%%' and pid <> pg_backend_pid()"
        )
        return bool(row["count"] == 0)

    with contextlib.suppress(AssertionError):
        await eventually(no_transaction, 5)
    keys = {"projects": [one.project for one in batch], "keys": [one.token for one in batch]}
    [row] = await world.target.rows(
        "select (select count(*) from deployments where project_id = any(%(projects)s)) as deployments,"
        " (select count(distinct deployment_id) from events where project_id = any(%(projects)s)) as events,"
        " (select count(*) from idempotency where key = any(%(keys)s)) as keys",
        **keys,
    )
    return {int(count) for count in row.values()}


# --- long absences ---


async def temporal_away(world: World, wish: Wish) -> Told:
    return await _away(world, wish, "temporal")


async def postgres_away(world: World, wish: Wish) -> Told:
    return await _away(world, wish, "postgres")


async def _away(world: World, wish: Wish, part: str) -> Told:
    """A part cannot be reached for long, under so many that are built and so many that are asked for meanwhile."""
    clients = world.clients
    running = await world.intents(wish.number, lambda number: number % 5 == 0, hold=Status.BUILDING)
    asked = await world.intents(wish.number)
    await clients.trigger_all(running)
    for one in running:
        clients.watch(one)
    await _reach(world, running, {Status.BUILDING})
    async with world.target.cut(*CUTS[part]):
        began = time.monotonic()
        asking = asyncio.create_task(clients.trigger_all(asked, AT_ONCE))
        await asyncio.sleep(wish.seconds / 2)
        for one in running:  # builds go on, whoever is away
            world.provider.let_go(one.token)
            let_build_go(world.target.data_dir, one.id)
        await asyncio.sleep(wish.seconds - (time.monotonic() - began))
        acknowledged = sum(one.token in clients.acknowledged for one in asked)
        back = time.monotonic()
    await asking
    for one in asked:
        clients.watch(one, log=False)
    told = Told([("seconds away", f"{wish.seconds:g}"), ("built meanwhile", str(len(running)))])
    told.figures.append(("asked for meanwhile, and acknowledged before it was back", f"{len(asked)}, {acknowledged}"))
    found = await ended(world, told, [*running, *asked])
    resumed = [max(0.0, one.changes[-1].at - back) for one in running if one.changes]
    began_after = [seen.at - back for one in asked for seen in one.changes if seen.status is Status.INITIALIZING]
    for what, all_seconds in (("built meanwhile: ended", resumed), ("asked for meanwhile: began", began_after)):
        if all_seconds:
            told.figures.append((f"{what} after its return, the last", f"{max(all_seconds):.1f} s"))
            if max(all_seconds) > RESUMED_SECONDS:
                told.problems.append(
                    f"{what} {max(all_seconds):.1f} s after its return, not within {RESUMED_SECONDS:g} s"
                )
    return found


# --- operators ---


async def terminate(world: World, wish: Wish) -> Told:
    """An operator terminates workflows by hand, wherever they are."""
    groups = ("lane", "approval", "initializing", "building")
    each = max(1, wish.number // len(groups))
    held = Round("none", "kill", groups, each, 0, wish.chance)
    await held.hold(world)
    struck = [one for name in groups for one in held.intents[name]]
    others = [one for one in held.everyone if one not in struck]
    began = time.monotonic()
    for one in wish.chance.sample(struck, len(struck)):
        one.expected = None
        await world.target.temporal.get_workflow_handle(workflow_id(one.id)).terminate(reason="by the harness")
    told = Told([("workflows terminated", str(len(struck)))])

    async def mended() -> bool:
        ids = [one.id for one in struck]
        rows = await world.target.rows("select status, lane from deployments where id = any(%(ids)s::uuid[])", ids=ids)
        return all(row["status"] in TERMINAL and row["lane"] not in checks.TAKEN for row in rows)

    try:
        await eventually(mended, 60)
        told.figures.append(("records right and lanes free after", f"{time.monotonic() - began:.1f} s"))
    except AssertionError:
        told.problems.append("60 s later, records are not final or lanes are not free")
    for one in others:
        world.provider.let_go(one.token)
        let_build_go(world.target.data_dir, one.id)
    world.late_git.flows.set()
    return await ended(world, told, held.everyone)


# --- much news ---


async def history(world: World, wish: Wish) -> Told:
    """One that waits for approval is told so often to look again."""
    [waiting] = await world.intents(1, approved=True)
    await world.clients.trigger(waiting)
    world.clients.watch(waiting)
    await _reach(world, [waiting], {Status.QUEUED})
    handle = world.target.temporal.get_workflow_handle(workflow_id(waiting.id))
    before = await _at_rest(handle)
    await handle.signal(DeploymentWorkflow.look_again)
    of_a_look = await _at_rest(handle, before) - before
    longest, largest, runs = 0, 0, set()
    for _ in range(0, wish.number, 100):
        await asyncio.gather(*(handle.signal(DeploymentWorkflow.look_again) for _ in range(100)))
        now = (await handle.describe()).raw_description.workflow_execution_info
        longest, largest = max(longest, now.history_length), max(largest, now.history_size_bytes)
        runs.add(now.execution.run_id)
    await world.clients.approve(waiting.id)
    told = Told([("signals to one deployment that waits", f"{wish.number:,}"), ("histories", str(len(runs)))])
    told.figures.append(("its longest history", f"{longest:,} events of 51,200, {largest / 2**20:.1f} MiB of 50"))
    month = f"{LOOKS_IN_A_MONTH}, {LOOKS_IN_A_MONTH * of_a_look:,}"
    told.figures.append((f"a month of waiting: looks, and events at {of_a_look} a look (reckoned)", month))
    if longest > QUARTER_OF_EVENTS or largest > QUARTER_OF_BYTES:
        told.problems.append(f"a history of {longest} events and {largest} bytes is more than a quarter of the limit")
    return await ended(world, told, [waiting])


async def _at_rest(handle: WorkflowHandle[Any, Any], beyond: int = 0) -> int:
    """How long the history is, once the workflow waits; and has grown."""
    length = 0

    async def rests() -> bool:
        nonlocal length
        now = await handle.describe()
        length, told = now.history_length, now.raw_description
        return length > beyond and not told.pending_activities and not told.HasField("pending_workflow_task")

    await eventually(rests)
    return length


# --- each ---


async def _reach(world: World, intents: list[Intent], wanted: set[Status]) -> None:
    async def are_there() -> bool:
        found = await checks.statuses(world.target, [one.id for one in intents])
        return all(found.get(one.id) in wanted for one in intents)

    await eventually(are_there, END_SECONDS)


async def ended(world: World, told: Told, intents: list[Intent]) -> Told:
    """What is told, and what is not as it has to be once all have ended."""
    try:
        await _reach(world, intents, set(TERMINAL))
    except AssertionError:
        told.problems.append(f"not all had ended after {END_SECONDS:g} s")
    if not await world.clients.streams_end(30):
        told.problems.append("not all streams had ended 30 s after the deployments")
    told.problems += await checks.all_of(world, intents)
    return told
