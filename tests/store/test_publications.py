"""What goes out over what: an older deployment never over a newer one that was published, unless it was forced to."""

import asyncio
import random
from typing import Any

import pytest

from domain.deployment import Deployment, RollbackRequest
from domain.ending import Ending
from domain.errors import DeploymentError, ErrorCode
from domain.fence import Overtaken
from domain.project import Project
from domain.result import Failure
from domain.states import Status
from store.database import Database
from store.progress import ProgressStore
from store.seal import Sealer
from tests.store.test_lanes import CANCELED, DONE, Lane

FAILED = Ending(status=Status.FAILED, failure=Failure(code=ErrorCode.DEPLOY_FAILED, message="the edge is away"))


@pytest.fixture
async def beside(database: Database, sealer: Sealer, shop: Project) -> Lane:
    """Where deployments run side by side."""
    return Lane(database, sealer, "parallel")


async def two(lane: Lane, **of_the_first: Any) -> tuple[Deployment, Deployment]:
    return await lane.trigger(**of_the_first), await lane.trigger()


async def number_of(lane: Lane, deployment_id: str) -> int:
    number = await lane.progress.begin_publication(deployment_id)
    assert number is not None
    return number


async def test_numbers_only_grow_from_attempt_to_attempt_and_over_deployments(beside: Lane) -> None:
    older, newer = await two(beside)
    turns = [older, older, newer, newer]
    numbers = [await number_of(beside, one.id) for one in turns]
    assert numbers == sorted(set(numbers))


async def test_a_database_of_yesterday_goes_on_above_the_numbers_of_today(beside: Lane) -> None:
    one = await beside.trigger()
    before = await number_of(beside, one.id)
    await beside.database.fetch_all("update environments set last_publication = 0 returning id")
    assert await number_of(beside, one.id) > before


async def test_an_older_one_does_not_go_out_over_a_newer_one_and_says_which(beside: Lane) -> None:
    older, newer = await two(beside)
    await number_of(beside, newer.id)
    await beside.progress.finish(newer.id, DONE)
    for _ in range(2):  # its step may be tried again
        assert await beside.progress.begin_publication(older.id) is None
    ended = await beside.progress.finish(older.id, DONE)
    assert (ended.status, ended.superseded_by, ended.cancel_requested_at) == (Status.SUCCEEDED, newer.id, None)
    result = await beside.deployments.result(older.id)
    assert result is not None
    [warning] = result.warnings
    assert warning.message.startswith(f"deployment {newer.id}, which is newer, was live before it")
    told = await beside.database.fetch_all("select 1 from audit where action = 'deployment.supersede'")
    assert len(told) == 1


async def test_nobody_goes_back_to_what_was_overtaken(beside: Lane) -> None:
    older, newer = await two(beside)
    await number_of(beside, newer.id)
    await beside.progress.finish(newer.id, DONE)
    await beside.progress.begin_publication(older.id)
    await beside.progress.finish(older.id, DONE)
    with pytest.raises(DeploymentError, match="nothing succeeded here before it"):
        await beside.deployments.rollback(newer.id, RollbackRequest(), "ada")


async def test_one_that_is_to_make_way_is_not_published(beside: Lane) -> None:
    older = await beside.trigger(concurrency="reject")
    await beside.trigger(concurrency="supersede", cancelRunning=True)
    with pytest.raises(Overtaken, match="makes way for"):
        await number_of(beside, older.id)


async def test_a_cancel_that_was_acknowledged_keeps_it_from_going_out(beside: Lane) -> None:
    one = await beside.trigger()
    await beside.deployments.request_cancel(one.id, "ada")
    with pytest.raises(Overtaken, match="is to be canceled"):
        await number_of(beside, one.id)


async def test_a_cancel_that_comes_while_it_goes_out_does_not(beside: Lane) -> None:
    one = await beside.trigger()
    before = await number_of(beside, one.id)
    await beside.deployments.request_cancel(one.id, "ada")
    assert await number_of(beside, one.id) > before
    assert (await beside.progress.finish(one.id, FAILED)).status is Status.FAILED


async def test_while_a_newer_one_is_being_published_an_older_one_waits_for_what_comes_of_it(beside: Lane) -> None:
    older, newer = await two(beside)
    await number_of(beside, newer.id)
    with pytest.raises(DeploymentError, match=f"deployment {newer.id}, which is newer, is being published") as waits:
        await number_of(beside, older.id)
    assert waits.value.retryable
    await beside.progress.finish(newer.id, FAILED)
    assert await number_of(beside, older.id)


async def test_a_forced_one_may_go_out_over_a_newer_one(beside: Lane) -> None:
    older, newer = await two(beside, force=True)
    await number_of(beside, newer.id)
    await beside.progress.finish(newer.id, DONE)
    assert await number_of(beside, older.id)


async def test_one_that_publishes_nothing_overtakes_nobody(beside: Lane) -> None:
    older = await beside.trigger()
    newer = await beside.trigger(configuration={"skipDeploy": True})
    await beside.progress.finish(newer.id, DONE)
    assert await number_of(beside, older.id)


async def test_a_rollback_goes_out_over_what_it_takes_back(beside: Lane) -> None:
    older, newer = await two(beside)
    for one in (older, newer):
        await number_of(beside, one.id)
        await beside.progress.finish(one.id, DONE)
    back = (await beside.deployments.rollback(newer.id, RollbackRequest(), "ada")).answer
    assert await number_of(beside, back.id)


async def test_whose_turn_is_over_is_told_before_he_publishes(beside: Lane) -> None:
    older, newer = await two(beside)
    first = await number_of(beside, older.id)
    second = await number_of(beside, older.id)
    await beside.progress.check_publication(older.id, second)
    with pytest.raises(Overtaken):
        await beside.progress.check_publication(older.id, first)
    third = await number_of(beside, newer.id)
    with pytest.raises(Overtaken):
        await beside.progress.check_publication(older.id, second)
    await beside.progress.finish(newer.id, FAILED)
    with pytest.raises(Overtaken):
        await beside.progress.check_publication(newer.id, third)


@pytest.mark.parametrize("seed", range(3))
async def test_of_a_crowd_that_publishes_at_once_the_newest_that_was_published_stays(beside: Lane, seed: int) -> None:
    chance = random.Random(seed)
    crowd = [await beside.trigger() for _ in range(12)]
    site: list[tuple[int, Deployment]] = []

    async def go_out(one: Deployment) -> None:
        while True:
            await asyncio.sleep(chance.random() * 0.05)
            try:
                number = await beside.progress.begin_publication(one.id)
            except DeploymentError:
                continue
            if number is None:
                await beside.progress.finish(one.id, DONE)
                return
            await asyncio.sleep(chance.random() * 0.02)
            if chance.random() < 0.3:
                await beside.progress.finish(one.id, FAILED)
                return
            if not site or site[-1][0] < number:  # as a provider does
                site.append((number, one))
                await beside.progress.finish(one.id, DONE)
                return

    async with asyncio.timeout(60):
        await asyncio.gather(*map(go_out, crowd))
    out = [one.sequence for _, one in site]
    assert out == sorted(out)
    rows = await beside.database.fetch_all(
        "select sequence from deployments where status = 'succeeded' and superseded_by is null"
    )
    assert {row["sequence"] for row in rows} == set(out)


async def test_one_that_has_ended_is_not_published(beside: Lane, progress: ProgressStore) -> None:
    one = await beside.trigger()
    await progress.finish(one.id, CANCELED)
    with pytest.raises(Overtaken, match="has ended as canceled"):
        await progress.begin_publication(one.id)
