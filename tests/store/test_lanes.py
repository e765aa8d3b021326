"""Lanes under a crowd: one holds, those in line follow by sequence, and nobody is forgotten or let in twice."""

import asyncio
import random
from itertools import pairwise
from typing import Any

import pytest

from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.ending import Ending
from domain.errors import DeploymentError, ErrorCode
from domain.ids import uuid7
from domain.project import CreateProjectRequest, Project, UpdateProjectRequest
from domain.result import Failure
from domain.states import Status
from store.database import Database
from store.deployments import DeploymentStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.outbox import Outbox
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer
from tests.servers import eventually

CANCELED = Ending(status=Status.CANCELED, failure=Failure(code=ErrorCode.CANCELED, message="canceled on request"))
DONE = Ending(status=Status.SUCCEEDED)


class Lane:
    """Triggers in the default environment of `shop`."""

    def __init__(self, database: Database, sealer: Sealer, policy: str) -> None:
        self.database = database
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 10_000))
        self.progress = ProgressStore(database, sealer)
        self.gate = GateStore(database)
        self.policy = policy

    async def trigger(self, **more: Any) -> Deployment:
        asked = {"project_id": "shop", "source_ref": "main", "concurrency": self.policy, **more}
        return (await self.deployments.trigger(TriggerDeploymentRequest.model_validate(asked), "ada")).answer

    async def lanes(self) -> dict[str, str]:
        rows = await self.database.fetch_all("select id, lane from deployments order by sequence")
        return {str(row["id"]): row["lane"] for row in rows}

    async def end(self, deployment: str, ending: Ending = DONE) -> Deployment:
        await self.gate.look(deployment)
        return await self.progress.finish(deployment, ending)


@pytest.fixture
async def queue(database: Database, sealer: Sealer, shop: Project) -> Lane:
    return Lane(database, sealer, "queue")


@pytest.fixture
async def supersede(database: Database, sealer: Sealer, shop: Project) -> Lane:
    return Lane(database, sealer, "supersede")


async def test_a_line_is_served_in_order_one_at_a_time(queue: Lane) -> None:
    line = [await queue.trigger() for _ in range(5)]
    assert [one.queue_position for one in line] == [None, 1, 2, 3, 4]
    assert [one.waiting_on for one in line] == [None, *["lane"] * 4]
    for now, following in pairwise(line):
        assert (await queue.lanes())[now.id] == "held"
        await queue.end(now.id)
        turn = await queue.deployments.get(following.id)
        assert (turn.waiting_on, turn.queue_position) == (None, None)
    await queue.end(line[-1].id)
    assert set((await queue.lanes()).values()) == {"released"}


async def test_whoever_waits_is_told_how_long_about(queue: Lane) -> None:
    assert (await queue.deployments.get((await queue.trigger()).id)).queue_seconds is None
    first, second = [await queue.trigger() for _ in range(2)]
    assert (await queue.deployments.get(second.id)).queue_seconds is None
    await queue.database.fetch_all(
        "update deployments set status = 'succeeded', started_at = now() - interval '40 seconds', finished_at = now()"
        " where lane = 'held' returning id"
    )
    assert (await queue.deployments.get(first.id)).queue_seconds == pytest.approx(40, abs=1)
    assert (await queue.deployments.get(second.id)).queue_seconds == pytest.approx(80, abs=1)


async def test_a_hundred_triggers_at_once_stand_in_one_line(queue: Lane) -> None:
    made = await asyncio.gather(*(queue.trigger() for _ in range(100)))
    in_order = [one.id for one in sorted(made, key=lambda one: one.sequence)]
    served = []
    for _ in made:
        held = [identity for identity, lane in (await queue.lanes()).items() if lane == "held"]
        assert len(held) == 1
        served += held
        await queue.end(held[0])
    assert served == in_order


async def test_of_fifty_that_supersede_the_first_and_the_newest_run(supersede: Lane) -> None:
    made = [await supersede.trigger() for _ in range(50)]
    lanes = await supersede.lanes()
    assert (lanes[made[0].id], lanes[made[-1].id]) == ("held", "waiting")
    replaced = made[1:-1]
    for one, newer in pairwise([*replaced, made[-1]]):
        ended = await supersede.end(one.id, CANCELED)
        assert (ended.status, ended.superseded_by) == (Status.CANCELED, newer.id)
        assert ended.error is not None
        assert ended.error.message == f"superseded by deployment {newer.id}"
    assert set(await Outbox(supersede.database).not_canceled()) <= {one.id for one in replaced}
    assert (await supersede.deployments.get(made[0].id)).cancel_requested_at is None
    await supersede.end(made[0].id)
    assert (await supersede.lanes())[made[-1].id] == "held"


