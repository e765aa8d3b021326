"""What the dispatcher cannot deliver keeps nothing else from Temporal."""

import pytest
from temporalio.client import Client

from domain.deployment import Deployment, TriggerDeploymentRequest, workflow_id
from domain.errors import DeploymentError
from domain.project import CreateProjectRequest
from store.database import Database
from store.deployments import DeploymentStore
from store.limits import TriggerLimiter
from store.outbox import Outbox
from store.projects import ProjectStore
from store.seal import Sealer
from tests.servers import eventually
from workflows.control import DeploymentWorkflows
from workflows.dispatch import Dispatcher, Tries

TOO_MUCH = "update deployments set triggered_by = repeat('x', 5000000) where id = %(id)s returning id"
UNREADABLE = "update deployments set configuration = '[]' where id = %(id)s returning id"
SETTLED = "update deployments set created_at = now() - interval '1 minute' returning id"


class Accepted:
    """Deployments that Temporal has not heard of, the oldest first."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self.database = database
        self.sealer = sealer

    async def triggered(self, number: int) -> list[Deployment]:
        project = CreateProjectRequest.model_validate({"id": "shop", "provider": "internal", "concurrency": "queue"})
        await ProjectStore(self.database, self.sealer).create_project(project, "ada")
        store = DeploymentStore(self.database, self.sealer, TriggerLimiter(self.database, 100))
        asked = TriggerDeploymentRequest(project_id="shop", source_ref="main")
        made = [(await store.trigger(asked, "ada")).answer for _ in range(number)]
        await self.database.fetch_all(SETTLED)
        return made

    async def waiting(self) -> set[str]:
        rows = await self.database.fetch_all("select id from deployments where workflow_started_at is null")
        return {str(row["id"]) for row in rows}


@pytest.mark.parametrize("bad", [TOO_MUCH, UNREADABLE])
async def test_one_that_never_starts_keeps_no_other_waiting(
    client: Client, temporal: str, database: Database, sealer: Sealer, bad: str
) -> None:
    accepted = Accepted(database, sealer)
    first, second, third = await accepted.triggered(3)
    for one in (first, second):
        await database.fetch_all(bad, {"id": one.id})
    dispatcher = Dispatcher(Outbox(database), DeploymentWorkflows(temporal, "default", sealer))
    await dispatcher.deliver()
    assert await accepted.waiting() == {first.id, second.id}
    assert (await client.get_workflow_handle(workflow_id(third.id)).describe()).id == workflow_id(third.id)
    await database.fetch_all(
        "update deployments set triggered_by = 'ada', configuration ="
        " (select configuration from deployments where id = %(third)s) returning id",
        {"third": third.id},
    )

    async def started() -> bool:
        await dispatcher.deliver()
        return await accepted.waiting() == set()

    await eventually(started)


async def test_while_temporal_is_away_nothing_is_put_off(database: Database, sealer: Sealer) -> None:
    accepted = Accepted(database, sealer)
    made = await accepted.triggered(1)
    away = DeploymentWorkflows("127.0.0.1:1", "default", sealer)
    with pytest.raises(DeploymentError):
        await Dispatcher(Outbox(database), away).deliver()
    tries = Tries(away)
    with pytest.raises(DeploymentError):
        await tries.deliver(made[0].id, away.start(made[0]))
    assert tries.put_off() == []
