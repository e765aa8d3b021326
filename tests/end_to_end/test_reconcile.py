"""No zombies: whatever happens to workflows and records, a round later they fit together, and lanes go to those who
wait."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError

from activities.reconcile import ReconcileActivities
from domain.deployment import Deployment
from domain.errors import ErrorCode
from domain.ids import uuid7
from domain.reconciliation import Round
from domain.states import Status
from store.seal import Sealer
from tests.end_to_end.held import Held, Service, service
from tests.servers import eventually, temporal_server
from workflows import policies
from workflows.oversight import Oversight

Run = Callable[..., AbstractAsyncContextManager[Service]]
HEALTHY = 15


@pytest.fixture
def run(database_url: str, sealer: Sealer, temporal: str, tmp_path: Path) -> Run:
    def start(*, address: str = temporal, **more: Any) -> AbstractAsyncContextManager[Service]:
        return service(database_url, sealer, address, tmp_path, **more)

    return start


@pytest.fixture
async def here(run: Run) -> AsyncIterator[Service]:
    async with run() as one:
        yield one


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "LATE", timedelta(seconds=1))
    monkeypatch.setattr(policies, "REPAIR_TIMEOUT", timedelta(seconds=3))


def found(done: Round, *identities: str) -> list[str | None]:
    """How these were mended. Temporal is shared with tests before, of which there is no record here."""
    return [finding.mend for finding in done.findings if finding.id in identities]


async def is_terminated(here: Service, identity: str) -> Deployment:
    """Its workflow is terminated by hand, and a round is made."""
    await here.terminate(identity)
    assert found(await here.reconciler.round(), identity) == ["repaired"]
    done = await here.ends(identity)
    assert (await here.reconciler.round()).zombies == 0
    return done


def check_terminated(done: Deployment) -> None:
    assert (done.status, done.waiting_on) == (Status.FAILED, None)
    assert done.error is not None
    assert (done.error.code, done.error.retryable) == (ErrorCode.TERMINATED, True)
    assert done.error.message == "its workflow was terminated by an operator: it hangs"


@pytest.mark.parametrize(("hold", "status"), [("start", Status.INITIALIZING), ("follow", Status.BUILDING)])
async def test_a_terminated_deployment_fails_its_build_is_stopped_and_the_next_goes(
    here: Service, hold: str, status: Status
) -> None:
    here.provider.holds.add(hold)
    await here.project()
    first, second = await here.trigger(), await here.trigger()
    await here.reaches(first, status)
    check_terminated(await is_terminated(here, first))
    here.provider.holds.clear()
    assert (await here.ends(second)).status is Status.SUCCEEDED

    async def stopped() -> bool:
        return first in here.provider.stopped

    await eventually(stopped)  # one whose start was under way is found later
    assert second not in here.provider.stopped
    assert here.provider.published[first] == 0


@pytest.mark.parametrize(
    ("goes_live_itself", "fails", "status", "code"),
    [
        (True, False, Status.SUCCEEDED, None),
        (False, False, Status.FAILED, ErrorCode.TERMINATED),
        (True, True, Status.FAILED, ErrorCode.BUILD_FAILED),
    ],
)
async def test_what_had_ended_at_its_provider_ends_so(
    run: Run, goes_live_itself: bool, fails: bool, status: Status, code: ErrorCode | None
) -> None:
    provider = Held("follow")
    provider.goes_live_itself, provider.fails = goes_live_itself, fails
    async with run(provider=provider) as here:
        await here.project()
        first = await here.trigger()
        await here.reaches(first, Status.BUILDING)
        await here.terminate(first)
        provider.holds.clear()
        provider.ended = True
        await here.reconciler.round()
        done = await here.ends(first)
        assert (done.status, done.error and done.error.code) == (status, code)
        assert (provider.stopped, provider.published[first]) == (set(), int(status is Status.SUCCEEDED))
        assert await here.lanes() == ["released"]


async def test_what_was_being_published_is_published(here: Service) -> None:
    here.provider.holds.add("publish")
    await here.project()
    first, second = await here.trigger(), await here.trigger()
    await here.reaches(first, Status.DEPLOYING)
    await here.terminate(first)
    await here.reconciler.round()

    async def twice() -> bool:
        return here.provider.published[first] == 2

    await eventually(twice)
    here.provider.holds.clear()
    done = await here.ends(first)
    assert (done.status, done.artifact_id) == (Status.SUCCEEDED, first)
    assert done.deployment_url is not None
    assert (await here.ends(second)).status is Status.SUCCEEDED


async def test_what_cannot_be_published_soon_gives_its_lane_away_and_says_so(here: Service) -> None:
    here.provider.holds.add("publish")
    await here.project()
    first = await here.trigger()
    await here.reaches(first, Status.DEPLOYING)
    done = await is_terminated(here, first)
    check_terminated(done)
    assert "may be live" in ((done.error and done.error.hint) or "")
    assert await here.lanes() == ["released"]


async def test_those_that_were_terminated_before_their_turn_leave_the_line(here: Service) -> None:
    here.provider.holds.add("follow")
    await here.project()
    first, second, third = [await here.trigger() for _ in range(3)]
    await here.reaches(first, Status.BUILDING)
    await here.reaches(second, Status.QUEUED)
    check_terminated(await is_terminated(here, second))
    assert await here.lanes() == ["held", "released", "waiting"]
    await here.project("guarded")
    await here.protect("guarded")
    gated = await here.trigger("guarded")
    await here.becomes(gated, lambda now: now.status is Status.QUEUED and now.waiting_on == "approval")
    check_terminated(await is_terminated(here, gated))
    here.provider.holds.clear()
    assert {(await here.ends(one)).status for one in (first, third)} == {Status.SUCCEEDED}
    assert set(here.provider.made) == {first, third}


async def test_one_that_nobody_has_begun_ends_too(run: Run) -> None:
    async with run(builds=False) as here:
        await here.project()
        first = await here.trigger()
        await here.reaches(first, Status.CREATED)
        check_terminated(await is_terminated(here, first))
        assert await here.lanes() == ["released"]


async def test_one_that_was_to_be_canceled_is_canceled(here: Service) -> None:
    here.provider.holds.add("start")
    await here.project()
    first = await here.trigger()
    await here.reaches(first, Status.INITIALIZING)
    await here.deployments.request_cancel(first, "ada")
    done = await is_terminated(here, first)
    assert (done.status, done.error and done.error.code) == (Status.CANCELED, ErrorCode.CANCELED)


async def test_a_record_that_was_set_back_is_finished_as_its_workflow_ended(here: Service) -> None:
    await here.project()
    first = await here.trigger()
    assert (await here.ends(first)).status is Status.SUCCEEDED
    await here.closes(first)
    await here.sql(
        "update deployments set status = 'building', lane = 'held', finished_at = null where id = %(id)s", id=first
    )
    assert found(await here.reconciler.round(), first) == ["repaired"]
    assert (await here.ends(first)).status is Status.SUCCEEDED
    assert await here.lanes() == ["released"]


async def test_a_temporal_that_has_lost_everything_costs_nothing(run: Run, tmp_path: Path) -> None:
    """A new, empty server under the same database: each deployment goes on to its ending, with the build it has."""
    provider = Held("follow")
    async with run(provider=provider) as before:
        await before.project()
        await before.project("other")
        building, waiting = await before.trigger(), await before.trigger()
        await before.reaches(building, Status.BUILDING)
        await before.reaches(waiting, Status.QUEUED)
        canceled = await before.trigger("other")
        await before.reaches(canceled, Status.BUILDING)
    provider.holds.add("follow")
    async with temporal_server(tmp_path) as address, run(address=address, provider=provider) as here:
        await here.sql(
            "update deployments set cancel_requested_at = now(), cancel_delivered_at = now() where id = %(id)s",
            id=canceled,
        )
        done = await here.reconciler.round()
        assert found(done, building, waiting, canceled) == ["restarted"] * 3
        assert (await here.ends(canceled)).status is Status.CANCELED
        provider.holds.clear()
        assert [(await here.ends(one)).status for one in (building, waiting)] == [Status.SUCCEEDED] * 2
        assert provider.made == {building: 1, waiting: 1, canceled: 1}
        assert (await here.reconciler.round()).clean


@pytest.mark.parametrize("gated", [False, True])
async def test_a_workflow_without_a_record_ends_itself(here: Service, gated: bool) -> None:
    await here.project()
    known = await here.deployments.get(await here.trigger())
    stranger = known.model_copy(update={"id": str(uuid7()), "waiting_on": "lane" if gated else None})
    await here.control.start(stranger)
    with pytest.raises(WorkflowFailureError) as failed:
        await here.workflow(stranger.id).result()
    assert (
        str(failed.value.cause) == f"{ErrorCode.NOT_FOUND}: ends without a record: there is no deployment {stranger.id}"
    )


async def test_a_workflow_without_a_record_that_waits_is_ended(run: Run) -> None:
    async with run(builds=False) as here:
        await here.project()
        known = await here.deployments.get(await here.trigger())
        stranger = known.model_copy(update={"id": str(uuid7())})
        await here.control.start(stranger)

        async def ended() -> bool:
            return found(await here.reconciler.round(), stranger.id) == ["ended"]

        await eventually(ended)
        await here.closes(stranger.id)


async def test_a_lane_that_a_finished_deployment_holds_is_given_to_the_next(here: Service) -> None:
    here.provider.holds.add("follow")
    await here.project()
    first, second = await here.trigger(), await here.trigger()
    await here.reaches(first, Status.BUILDING)
    await here.reaches(second, Status.QUEUED)
    await here.sql("update deployments set status = 'failed', finished_at = now() where id = %(id)s", id=first)
    done = await here.reconciler.round()
    assert (done.held_lanes, found(done, first)) == (1, ["freed"])
    here.provider.holds.clear()
    assert (await here.ends(second)).status is Status.SUCCEEDED
    assert (await here.reconciler.round()).held_lanes == 0


async def test_a_free_lane_is_given_to_who_waits(here: Service) -> None:
    here.provider.holds.add("follow")
    await here.project()
    first, second = await here.trigger(), await here.trigger()
    await here.reaches(first, Status.BUILDING)
    await here.reaches(second, Status.QUEUED)
    await here.sql("update deployments set lane = 'released' where id = %(id)s", id=first)
    done = await here.reconciler.round()
    assert (done.idle_lanes, found(done, second)) == (1, ["granted"])
    here.provider.holds.clear()
    assert (await here.ends(second)).status is Status.SUCCEEDED


async def test_two_reconcilers_mend_once(here: Service) -> None:
    here.provider.holds.add("follow")
    projects = [await here.project(f"shop-{number}") for number in range(5)]
    terminated = [await here.trigger(project) for project in projects]
    for one in terminated:
        await here.reaches(one, Status.BUILDING)
        await here.terminate(one)
    other = ReconcileActivities(here.store, Oversight(here.temporal, here.control))
    await asyncio.gather(*(one.round() for one in (here.reconciler, other, here.reconciler, other)))
    for one in terminated:
        check_terminated(await here.ends(one))
    rows = await here.database.fetch_all("select target from audit where action = 'deployment.finish'")
    assert sorted(row["target"] for row in rows) == sorted(terminated)


async def test_healthy_deployments_are_left_alone(here: Service) -> None:
    """Round after round without a pause, while deployments come and go."""
    projects = [await here.project(f"shop-{number}") for number in range(HEALTHY // 3)]
    touched: list[str] = []

    async def look() -> None:
        while True:
            touched.extend(finding.problem for finding in (await here.reconciler.round()).findings if finding.id in ids)

    ids: set[str] = set()
    looking = asyncio.create_task(look())
    for _ in range(3):
        ids |= {await here.trigger(project) for project in projects}
    assert {(await here.ends(one)).status for one in ids} == {Status.SUCCEEDED}
    looking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await looking
    assert touched == []
    assert here.provider.made.total() == HEALTHY
    told = await here.store.last()
    assert told is not None
    assert told.rounds > 3


async def test_a_round_can_be_asked_for(here: Service) -> None:
    here.provider.holds.add("follow")
    await here.project()
    first = await here.trigger()
    await here.reaches(first, Status.BUILDING)
    await here.terminate(first)
    assert found(await here.control.reconcile(), first) == ["repaired"]
    check_terminated(await here.ends(first))
    told = await here.store.last()
    assert told is not None
    assert told.mended["repaired"] == 1
    assert told.age_seconds < 60