async def test_what_runs_is_ended_only_where_that_was_said(supersede: Lane) -> None:
    running, waiting = [await supersede.trigger() for _ in range(2)]
    newest = await supersede.trigger(cancel_running=True)
    for one in (running, waiting):
        asked = await supersede.deployments.get(one.id)
        assert (asked.superseded_by, asked.cancel_requested_at is not None) == (newest.id, True)
    assert (await supersede.lanes())[newest.id] == "waiting"
    await supersede.end(running.id, CANCELED)
    assert (await supersede.lanes())[newest.id] == "held"


async def test_whoever_is_canceled_in_line_leaves_it(queue: Lane) -> None:
    first, second, third = [await queue.trigger() for _ in range(3)]
    await queue.end(second.id, CANCELED)
    assert (await queue.deployments.get(third.id)).queue_position == 1
    await queue.end(first.id)
    assert (await queue.lanes())[third.id] == "held"


async def test_force_runs_beside_and_takes_nobodys_turn(queue: Lane) -> None:
    first, second = [await queue.trigger() for _ in range(2)]
    forced = await queue.trigger(force=True)
    assert (await queue.lanes())[forced.id] == "none"
    await queue.end(forced.id)
    assert (await queue.lanes())[second.id] == "waiting"
    await queue.end(first.id)
    assert (await queue.lanes())[second.id] == "held"


async def test_a_policy_of_the_trigger_beats_the_environments_beats_the_projects(
    queue: Lane, projects: ProjectStore
) -> None:
    await projects.update_project("shop", UpdateProjectRequest(concurrency="queue"), "ada")
    await queue.trigger(concurrency=None)
    assert (await queue.trigger(concurrency=None)).queue_position == 1
    with pytest.raises(DeploymentError) as refused:
        await queue.trigger(concurrency="reject")
    assert refused.value.code is ErrorCode.ALREADY_RUNNING
    assert (await queue.trigger(concurrency="parallel")).waiting_on is None


async def test_whose_turn_has_come_is_told_until_it_was_delivered(queue: Lane) -> None:
    outbox = Outbox(queue.database)
    first, second = [await queue.trigger() for _ in range(2)]
    for one in (first, second):
        await outbox.mark_started(one.id)
    assert await outbox.not_woken() == []
    await queue.end(first.id)
    assert await outbox.not_woken() == [second.id]
    await outbox.mark_woken(second.id)
    assert await outbox.not_woken() == []


async def test_a_cancel_is_told_until_it_has_ended(queue: Lane) -> None:
    outbox = Outbox(queue.database)
    first = await queue.trigger()
    await outbox.mark_started(first.id)
    await queue.deployments.request_cancel(first.id, "ada")

    async def told() -> bool:
        return await outbox.not_canceled() == [first.id]

    await eventually(told)
    await outbox.mark_canceled(first.id)
    assert await outbox.not_canceled() == []
    long_ago = "update deployments set cancel_delivered_at = now() - interval '61 seconds' returning id"
    await queue.database.fetch_all(long_ago)
    assert await outbox.not_canceled() == [first.id]
    await queue.end(first.id)
    await queue.database.fetch_all(long_ago)
    assert await outbox.not_canceled() == []


@pytest.mark.parametrize("seed", range(3))
async def test_a_crowd_that_triggers_cancels_and_ends_at_once_loses_nobody(queue: Lane, seed: int) -> None:
    chance = random.Random(seed)
    kinds = ("queue", "supersede", "parallel")

    async def come_and_go() -> None:
        one = await queue.trigger(concurrency=chance.choice(kinds), force=chance.random() < 0.1)
        if chance.random() < 0.3:
            await queue.deployments.request_cancel(one.id, "ada")
        while not (look := await queue.gate.look(one.id)).may_go and look.ending is None:
            if chance.random() < 0.05:
                await queue.end(one.id, CANCELED)
            await asyncio.sleep(chance.random() * 0.01)
        held = [lane for lane in (await queue.lanes()).values() if lane == "held"]
        assert len(held) <= 1
        await queue.end(one.id, look.ending or DONE)

    async with asyncio.timeout(60):
        await asyncio.gather(*(come_and_go() for _ in range(40)))
    assert set((await queue.lanes()).values()) <= {"released", "none"}


async def test_a_flood_of_one_project_leaves_connections_to_the_others(queue: Lane, projects: ProjectStore) -> None:
    await projects.create_project(CreateProjectRequest(id="calm", provider="internal"), "ada")
    async with queue.database.transaction() as connection:
        await connection.execute("select 1 from environments where project_id = 'shop' for update")
        flood = [asyncio.ensure_future(queue.trigger()) for _ in range(40)]  # none can go on
        await asyncio.sleep(0)
        assert (await queue.trigger(project_id="calm")).project_id == "calm"
        assert not any(one.done() for one in flood)
    assert len({one.sequence for one in await asyncio.gather(*flood)}) == len(flood)


async def test_the_lane_of_one_that_is_not_there_is_refused_plainly(queue: Lane) -> None:
    with pytest.raises(DeploymentError, match="no deployment"):
        await queue.gate.look(str(uuid7()))
