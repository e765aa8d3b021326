"""One fault: deployments are brought to their statuses and held there, a part is struck, all are let go and counted.

Rules:
1. A fault finds its deployments where the table says, or the round says that it did not.
2. Nobody tells the service that there was a fault: clients go on as clients do.
"""

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from domain.errors import ErrorCode
from domain.states import TERMINAL, Status
from providers.internal.builds import BuildDirectory
from providers.internal.sites import Sites
from tests.chaos import checks
from tests.chaos.held import REPOSITORY, HeldProvider, let_build_go
from tests.chaos.target import CUTS, Kind, Target, signal_all
from tests.chaos.traffic import Clients, Intent
from tests.doors import Door
from tests.providers.git_server import GitServer
from tests.servers import eventually

KEPT = ("worker", "api", "temporal", "postgres", "edge")
"""Those that the stack starts again."""

PARTS = (*KEPT, "all", "supervisor")
"""`all` are those that the stack starts again, at once."""

GROUPS: dict[str, Status] = {
    "created": Status.CREATED,
    "lane": Status.QUEUED,
    "approval": Status.QUEUED,
    "initializing": Status.INITIALIZING,
    "building": Status.BUILDING,
    "deploying": Status.DEPLOYING,
}
"""Where a fault may find a deployment. Both `lane` and `approval` are `queued`, and wait for different things."""

SUPERVISED = ("initializing", "building")
OF_BUILDS_HERE = ("edge", "supervisor")
"""Parts that only builds of `internal` have to do with."""

LANE_LENGTH = 2
DURING = 6
"""Deployments that are asked for while the part is away."""
STEADY_SECONDS = 60.0
SETTLE_SECONDS = 150.0


@dataclass
class World:
    """What a round works with."""

    target: Target
    clients: Clients
    provider: HeldProvider
    git: GitServer
    repository: str
    late_git: Door
    """The way to the git server by which those come that are held in `initializing`."""

    async def intents(
        self,
        number: int,
        here: Callable[[int], bool] = lambda _: False,
        *,
        repository: str | None = None,
        approved: bool = False,
        hold: Status | None = None,
    ) -> list[Intent]:
        """Built `here`, or at the deploy server. Each has a project to itself: in one, a newer one ends the older."""

        async def one(number: int) -> Intent:
            where, provider = self.provider.url, "custom"
            if here(number):
                where, provider = repository or self.repository, "internal"
            return Intent(await self.clients.project(provider, where, approved=approved), provider, hold=hold)

        return [await one(number) for number in range(number)]


