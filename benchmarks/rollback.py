"""`python -m benchmarks.rollback [--histories N]`: how soon traffic is back, and whether all of what ran is back.

Without a word: twenty rollbacks on a stack of its own, each from its POST to the edge answering with what was served
before. With `--histories`: N random histories of `tests.store.test_histories` over real PostgreSQL; one that brings
back anything else, or lets back what is held, ends the run with its seed.
"""

import argparse
import asyncio
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg

from benchmarks.__main__ import stack
from store.database import Database, migrate
from store.projects import ProjectStore
from store.seal import Sealer
from tests.conftest import SECRET_KEYS
from tests.providers.git_server import GitServer
from tests.servers import postgres_server
from tests.store.conftest import make_shop
from tests.store.test_histories import History
from tests.store.test_rollbacks import Shop

ROLLBACKS = 20
STEPS = 12
LOOK_SECONDS = 0.002
ENDED = {"succeeded", "failed", "canceled", "timeout"}


class Site:
    """A project whose page is a variable of its configuration."""

    def __init__(self, api: httpx.AsyncClient, edge: str) -> None:
        self.api = api
        self.asked = self.dropped = 0
        # A connection each, as new visitors have: those are what an edge would drop first.
        once = httpx.Limits(max_keepalive_connections=0)
        self.edge = httpx.AsyncClient(base_url=edge, limits=once, headers={"Host": "production.site.localhost"})

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        return (await self.api.request(method, path, json=body)).raise_for_status().json()

    async def deploy(self, says: str) -> str:
        configuration = {"environmentVariables": {"SAYS": says}}
        asked = {"projectId": "site", "sourceRef": "main", "configuration": configuration, "breakGlass": "benchmark"}
        return await self.end_of((await self.ask("POST", "/v1/deployments", asked))["id"])

    async def end_of(self, identity: str) -> str:
        while (now := await self.ask("GET", f"/v1/deployments/{identity}"))["status"] not in ENDED:
            await asyncio.sleep(0.02)
        if now["status"] != "succeeded":
            raise RuntimeError(f"{identity} ended as {now['status']}: {now['error']}")
        return identity

    async def served(self) -> str | None:
        """None: the connection was dropped."""
        self.asked += 1
        try:
            return (await self.edge.get("/")).text.strip()
        except httpx.TransportError:
            self.dropped += 1
            return None


async def speed(directory: Path) -> None:
    with stack(directory / "data"), GitServer(directory / "repositories").running() as git:
        said = json.loads((directory / "data" / "stack.json").read_text())
        headers = {"Authorization": f"Bearer {said['apiToken']}"}
        async with httpx.AsyncClient(base_url=said["apiUrl"], headers=headers, timeout=30) as api:
            site = Site(api, said["edgeUrl"])
            configuration = {"buildCommand": "mkdir out; echo $SAYS > out/index.html", "outputDirectory": "out"}
            url = git.repository("site", {"a": ""}).url
            project = {"id": "site", "provider": "internal", "repositoryUrl": url, "configuration": configuration}
            await site.ask("POST", "/v1/projects", project)
            await site.deploy("one")
            newest = await site.deploy("two")
            taken, ended = [], []
            for number in range(ROLLBACKS):
                wanted = ("one", "two")[number % 2]
                began = time.monotonic()
                newest = (await site.ask("POST", f"/v1/deployments/{newest}/rollback"))["id"]
                while await site.served() != wanted:
                    await asyncio.sleep(LOOK_SECONDS)
                taken.append(time.monotonic() - began)
                await site.end_of(newest)
                ended.append(time.monotonic() - began)
    for what, seconds in (("traffic is back", taken), ("the rollback has succeeded", ended)):
        middle, worst = statistics.median(seconds), max(seconds)
        print(f"{what}: median {middle:.2f} s, worst {worst:.2f} s of {len(seconds)}; load {os.getloadavg()[0]:.1f}")
    print(f"{site.dropped} of {site.asked} requests to the edge were dropped meanwhile")


async def histories(directory: Path, number: int) -> None:
    rollbacks = attempts = 0
    sealer = Sealer(SECRET_KEYS)
    async with postgres_server(directory) as server:
        await migrate(server.url("postgres"))
        async with await psycopg.AsyncConnection.connect(server.url("template1"), autocommit=True) as connection:
            for seed in range(number):
                await connection.execute(f"create database history_{seed} template postgres".encode())
                async with Database(server.url(f"history_{seed}")) as database:
                    projects = ProjectStore(database, sealer)
                    await make_shop(projects)
                    history = History(Shop(database, sealer, projects), database, seed)
                    try:
                        await history.run(STEPS)
                    except AssertionError as error:
                        raise RuntimeError(f"the history of seed {seed}") from error
                rollbacks += history.rollbacks
                attempts += history.attempts
    print(f"{number} histories: {rollbacks} rollbacks, all of what ran was back;")
    print(f"{attempts} attempts to bring back what was held, none went by itself")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.rollback")
    parser.add_argument("--histories", type=int, metavar="N")
    number = parser.parse_args().histories
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as directory:
        Path(directory).chmod(0o755)
        asyncio.run(histories(Path(directory), number) if number else speed(Path(directory)))


if __name__ == "__main__":
    main()
