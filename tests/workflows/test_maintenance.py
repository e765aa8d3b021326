"""Schedules: each is there once, and is what the newest version wants."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from temporalio.client import Client, ScheduleDescription, ScheduleHandle

from workflows.maintenance import EVERY, KEEP_LOGS, schedule_clean_up, schedule_log_upkeep
from workflows.plan import UPKEEP_QUEUE


@pytest.fixture
async def handle(client: Client) -> AsyncIterator[ScheduleHandle]:
    yield client.get_schedule_handle(KEEP_LOGS)
    await client.get_schedule_handle(KEEP_LOGS).delete()


def interval(described: ScheduleDescription) -> timedelta:
    (only,) = described.schedule.spec.intervals
    return only.every


async def test_a_schedule_that_is_there_gets_the_interval_of_this_version(
    client: Client, handle: ScheduleHandle
) -> None:
    await schedule_log_upkeep(client, timedelta(hours=7))
    assert interval(await handle.describe()) == timedelta(hours=7)
    for _ in range(2):
        await schedule_log_upkeep(client)
        assert interval(await handle.describe()) == EVERY == timedelta(hours=1)


async def test_a_schedule_that_an_operator_has_paused_stays_paused(client: Client, handle: ScheduleHandle) -> None:
    await schedule_log_upkeep(client)
    await handle.pause(note="the bucket moves")
    await schedule_log_upkeep(client, timedelta(hours=2))
    described = await handle.describe()
    assert (described.schedule.state.paused, described.schedule.state.note) == (True, "the bucket moves")
    assert interval(described) == timedelta(hours=2)


async def test_each_builder_is_cleaned_by_a_schedule_of_its_own(client: Client) -> None:
    for queue in ("headway-builds-a", "headway-builds-b"):
        for _ in range(2):
            await schedule_clean_up(client, queue)
        handle = client.get_schedule_handle(f"clean-up-{queue}")
        action = (await handle.describe()).schedule.action
        assert (action.workflow, action.task_queue) == ("CleanUpWorkflow", UPKEEP_QUEUE)  # type: ignore[attr-defined]  # starts a workflow
        await handle.delete()
