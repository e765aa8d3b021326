"""An outage only waits, and one intent is one build: real workflows and adapters, on stand-ins of providers."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from domain.states import Status
from domain.webhook import Delivery
from providers.answers import Ambiguous
from store.seal import Sealer
from store.webhook_intake import Origin
from tests.end_to_end import hosted
from tests.end_to_end.hosted import Service, service
from tests.servers import eventually
from workflows import policies

MANY = 12
OUTAGE_SECONDS = 2.0


@pytest.fixture(autouse=True)
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ambiguous, "LOOK_AGAIN_SECONDS", 1)


@pytest.fixture
async def here(database_url: str, sealer: Sealer, temporal: str, tmp_path: Path) -> AsyncIterator[Service]:
    async with service(database_url, sealer, temporal, tmp_path) as here:
        yield here


async def test_an_outage_in_the_middle_of_deployments_costs_nothing_but_time(here: Service) -> None:
    found = await hosted.outage(here, MANY, OUTAGE_SECONDS)
    stages = {Status.INITIALIZING, Status.BUILDING, Status.DEPLOYING}
    assert found == hosted.Outcome({Status.SUCCEEDED: MANY}, {1: MANY}, [], MANY, stages)


async def test_three_calls_of_ten_that_fail_fail_no_deployment(here: Service) -> None:
    found = await hosted.faults(here, 20)
    assert (found.statuses, found.builds) == ({Status.SUCCEEDED: 20}, {1: 20})
    assert found.logs == []


@pytest.mark.parametrize(
    ("provider", "by"), [("vercel", "cancel"), ("github-pages", "cancel"), ("netlify", "deadline")]
)
async def test_what_is_ended_while_its_provider_is_away_is_stopped_there_when_it_is_back(
    here: Service, provider: str, by: str
) -> None:
    [identity] = asked = [await here.trigger(provider, timeout_seconds=60 if by == "cancel" else 5)]
    await here.become(asked, lambda one: one.build_id is not None)
    here.hosts[provider].is_away()
    if by == "cancel":
        await here.cancel(identity)

    async def stopping() -> bool:
        return await here.under_way(identity) == {"cancel_build"}

    await eventually(stopping)
    [away] = await here.become(asked, hosted.waits)
    assert not away.ended
    await here.hosts[provider].comes_back()
    [done] = await here.become(asked, lambda one: one.ended)
    assert done.status is (Status.CANCELED if by == "cancel" else Status.TIMEOUT)
    assert done.error is not None
    assert "may still run" not in (done.error.hint or "")
    assert here.is_stopped(done)


@pytest.mark.parametrize("comes_back", [True, False])
async def test_a_build_whose_start_was_not_answered_is_stopped_too_or_told_of(
    here: Service, monkeypatch: pytest.MonkeyPatch, comes_back: bool
) -> None:
    monkeypatch.setattr(policies, "FIND_TIMEOUT", timedelta(seconds=60 if comes_back else 2))
    host = here.hosts["vercel"]
    host.goes_away()
    [identity] = asked = [await here.trigger("vercel")]
    await here.become(asked, hosted.waits)
    assert here.made(identity) == 1, "it was made, and nobody here knows"
    await here.cancel(identity)

    async def looking() -> bool:
        return await here.under_way(identity) == {"find_build"}

    await eventually(looking)
    if comes_back:
        await host.comes_back()
    [done] = await here.become(asked, lambda one: one.ended)
    assert done.status is Status.CANCELED
    assert done.error is not None
    if comes_back:
        assert done.error.hint is None
        assert here.is_stopped(done)
    else:
        assert "vercel may have a build of it, which then runs on" in (done.error.hint or "")


async def test_a_build_that_cannot_be_stopped_keeps_no_deployment_from_ending(
    here: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "CANCEL_TIMEOUT", timedelta(seconds=2))
    [identity] = asked = [await here.trigger("vercel")]
    [running] = await here.become(asked, lambda one: one.build_id is not None)
    here.hosts["vercel"].door.shut()
    await here.cancel(identity)
    [done] = await here.become(asked, lambda one: one.ended)
    assert done.status is Status.CANCELED
    assert done.error is not None
    assert f"build {running.build_id} may still run at vercel, and may go live" in (done.error.hint or "")


async def test_a_webhook_ends_a_long_pause(database_url: str, sealer: Sealer, temporal: str, tmp_path: Path) -> None:
    """Without it the end would be told a pause later; all other tests here get along without."""
    async with service(database_url, sealer, temporal, tmp_path, look=600) as here:
        netlify = here.hosts["netlify"].stand_in
        asked = [await here.trigger("netlify")]
        [running] = await here.become(asked, lambda one: one.status is Status.BUILDING)
        netlify.goes_on.set()
        looks = len(netlify.asked("GET", "^/deploys/"))
        delivery = Delivery(identity="1", kind="deploy_created", build_ids=[running.build_id or ""])
        receipt = await here.webhooks.receive(Origin("netlify", "netlify", None), delivery)
        assert (receipt.state, looks) == ("pending", 1)
        [done] = await here.become(asked, lambda one: one.ended)
        assert done.status is Status.SUCCEEDED
