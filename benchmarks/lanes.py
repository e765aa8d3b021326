"""`python -m benchmarks.lanes [queue|supersede|approval|flood]`: lanes under a crowd; without a word, all.

The store over real PostgreSQL with one pool of connections, as one API process has it, without Temporal and builds: who
is let in, and when, is decided there alone. `queue`: 100 triggers at once on one lane. `supersede`: 50. `approval`: 50
that wait for people and one that does not. `flood`: one project's triggers, alone and while another's 500 come in.
"""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from domain.deployment import Deployment, TriggerDeploymentRequest
from domain.ending import Ending
from domain.errors import ErrorCode
from domain.project import CreateProjectRequest, UpdateEnvironmentRequest
from domain.result import Failure
from domain.states import Status
from store.database import Database, migrate
from store.deployments import DeploymentStore
from store.gate import GateStore
from store.limits import TriggerLimiter
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.servers import postgres_server

QUEUED, SUPERSEDED, WAITING, FLOOD = 100, 50, 50, 500
CONNECTIONS = 10
SINGLES = 20


class Crowd:
    def __init__(self, database: Database) -> None:
        sealer = Sealer(SECRET_KEYS)
        self.database = database
        self.projects = ProjectStore(database, sealer)
        self.deployments = DeploymentStore(database, sealer, TriggerLimiter(database, 10_000))
        self.progress = ProgressStore(database, sealer)
        self.gate = GateStore(database)

    async def project(self, name: str, **more: Any) -> None:
        asked = {"id": name, "provider": "internal", **more}
        await self.projects.create_project(CreateProjectRequest.model_validate(asked), "bench")

    async def trigger(self, project: str, **more: Any) -> Deployment:
        asked = TriggerDeploymentRequest.model_validate({"project_id": project, "source_ref": "main", **more})
        return (await self.deployments.trigger(asked, "bench")).answer

    async def end(self, identity: str, status: Status = Status.SUCCEEDED) -> Deployment:
        failure = None if status is Status.SUCCEEDED else Failure(code=ErrorCode.CANCELED, message="canceled")
        return await self.progress.finish(identity, Ending(status=status, failure=failure))

    async def holders(self, project: str) -> list[str]:
        statement = "select id::text from deployments where project_id = %(project)s and lane = 'held'"
        return [row["id"] for row in await self.database.fetch_all(statement, {"project": project})]


async def queue(crowd: Crowd) -> str:
    await crowd.project("queue", concurrency="queue")
    made = await asyncio.gather(*(crowd.trigger("queue") for _ in range(QUEUED)))
    served, most = [], 0
    while holders := await crowd.holders("queue"):
        most = max(most, len(holders))
        served.append(holders[0])
        await crowd.end(holders[0])
    in_order = served == [one.id for one in sorted(made, key=lambda one: one.sequence)]
    return f"{len(served)} of {QUEUED} ran, {'in order' if in_order else 'OUT OF ORDER'}, at most {most} at a time"


async def supersede(crowd: Crowd) -> str:
    await crowd.project("supersede", concurrency="supersede")
    made = [await crowd.trigger("supersede") for _ in range(SUPERSEDED)]
    ran, replaced = [], 0
    for one in made[1:-1]:
        look = await crowd.gate.look(one.id)
        if look.ending is not None:
            replaced += (await crowd.progress.finish(one.id, look.ending)).superseded_by is not None
    while holders := await crowd.holders("supersede"):
        ran += holders
        await crowd.end(holders[0])
    well = ran == [made[0].id, made[-1].id]
    return f"{'the first and the newest ran' if well else 'OTHERS RAN'}; {replaced} canceled with supersededBy"


async def approval(crowd: Crowd) -> str:
    await crowd.project("approval", concurrency="queue")
    first = await crowd.trigger("approval")
    await crowd.end(first.id)
    rule = UpdateEnvironmentRequest.model_validate({"protection": {"requiredApprovals": 1}})
    await crowd.projects.update_environment(first.environment_id, rule, "bench")
    waiting = await asyncio.gather(*(crowd.trigger("approval") for _ in range(WAITING)))
    began = time.monotonic()
    free = await crowd.trigger("approval", break_glass="benchmark")
    goes = (await crowd.gate.look(free.id)).may_go
    taken = time.monotonic() - began
    wait = sum(one.waiting_on == "approval" for one in waiting)
    return f"{wait} wait for approval; the free one {'may go' if goes else 'WAITS'} after {taken * 1000:.0f} ms"


async def flood(crowd: Crowd) -> str:
    await crowd.project("flood", concurrency="queue")
    await crowd.project("calm", concurrency="parallel")

    async def singles() -> list[float]:
        taken = []
        for _ in range(SINGLES):
            began = time.monotonic()
            await crowd.trigger("calm")
            taken.append((time.monotonic() - began) * 1000)
            await asyncio.sleep(0.01)
        return taken

    alone = await singles()
    flooding = asyncio.gather(*(crowd.trigger("flood") for _ in range(FLOOD)))
    await asyncio.sleep(0)
    amid = await singles()
    over = flooding.done()
    await flooding
    said = [f"median {statistics.median(one):.0f} ms, worst {max(one):.0f} ms" for one in (alone, amid)]
    return f"alone {said[0]}; in the flood {said[1]}{' (which was over before)' if over else ''}"


ROWS: dict[str, Callable[[Crowd], Awaitable[str]]] = {
    "queue": queue,
    "supersede": supersede,
    "approval": approval,
    "flood": flood,
}


async def measure(names: list[str], directory: Path) -> None:
    async with postgres_server(directory) as server:
        await migrate(server.url("postgres"))
        async with Database(server.url("postgres"), CONNECTIONS) as database:
            crowd = Crowd(database)
            for name in names:
                began = time.monotonic()
                said = await ROWS[name](crowd)
                print(f"{name}: {said}; {time.monotonic() - began:.1f} s, load {os.getloadavg()[0]:.1f}")


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as directory:
        Path(directory).chmod(0o755)
        asyncio.run(measure(sys.argv[1:] or list(ROWS), Path(directory)))


if __name__ == "__main__":
    main()