@dataclass
class Round:
    part: str
    kind: Kind
    groups: tuple[str, ...]
    number: int
    """Deployments in each group."""
    away_seconds: float
    chance: random.Random
    intents: dict[str, list[Intent]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    recovery: list[float] = field(default_factory=list)
    """Seconds from the fault (or from its end, where it lasts) to the next change of each deployment that it hit."""
    seconds: float = 0
    settled_seconds: float = 0

    @property
    def everyone(self) -> list[Intent]:
        return [intent for intents in self.intents.values() for intent in intents]

    @property
    def hit(self) -> dict[str, int]:
        return {name: sum(one.found == GROUPS[name] for one in self.intents[name]) for name in self.groups}

    async def run(self, world: World) -> None:
        began = time.monotonic()
        async with contextlib.AsyncExitStack() as held:
            publishing = await held.enter_async_context(contextlib.AsyncExitStack())
            if "deploying" in self.groups:  # whoever points a host at a release has to have this lock
                await publishing.enter_async_context(Sites(world.target.data_dir / "sites").lock())
            held.callback(world.late_git.flows.set)
            held.callback(lambda: signal_all([world.target.pid("worker")], signal.SIGCONT))
            await self.hold(world)
            fresh = await world.intents(DURING)
            if "created" in self.groups:
                await self._create_some(world)
            await self._look_where_they_are(world)
            self.intents["during"] = fresh
            struck = time.monotonic()
            back = await self._strike(world, publishing)
        settled = await self._settle(world)
        self.settled_seconds = time.monotonic() - back
        hit = [one for name in self.groups if name != "lane" for one in self.intents[name]]
        since = struck if self.kind == "kill" else back
        for one in hit:
            after = [seen.at for seen in one.changes if seen.at > struck]
            self.recovery += [max(0.0, after[0] - since)] if after else []
        if not settled:
            self.problems.append(f"not all had ended {SETTLE_SECONDS:g} s after the fault")
        if not await world.clients.streams_end(30):
            self.problems.append("not all streams had ended 30 s after the deployments")
        self.problems += await checks.all_of(world, self.everyone)
        self.seconds = time.monotonic() - began

    # --- before ---

    async def hold(self, world: World) -> None:
        """Brings all to their statuses, but for those that stay `created`."""
        world.late_git.flows.clear()
        for name in self.groups:
            if name != "created":
                self.intents[name] = await _PLACES[name](self, world)
        for intent in self.everyone:
            world.clients.watch(intent)
        wanted = {intent.id: GROUPS[name] for name in self.groups for intent in self.intents.get(name, [])}

        async def are_there() -> bool:
            found = await checks.statuses(world.target, wanted)
            return all(found.get(one) == status for one, status in wanted.items())

        with contextlib.suppress(AssertionError):  # `hit` says how many were
            await eventually(are_there, STEADY_SECONDS)

    async def _create_some(self, world: World) -> None:
        """One that is created stays so while the worker does nothing; Temporal has heard of every other one."""
        self.intents["created"] = intents = await world.intents(self.number, self._here)
        signal_all([world.target.pid("worker")], signal.SIGSTOP)
        await world.clients.trigger_all(intents[::2])
        world.target.doors["api-temporal"].shut()
        await world.clients.trigger_all(intents[1::2])
        for intent in intents:
            world.clients.watch(intent)

    async def _look_where_they_are(self, world: World) -> None:
        found = await checks.statuses(world.target, [one.id for one in self.everyone])
        for name in self.groups:
            for intent in self.intents[name]:
                intent.found = found.get(intent.id)

    # --- the fault ---

    async def _strike(self, world: World, publishing: contextlib.AsyncExitStack) -> float:
        """Strikes and lets all go, some during the fault and some after it; says when it was over."""
        early = {one.id for one in self.everyone if self.chance.random() < 0.5}
        publish_early = self.chance.random() < 0.5

        async def let_go_some() -> None:
            if (self.part, self.kind) != ("worker", "stop"):
                signal_all([world.target.pid("worker")], signal.SIGCONT)
            if (self.part, self.kind) != ("temporal", "cut"):
                await world.target.doors["api-temporal"].open()
            self._let_go(world, early)
            if publish_early:
                await publishing.aclose()
                world.late_git.flows.set()

        during = asyncio.create_task(self._during(world))
        await _FAULTS[self.kind](self, world, let_go_some)
        over = time.monotonic()
        self._let_go(world, {one.id for one in self.everyone})
        await during
        return over

    def _let_go(self, world: World, ids: set[str]) -> None:
        for one in self.everyone:
            if one.id in ids and one.expected is not Status.CANCELED:
                world.provider.let_go(one.token)
                let_build_go(world.target.data_dir, one.id)

    async def _during(self, world: World) -> None:
        """What clients do while the part is away: new deployments, cancels, approvals."""
        clients, fresh = world.clients, self.intents["during"]
        doomed = [one for one in self.intents.get("building", []) if one.expected is Status.CANCELED]
        await asyncio.gather(
            clients.trigger_all(fresh),
            *(clients.approve(one.id) for one in self.intents.get("approval", [])),
            *(clients.cancel(one.id) for one in doomed),
        )
        for one in fresh:
            clients.watch(one)

    # --- afterwards ---

    async def _settle(self, world: World) -> bool:
        async def all_ended() -> bool:
            found = await checks.statuses(world.target, [one.id for one in self.everyone])
            return all(found.get(one.id) in TERMINAL for one in self.everyone)

        try:
            await eventually(all_ended, SETTLE_SECONDS)
        except AssertionError:
            return False
        return True

    # --- places ---

    def _here(self, number: int) -> bool:
        return self.part in OF_BUILDS_HERE or number % 2 == 0

    async def _held_in(self, world: World, status: Status, repository: str | None = None) -> list[Intent]:
        intents = await world.intents(self.number, self._here, repository=repository, hold=status)
        if self.part == "supervisor" and self.kind == "kill":
            for one in intents:
                one.expected, one.code = Status.FAILED, ErrorCode.BUILD_FAILED
        elif status is Status.BUILDING:
            for one in intents[3::5]:
                one.ends_with, one.expected, one.code = 7, Status.FAILED, ErrorCode.BUILD_FAILED
            for one in intents[::5]:
                one.expected, one.code = Status.CANCELED, ErrorCode.CANCELED
        await world.clients.trigger_all(intents)
        return intents

    async def initializing(self, world: World) -> list[Intent]:
        return await self._held_in(world, Status.INITIALIZING, f"http://127.0.0.1:{world.late_git.port}/smart/site")

    async def building(self, world: World) -> list[Intent]:
        return await self._held_in(world, Status.BUILDING)

    async def deploying(self, world: World) -> list[Intent]:
        return await self._held_in(world, Status.DEPLOYING)

    async def approval(self, world: World) -> list[Intent]:
        intents = await world.intents(self.number, self._here, approved=True)
        await world.clients.trigger_all(intents)
        return intents

    async def lane(self, world: World) -> list[Intent]:
        """Lines of LANE_LENGTH, each behind one that is held in `building`."""
        waiting: list[Intent] = []
        ahead: list[Intent] = []
        while len(waiting) < self.number:
            here = self._here(len(ahead))
            where = world.repository if here else world.provider.url
            provider = "internal" if here else "custom"
            project = await world.clients.project(provider, where, concurrency="queue")
            first = Intent(project, provider, hold=Status.BUILDING)
            await world.clients.trigger(first)
            behind = [Intent(project, provider) for _ in range(min(LANE_LENGTH, self.number - len(waiting)))]
            for one in behind:
                await world.clients.trigger(one)
            ahead.append(first)
            waiting += behind
        self.intents["ahead"] = ahead
        return waiting


_PLACES: dict[str, Callable[[Round, World], Awaitable[list[Intent]]]] = {
    "approval": Round.approval,
    "building": Round.building,
    "deploying": Round.deploying,
    "initializing": Round.initializing,
    "lane": Round.lane,
}

LetGo = Callable[[], Awaitable[None]]


async def _kill(of: Round, world: World, let_go: LetGo) -> None:
    if of.part == "supervisor":
        signal_all(_supervisors(of, world), signal.SIGKILL)
        await let_go()
    else:
        killing = asyncio.create_task(world.target.kill(*(KEPT if of.part == "all" else [of.part])))
        await let_go()
        await killing


async def _stop(of: Round, world: World, let_go: LetGo) -> None:
    if of.part == "supervisor":
        pids = _supervisors(of, world)
        signal_all(pids, signal.SIGSTOP)
        try:
            await let_go()
            await asyncio.sleep(of.away_seconds)
        finally:
            signal_all(pids, signal.SIGCONT)
    else:
        with world.target.stopped(of.part):
            await let_go()
            await asyncio.sleep(of.away_seconds)


async def _cut(of: Round, world: World, let_go: LetGo) -> None:
    async with world.target.cut(*CUTS[of.part]):
        await let_go()
        await asyncio.sleep(of.away_seconds)


_FAULTS: dict[Kind, Callable[[Round, World, LetGo], Awaitable[None]]] = {"cut": _cut, "kill": _kill, "stop": _stop}


def _supervisors(of: Round, world: World) -> list[int]:
    """Of the builds that are held; they hold their locks, so that their numbers are theirs."""
    builds = [BuildDirectory(world.target.data_dir / "builds" / one.id) for one in of.everyone if one.id]
    states = [build.state() for build in builds if build.supervised()]
    return [state.pid for state in states if state is not None and not state.ended]


@contextlib.asynccontextmanager
async def world(target: Target, directory: Path) -> AsyncIterator[World]:
    async with contextlib.AsyncExitStack() as parts:
        provider = await parts.enter_async_context(HeldProvider().running())
        git = parts.enter_context(GitServer(directory / "repositories").running())
        repository = git.repository("site", REPOSITORY)
        late = Door(git.url)
        await late.open()
        parts.callback(late.shut)
        clients = await parts.enter_async_context(Clients(target.api_url, target.token))
        yield World(target, clients, provider, git, repository.url, late)
