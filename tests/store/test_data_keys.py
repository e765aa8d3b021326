"""Each project's secrets are sealed under a key of its own; what was sealed before there were such keys still opens."""

import asyncio
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import Rollback

from domain.project import CreateProjectRequest
from store import data_keys
from store.database import Database
from store.deployments import DeploymentStore
from store.limits import TriggerLimiter
from store.progress import ProgressStore
from store.projects import ProjectStore
from store.reseal import SecretKeyStore
from store.seal import CannotOpen, Sealer
from store.webhooks import WebhookStore
from tests.conftest import SECRET_KEYS
from tests.store.test_secrets import change, trigger

OF_BEFORE = bytes.fromhex(
    "04746573741149c2adbcebe2c2713cdffb73e91bd57ed8834726d517b56e3846b9fdc8812508b20d0bc7e1bbc8fab56798314a14"
)
"""`{"KEY":"of-before"}` of the project `shop`, as the first layout sealed it, under SECRET_KEYS."""


async def as_before(database: Database) -> None:
    """The project `shop` as it was before there were data keys."""
    await database.fetch_all(
        "update projects set secrets = %(sealed)s, secret_versions = '{}' where id = 'shop' returning id",
        {"sealed": OF_BEFORE},
    )
    await database.fetch_all("delete from data_keys returning project_id")


async def sealed_by_the_ring(database: Database, ring: Sealer, number: int) -> int:
    """So many answers to repeated requests."""
    async with await psycopg.AsyncConnection.connect(database.url) as connection, connection.cursor() as cursor:
        await cursor.executemany(
            "insert into idempotency (scope, route, key, fingerprint, answer) values ('', 'old', %s, '', %s)",
            [(str(one), ring.seal(b"{}", f"answer  old {one}")) for one in range(number)],
        )
    return number


async def column(database: Database, table: str) -> list[Any]:
    return [bytes(row["secrets"]) for row in await database.fetch_all(f"select secrets from {table} order by id")]


@pytest.mark.usefixtures("shop")
async def test_what_was_sealed_before_is_read_used_and_sealed_anew(
    database: Database, projects: ProjectStore, deployments: DeploymentStore, progress: ProgressStore, sealer: Sealer
) -> None:
    await as_before(database)
    shop = await projects.get_project("shop")
    assert shop.configuration["secrets"] == {"KEY": "***"}
    assert await database.fetch_all("select project_id from data_keys") == []
    await trigger(deployments)
    named = await WebhookStore(database, sealer).project("shop")
    assert named is not None
    assert named.secrets == {"KEY": "of-before"}
    assert await SecretKeyStore(database, Sealer(SECRET_KEYS)).reseal() == 1
    assert await projects.get_project("shop") == shop
    for table in ("projects", "deployments"):
        assert [sealed[0] for sealed in await column(database, table)] == [0]
    await change(projects, OTHER="new")
    request = await progress.build_request((await trigger(deployments)).id, timedelta())
    assert request.secrets == {"KEY": "of-before", "OTHER": "new"}
    now = await projects.get_project("shop")
    assert {name: one.version for name, one in now.secret_versions.items()} == {"KEY": 1, "OTHER": 1}


@pytest.mark.usefixtures("shop")
async def test_what_was_moved_or_altered_is_refused(database: Database, projects: ProjectStore) -> None:
    asked = {"id": "other", "provider": "internal", "configuration": {"secrets": {"KEY": "value"}}}
    await projects.create_project(CreateProjectRequest.model_validate(asked), "ada")
    [other, own] = await column(database, "projects")
    ring = Sealer(SECRET_KEYS)
    async with database.transaction() as connection:
        sealer = await data_keys.opening(connection, ring, "shop")
    assert sealer.open(own, "project shop")
    altered = [own[:place] + bytes([own[place] ^ 1]) + own[place + 1 :] for place in range(len(own))]
    for sealed, purpose in (
        (other, "project shop"),
        (other, "project other"),
        (own, "project other"),
        (own, "environment shop"),
        *((one, "project shop") for one in altered),
        *((own[:length], "project shop") for length in range(1, len(own))),
    ):
        with pytest.raises(CannotOpen):
            sealer.open(sealed, purpose)


@pytest.mark.usefixtures("shop")
async def test_a_data_key_is_of_its_project_and_is_not_to_be_changed_for_another(database: Database) -> None:
    async with database.transaction() as connection:
        await data_keys.sealing(connection, Sealer(SECRET_KEYS), "shop")
    [row] = await database.fetch_all("select sealed from data_keys")
    ring = Sealer(SECRET_KEYS)
    assert len(ring.open(row["sealed"], "data key shop")) == 32
    with pytest.raises(CannotOpen):
        ring.open(row["sealed"], "data key other")


@pytest.mark.usefixtures("shop")
async def test_many_who_need_the_first_key_at_once_get_the_same(
    database: Database, projects: ProjectStore, progress: ProgressStore
) -> None:
    await as_before(database)
    processes = [
        (ProjectStore(database, ring), DeploymentStore(database, ring, TriggerLimiter(database, 100)))
        for ring in (Sealer(SECRET_KEYS) for _ in range(5))
    ]
    made, _ = await asyncio.gather(
        asyncio.gather(*(trigger(store) for _, store in processes)),
        asyncio.gather(*(change(store, **{f"S{number}": "x"}) for number, (store, _) in enumerate(processes))),
    )
    [row] = await database.fetch_all("select count(*) as number from data_keys")
    assert row["number"] == 1
    assert (await projects.get_project("shop")).secret_versions.keys() == {"KEY", "S0", "S1", "S2", "S3", "S4"}
    for one in made:
        assert (await progress.build_request(one.id, timedelta())).secrets["KEY"] == "of-before"


@pytest.mark.usefixtures("shop")
async def test_a_key_that_was_rolled_back_is_not_remembered(database: Database) -> None:
    await as_before(database)
    ring = Sealer(SECRET_KEYS)
    async with database.transaction() as connection:
        for _ in range(2):
            lost = await data_keys.sealing(connection, ring, "shop")
        raise Rollback
    async with database.transaction() as connection:
        sealed = (await data_keys.sealing(connection, ring, "shop")).seal(b"x", "here")
    with pytest.raises(CannotOpen):
        lost.open(sealed, "here")
    async with database.transaction() as connection:
        assert (await data_keys.opening(connection, Sealer(SECRET_KEYS), "shop")).open(sealed, "here") == b"x"


def test_what_is_remembered_is_bounded() -> None:
    ring = Sealer(SECRET_KEYS)
    for number in range(1001):
        ring.remember(str(number), AESGCM(bytes(32)))
    assert [number for number in range(1001) if ring.remembered(str(number)) is None] == [0]
