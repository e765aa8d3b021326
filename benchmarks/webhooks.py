"""`python -m benchmarks.webhooks`: a burst of webhooks at a stack of its own, and what became of all of them.

A thousand valid ones, each ten times, in random order, over 32 connections; then ten thousand forged ones. Absolute
figures are this machine's, with the client beside the servers.
"""

import asyncio
import json
import os
import random
import re
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg

from benchmarks.__main__ import stack
from domain.ids import uuid7
from tests.providers.git_server import GitServer
from tests.providers.signing import SECRETS, encoded, signed, vercel

EVENTS, TIMES, FORGED = 1000, 10, 10_000
DEPLOYMENTS = 20
CONNECTIONS = int(os.environ.get("CONNECTIONS", "32"))
PATIENCE_SECONDS = 60

Request = tuple[bytes, dict[str, str]]


async def burst(address: str, requests: Iterable[Request]) -> tuple[Counter[int], list[float], float]:
    """Statuses, and the seconds that each answer and that all of them took. By bare sockets: a client that is slower
    than the service would measure itself."""
    waiting, statuses, taken = iter(requests), Counter[int](), list[float]()
    target = urlsplit(address)

    async def sender() -> None:
        reader, writer = await asyncio.open_connection(target.hostname, target.port)
        for body, headers in waiting:
            told = {"host": target.netloc, "content-length": str(len(body)), **headers}
            lines = "".join(f"{name}: {value}\r\n" for name, value in told.items())
            began = time.perf_counter()
            writer.write(f"POST /v1/webhooks/vercel HTTP/1.1\r\n{lines}\r\n".encode() + body)
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(re.findall(rb"(?i)content-length: (\d+)", head)[0]))
            taken.append(time.perf_counter() - began)
            statuses[int(head.split(b" ", 2)[1])] += 1
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(sender() for _ in range(CONNECTIONS)))
    return statuses, sorted(taken), time.perf_counter() - began


def valid() -> list[Request]:
    bodies = [encoded(vercel(f"dpl_{number % DEPLOYMENTS}", f"evt_{number}")) for number in range(EVENTS)]
    return [(body, signed("vercel", body, SECRETS["vercel"])) for body in bodies]


def forged(requests: list[Request], chance: random.Random) -> Iterable[Request]:
    for _ in range(FORGED):
        body, headers = chance.choice(requests)
        place = chance.randrange(len(body))
        altered = body[:place] + bytes([body[place] ^ chance.randrange(1, 256)]) + body[place + 1 :]
        signature = headers["x-vercel-signature"]
        at = chance.randrange(len(signature))
        other = chance.choice([c for c in "0123456789abcdef" if c != signature[at]])
        yield chance.choice(
            [
                (altered, headers),
                (body, {**headers, "x-vercel-signature": signature[:at] + other + signature[at + 1 :]}),
                (body, signed("vercel", body, "another secret")),
                (body, {"content-type": "application/json"}),
                (altered[:place], headers),
                (body, {**headers, "content-type": "text/plain"}),
            ]
        )


async def deployments(client: httpx.AsyncClient, repository_url: str, database_url: str) -> list[str]:
    """One that builds for long and others in its line, under the ids that the webhooks name."""
    configuration = {"buildCommand": "sleep 600", "outputDirectory": "."}
    project = {"id": "site", "provider": "internal", "repositoryUrl": repository_url, "concurrency": "queue"}
    (await client.post("/v1/projects", json={**project, "configuration": configuration})).raise_for_status()
    made = []
    for _ in range(DEPLOYMENTS):
        answer = await client.post("/v1/deployments", json={"projectId": "site", "sourceRef": "main"})
        made.append(answer.raise_for_status().json()["id"])
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        while await _count(connection, "select count(*) from deployments where status = 'queued'") < DEPLOYMENTS - 1:
            await asyncio.sleep(0.2)
        await connection.execute(
            "update deployments set provider = 'vercel', build_id = 'dpl_' || (sequence - 1) where project_id = 'site'"
        )
    return made


async def cancel(client: httpx.AsyncClient, database_url: str, made: list[str]) -> None:
    """The newest first: who waits in line is not to get its turn."""
    for identity in reversed(made):
        await client.post(f"/v1/deployments/{identity}/cancel")
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        while await _count(connection, "select count(*) from deployments where finished_at is null"):
            await asyncio.sleep(0.2)


async def _count(connection: psycopg.AsyncConnection[Any], statement: str) -> int:
    row = await (await connection.execute(statement.encode())).fetchone()
    return int(row[0]) if row else 0


async def settled(database_url: str) -> dict[str, int]:
    """How many webhooks are in which state, once none is to be delivered any more."""
    async with await psycopg.AsyncConnection.connect(database_url, autocommit=True) as connection:
        until = time.monotonic() + PATIENCE_SECONDS
        states: dict[str, int] = {}
        while time.monotonic() < until:
            rows = await (await connection.execute("select state, count(*) from webhooks group by state")).fetchall()
            states = dict(rows)
            if "pending" not in states:
                break
            await asyncio.sleep(0.2)
        signals = await _count(connection, "select coalesce(sum(signals), 0) from webhook_signals")
        return {**states, "signals": signals}


def show(what: str, found: tuple[Counter[int], list[float], float]) -> None:
    statuses, taken, seconds = found
    p99 = taken[int(len(taken) * 0.99) - 1]
    print(
        f"{what}: {dict(statuses)}, median {statistics.median(taken) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms,"
        f" worst {taken[-1] * 1000:.0f} ms, {len(taken) / seconds:.0f} a second"
    )


async def measure(data_dir: Path) -> None:
    os.environ["HEADWAY_VERCEL_WEBHOOK_SECRET"] = SECRETS["vercel"]
    chance = random.Random(1)
    with stack(data_dir), GitServer(data_dir.with_name("repositories")).running() as git:
        said = json.loads((data_dir / "stack.json").read_text())
        repository = git.repository(f"site-{uuid7().hex[:8]}", {"index.html": "hello"})
        async with httpx.AsyncClient(base_url=said["apiUrl"], timeout=30) as client:
            client.headers["Authorization"] = f"Bearer {said['apiToken']}"
            made = await deployments(client, repository.url, said["databaseUrl"])
            requests = valid()
            again = requests * (TIMES - 1)
            chance.shuffle(requests)
            chance.shuffle(again)
            show(f"burst of {EVENTS} over {CONNECTIONS} connections", await burst(said["apiUrl"], requests))
            show(f"each {TIMES - 1} times again", await burst(said["apiUrl"], again))
            print("became of them:", await settled(said["databaseUrl"]))
            show(f"{FORGED} forged", await burst(said["apiUrl"], forged(requests, chance)))
            print("became of them:", await settled(said["databaseUrl"]))
            await cancel(client, said["databaseUrl"], made)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as directory:
        asyncio.run(measure(Path(directory) / "data"))
