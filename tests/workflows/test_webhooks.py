"""News of webhooks at a real workflow: shown, and nothing else; no number of them fills a history."""

import asyncio
from collections.abc import Collection
from uuid import uuid4

import pytest
from temporalio.client import Client

from domain.deployment import Deployment
from domain.errors import DeploymentError
from domain.webhook import Hint, News
from store.seal import Sealer
from tests.servers import eventually
from tests.workflows.doubles import Handle, Script, start, workers
from workflows.control import DeploymentWorkflows
from workflows.deployment import DeploymentWorkflow
from workflows.dispatch import Dispatcher, WebhookCourier


class Told:
    """An outbox that has news and nothing else."""

    def __init__(self, *news: News) -> None:
        self.news = list(news)
        self.told: list[News] = []

    async def claim_news(self) -> list[News]:
        claimed, self.news = self.news, []
        return claimed

    async def mark_told_news(self, news: list[News]) -> None:
        self.told += news

    async def trigger_due(self) -> list[Deployment]:
        return []

    async def not_started(self, without: Collection[str]) -> list[Deployment]:
        return []

    async def not_canceled(self, without: Collection[str]) -> list[str]:
        return []

    async def not_woken(self, without: Collection[str]) -> list[str]:
        return []

    async def mark_started(self, deployment_id: str) -> None: ...
    async def mark_canceled(self, deployment_id: str) -> None: ...
    async def mark_woken(self, deployment_id: str) -> None: ...


def news(deployment_id: str, count: int = 3) -> News:
    ids = [str(uuid4()) for _ in range(count)]
    return News(deployment_id=deployment_id, webhook_ids=ids, kind="deployment.ready")


def identity(handle: Handle) -> str:
    return handle.id.removeprefix("deployment-")


async def details(client: Client, handle: Handle) -> str:
    return str(await handle.query("__temporal_workflow_metadata"))


async def test_news_reach_the_workflow_are_shown_and_move_nothing(
    client: Client, temporal: str, sealer: Sealer
) -> None:
    goes_on = asyncio.Event()

    async def until_told() -> None:
        await goes_on.wait()

    script = Script(follow=until_told)
    workflows = DeploymentWorkflows(temporal, "default", sealer)
    async with workers(client, script):
        handle = await start(client)
        closed = await start(client, skip_deploy=True)

        async def followed() -> bool:
            return {identity(handle), identity(closed)} <= script.started

        await eventually(followed)
        await closed.terminate()
        told = Told(news(identity(handle)), news(identity(closed)), news(uuid4().hex))
        await Dispatcher(told, workflows, WebhookCourier(told, told, workflows)).deliver()
        assert len(told.told) == 3, "one that is closed, or that was never there, is done with as well"

        async def shown() -> bool:
            return "webhooks: 3, last `deployment.ready`" in await details(client, handle)

        await eventually(shown)
        assert script.published == script.stopped == set()
        goes_on.set()
        assert await handle.result() == "succeeded"
    names = [
        event.activity_task_scheduled_event_attributes.activity_type.name
        for event in (await handle.fetch_history()).events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert names == ["start_build", "follow_build", "publish_build", "collect_result", "finish"]


async def test_news_for_which_temporal_is_away_are_kept(sealer: Sealer) -> None:
    workflows = DeploymentWorkflows("127.0.0.1:1", "default", sealer)
    told = Told(news(uuid4().hex))
    with pytest.raises(DeploymentError):
        await WebhookCourier(told, told, workflows).deliver()
    assert told.told == []


async def test_many_hints_at_once_leave_the_ending_alone(client: Client) -> None:
    script = Script()
    async with workers(client, script):
        handles = [await start(client) for _ in range(5)]
        hint = Hint(count=1, kind="deployment.created")
        signals = [handle.signal(DeploymentWorkflow.webhook, hint) for handle in handles for _ in range(20)]
        await asyncio.gather(*signals, return_exceptions=True)  # a workflow may have ended meanwhile
        assert [await handle.result() for handle in handles] == ["succeeded"] * 5
